"""Four minutes of human recordings beside faster-whisper: with pauses, without, in noise, four languages.

    pip install faster-whisper
    python benchmarks/long_prompts.py --base-model base --data en=en-prompts/test --data fr=fr/test

Clips of a data set one after another, in the order of a seed, with pauses of 1.5 s or of a tenth of one. Both
sides have their defaults and are told the language.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import click
import jiwer
import numpy as np
from pages import page
from peer import faster_whisper_model, heard
from resumed import read_rows, write_rows
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

import adapter_hub
from adapter_hub.speech.audio import SAMPLE_RATE, read_audio
from adapter_hub.speech.normalisers import normalise
from adapter_hub.speech.phrases import audible_span

SECONDS = 240.0
KINDS = {"without pauses": (0.1, 0.0), "with pauses": (1.5, 0.0), "in noise": (0.1, 0.05)}
COMMAND = (
    "OMP_NUM_THREADS=1 python benchmarks/long_prompts.py --base-model base --data en=en-prompts/test "
    "--data fr=fr/test --data ru=ru/test --data es=es/test --kind 'en:with pauses' --kind 'en:in noise'"
)
ABOUT = """
Word error rates of whisper-base on four minutes of human recordings joined to one, beside faster-whisper;
both with their defaults and told the language. Pauses are 1.5 s, or 0.1 s; noise is white, 20 dB below the
speech. English: telephone prompts, whose numbers count the same in words and in digits (Whisper's own
normaliser); the others: descriptions of pictures for children.
"""


def joined(folder: Path, gap: float, noise: float) -> tuple[np.ndarray, str]:
    """Return the samples and the text of clips in a random order, `SECONDS` in all."""
    random = np.random.default_rng(0)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    parts, said, length = [], [], 0
    for place in random.permutation(len(rows)):
        samples = read_audio(folder / rows[place]["file_name"]).samples
        first, last = audible_span(samples)
        parts += [samples[first:last], np.zeros(round(gap * SAMPLE_RATE), np.float32)]
        length += len(parts[-2]) + len(parts[-1])
        said.append(rows[place]["text"])
        if length >= SECONDS * SAMPLE_RATE:
            break
    whole = np.concatenate(parts)
    loud = float(np.std(whole[np.abs(whole) > 0]))
    whole = whole + 2 * noise * loud * random.standard_normal(len(whole))
    return whole.astype(np.float32), " ".join(said)


def rate(said: str, text: str, language: str) -> float:
    """Return the word error rate in per cent; English numbers count the same in words and in digits."""
    spelt = EnglishTextNormalizer({})
    texts = [spelt(item) if language == "en" else item for item in (said, text)]
    wanted, found = (normalise("basic/1", item, language) for item in texts)
    return round(100 * jiwer.wer(wanted, found), 1)


@click.command()
@click.option("--base-model", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--data", multiple=True, required=True, help="LANGUAGE=FOLDER, with metadata.jsonl.")
@click.option("--kind", "kinds", multiple=True, help="LANGUAGE:KIND, beside those without pauses.")
@click.option("--side", "sides", multiple=True, default=("ours", "peer"))
@click.option("--converted", type=click.Path(path_type=Path), default=Path("runs/converted"))
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/long_prompts"))
def main(
    base_model: Path,
    data: tuple[str, ...],
    kinds: tuple[str, ...],
    sides: tuple[str, ...],
    converted: Path,
    out: Path,
) -> None:
    folders = {item.split("=")[0]: Path(item.split("=")[1]) for item in data}
    wanted = [(language, "without pauses") for language in folders]
    wanted += [(item.split(":")[0], item.split(":")[1]) for item in kinds]
    rows = read_rows(out.with_suffix(".json"))
    for language, kind in wanted:
        samples, said = joined(folders[language], *KINDS[kind])
        row = rows.setdefault(f"{language}, {kind}", {"words": len(said.split())})
        row["seconds"] = round(len(samples) / SAMPLE_RATE)
        for side in sides:
            if side in row:
                continue
            if side == "ours":
                ours = adapter_hub.load(
                    "base-model", base_model=str(base_model), language=language, device="cpu"
                )
                text = ours.transcribe(samples)[0].text
            else:
                peer = faster_whisper_model(base_model, converted)
                text = " ".join(text for _, _, text in heard(peer, samples, language))
            row |= {side: rate(said, text, language), f"{side}_text": text, "said": said}
            print(language, kind, side, row[side], flush=True)
            write_rows(out.with_suffix(".json"), rows)
    lines = ["| recording | words | ours, WER % | faster-whisper, WER % |", "|---|--:|--:|--:|"]
    lines += [
        f"| {name} | {row['words']} | {row.get('ours')} | {row.get('peer')} |" for name, row in rows.items()
    ]
    packages = ", ".join(f"{item} {version(item)}" for item in ("faster-whisper", "ctranslate2", "torch"))
    out.with_suffix(".md").write_text(
        page("Four minutes of human recordings", ABOUT, COMMAND, "\n".join(lines), packages)
    )
    print("\n".join(lines))


if __name__ == "__main__":
    main()
