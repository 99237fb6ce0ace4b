"""The experiments of LoRA-Whisper at full size, as recipes.

    python -m adapter_hub.trainers.full_size_recipes      # writes all of them
    recipes()["e8-da"]       # TOML; committed as recipes/lora-whisper/e8-da.toml

Where the paper (arXiv 2406.06619) says something, it is followed: whisper-small, MLS and FLEURS (table 1),
rank 32 on every linear of every layer (tables 2 and 3), AdamW with peak rate 1e-4, 10 epochs, 5 hours a
language of replay, the seeds of table 5. Where it is silent, the recipe's comment says what was chosen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import click

from adapter_hub.files.writing import write_atomically

FOLDER = Path(__file__).parent / "recipes" / "lora-whisper"
WHISPER = ("openai/whisper-small", "973afd24965f72e36ca33b3055d56a652f456b4d")
NAMESPACE = "lora-whisper"
REPLAY_HOURS = 5
RANK = 32
RANKS = (8, 16, 32, 48, 64)  # table 2, on Polish
NEAREST = {"da": "pt", "el": "pt", "cy": "pl", "ja": "zh"}  # table 5


@dataclass(frozen=True)
class Speech:
    """A language's data on the Hub: data set, commit, configuration, splits to train on and to watch."""

    name: str
    dataset: str
    revision: str
    config: str
    dev: str
    text_column: str


def _mls(name: str) -> Speech:
    commit = "2e83e61823b4c47dcbcb1980bb88601274127609"
    dataset = "facebook/multilingual_librispeech"
    return Speech(name, dataset, commit, name.lower(), "dev", "transcript")


def _fleurs(name: str, config: str) -> Speech:
    commit = "70bb2e84b976b7e960aa89f1c648e09c59f894dd"
    return Speech(name, "google/fleurs", commit, config, "validation", "transcription")


BASE = {
    "pl": _mls("Polish"),
    "pt": _mls("Portuguese"),
    "it": _mls("Italian"),
    "zh": _fleurs("Chinese", "cmn_hans_cn"),
}
NEW = {
    "da": _fleurs("Danish", "da_dk"),
    "el": _fleurs("Greek", "el_gr"),
    "cy": _fleurs("Welsh", "cy_gb"),
    "ja": _fleurs("Japanese", "ja_jp"),
}
SPEECH = BASE | NEW

TRAINING = """\
[training]
epochs = 10
batch_size = 16               # of a step, which processes share; the paper does not tell
precision = "bfloat16"        # needs a GPU that knows it; "float32" elsewhere
peak_learning_rate = 1e-4
warmup_share = 0.1            # the paper does not tell
audio_length = "chunk"        # 30 s, as Whisper was trained
spec_augment = false
random_seed = 1
"""

HEAD = """\
# LoRA-Whisper (arXiv 2406.06619), {what}
# Written by `python -m adapter_hub.trainers.full_size_recipes`. The commits are those that public code
# names; this project has neither looked them up on the Hub nor trained at this size yet.
{notes}
[adapter]
name = "{namespace}/{name}"
version = "1.0.0"
method = "{method}"
{language}license = "CC-BY-4.0"         # as the data: MLS and FLEURS are CC BY 4.0
authors = ["the adapter-hub authors"]

"""


def recipes() -> dict[str, str]:
    """Return the text of every recipe by its file's name without `.toml`."""
    found = {"e2": _full("e2-base", "E2: full fine-tuning on the base languages together (table 3)", BASE)}
    for language in BASE:
        name = SPEECH[language].name
        found[f"e3-{language}"] = _full(
            f"e3-{language}", f"E3: full fine-tuning on {name} (table 3)", [language]
        )
        found[f"e4-{language}"] = _lora(language, language, f"E4: a LoRA for {name} (table 3)")
    for rank in RANKS:
        what = f"table 2: rank {rank} on Polish"
        found[f"rank-{rank:02d}"] = _lora(f"pl-rank-{rank}", "pl", what, rank=rank)
    found["e5"] = _full("e5-new", "E5: E2 fine-tuned on the new languages (table 4)", NEW, start="e2")
    found["e6"] = _full(
        "e6-new",
        f"E6: E2 fine-tuned on the new languages and {REPLAY_HOURS} hours of each base language (table 4)",
        NEW,
        replay=BASE,
        start="e2",
    )
    for language, nearest in NEAREST.items():
        name, near = SPEECH[language].name, SPEECH[nearest].name
        found[f"e7-{language}"] = _lora(
            f"{language}-scratch", language, f"E7: a LoRA for {name} from scratch (table 4)"
        )
        found[f"e8-{language}"] = _lora(
            language,
            language,
            f"E8: a LoRA for {name}, warm start from {near} (tables 4 and 5)",
            seed=nearest,
        )
        found[f"e9-{language}"] = _pair(language, nearest, f"E9: {name} beside {near} (table 4)")
        for other in BASE:
            if other != nearest:  # that one is E8
                what = f"table 5: a LoRA for {name}, warm start from {SPEECH[other].name}"
                found[f"init-{language}-{other}"] = _lora(
                    f"{language}-from-{other}", language, what, seed=other
                )
    return found


def _head(name: str, method: str, what: str, language: str | None = None, notes: str = "") -> str:
    line = "" if language is None else f'language = "{language}"\n'
    return HEAD.format(what=what, notes=notes, namespace=NAMESPACE, name=name, method=method, language=line)


def _base_model(start: str | None) -> str:
    if start is not None:
        return f'[base_model]\nid = "./out/{start}"             # what training {start}.toml wrote\n\n'
    return f'[base_model]\nid = "{WHISPER[0]}"\nrevision = "{WHISPER[1]}"\n\n'


def _source(table: str, language: str, split: str, hours: int | None = None) -> str:
    speech = SPEECH[language]
    limit = "" if hours is None else f"hours = {hours}\n"
    return f"""\
[[data.{table}]]
dataset = "{speech.dataset}"
config = "{speech.config}"
split = "{split}"
revision = "{speech.revision}"
text_column = "{speech.text_column}"
language = "{language}"
license = "CC-BY-4.0"
{limit}
"""


def _lora_table(rank: int) -> str:
    return f"""\
[lora]
rank = {rank}
alpha = {2 * rank}                    # the paper does not tell
modules = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
dtype = "float16"             # of the published weights

"""


def _one_language(language: str) -> str:
    return _source("train", language, "train") + _source("dev", language, SPEECH[language].dev)


def _lora(name: str, language: str, what: str, *, rank: int = RANK, seed: str | None = None) -> str:
    method, parent, notes = "lora", "", ""
    if seed is not None:
        method, parent = "warm-start", _parent("seed", seed)
        notes = f"# First train and publish e4-{seed}.toml, the seed.\n"
    return (
        _head(name, method, what, language, notes)
        + _base_model(None)
        + parent
        + _one_language(language)
        + _lora_table(rank)
        + TRAINING
    )


def _pair(language: str, nearest: str, what: str) -> str:
    notes = (
        f"# First train and publish e4-{nearest}.toml, the frozen expert. The paper defines neither gate\n"
        "# nor start of the child; here a softmax of every token over the two, and a copy of the expert.\n"
    )
    return (
        _head(f"{language}-pair", "expert-pair", f"{what}: an expert pair", language, notes)
        + _base_model(None)
        + _parent("expert", nearest)
        + '[seed]\nadapter = "expert"\n\n[gate]\nkind = "token"\n\n'
        + _one_language(language)
        + _lora_table(RANK)
        + TRAINING
    )


def _parent(role: str, language: str) -> str:
    return f"""\
[{role}]
adapter = "{NAMESPACE}/{language}@1.0.0"
among = ["pl", "pt", "it", "zh"]    # measured, too, and written into the manifest (equation 4)
segments = 200                # the paper does not tell

"""


def _full(
    name: str, what: str, languages: Iterable[str], *, replay: Iterable[str] = (), start: str | None = None
) -> str:
    notes = (
        "# A baseline: its outcome is a Whisper folder, no adapter. The paper gives a rate for LoRA alone.\n"
    )
    if start is not None:
        notes += f"# First train {start}.toml with --out out/{start} beside this file.\n"
    sources = [_source("train", language, "train") for language in languages]
    sources += [_source("train", language, "train", REPLAY_HOURS) for language in replay]
    sources += [_source("dev", language, SPEECH[language].dev) for language in languages]
    return (
        _head(f"full-{name}", "full-fine-tuning", what, notes=notes)
        + _base_model(start)
        + "".join(sources)
        + TRAINING
    )


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=FOLDER, help="Folder to write to.")
def main(out: Path) -> None:
    """Write the recipes of the paper's experiments at full size."""
    for name, text in recipes().items():
        write_atomically(out / f"{name}.toml", text.encode())


if __name__ == "__main__":
    main()
