"""Whisper folders as people have them: what tokenizer and shape tell is filled in, the rest is one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from base_model_edits import edit
from command_line import Run
from small_whisper import speech, write_speech
from transformers import WhisperConfig, WhisperForConditionalGeneration

from adapter_hub.base_model.digest import base_model_digest
from adapter_hub.base_model.filling import filled
from adapter_hub.base_model.settings import read_settings
from adapter_hub.base_model.tokenizer import AddedToken, TokenSettings
from adapter_hub.decoding.decode import decode
from adapter_hub.decoding.options import DecodingOptions
from adapter_hub.errors import AdapterHubError
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.model.session import Session
from adapter_hub.speech.audio import Audio
from adapter_hub.speech.features import log_mel

GENERATION, CONFIG, TOKENIZER = "generation_config.json", "config.json", "tokenizer.json"
Change = Callable[[Path], None]


def in_file(name: str, change: Callable[[dict[str, Any]], Any]) -> Change:
    def apply(folder: Path) -> None:
        edit(folder, name, change)

    return apply


def without(*names: str) -> Change:
    return in_file(GENERATION, lambda tree: [tree.pop(name) for name in names])


def gone(*names: str) -> Change:
    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


def renamed(name: str, other: str) -> Change:
    def rename(folder: Path) -> None:
        (folder / other).parent.mkdir(exist_ok=True)
        (folder / name).rename(folder / other)

    return rename


def together(*changes: Change) -> Change:
    def apply(folder: Path) -> None:
        for change in changes:
            change(folder)

    return apply


def of_two_files(folder: Path) -> None:
    """Write the tokenizer as slow tokenizers were saved: vocabulary, merges, and tokens beside them."""
    tokenizer = json.loads((folder / TOKENIZER).read_text())
    model, added = tokenizer["model"], tokenizer["added_tokens"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    pairs = "\n".join(" ".join(pair) for pair in model["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{pairs}\n")
    (folder / "added_tokens.json").write_text(json.dumps({item["content"]: item["id"] for item in added}))
    special = [item["content"] for item in added if item["special"]]
    (folder / "special_tokens_map.json").write_text(json.dumps({"additional_special_tokens": special}))
    (folder / TOKENIZER).unlink()


# one digest with the whole folder: the same model, to which the same adapters belong
SAME: dict[str, Change] = {
    "no start": without("decoder_start_token_id"),
    "no end": without("eos_token_id"),
    "no end in config.json": in_file(CONFIG, lambda tree: tree.pop("eos_token_id")),
    "the end as a list": in_file(GENERATION, lambda tree: tree.update(eos_token_id=[tree["eos_token_id"]])),
    "the end beside a special token": in_file(
        GENERATION,
        lambda tree: tree.update(eos_token_id=[tree["decoder_start_token_id"], tree["eos_token_id"]]),
    ),
    "the end as a list in config.json": in_file(
        CONFIG, lambda tree: tree.update(eos_token_id=[tree["eos_token_id"]])
    ),
    "no token without timestamps": without("no_timestamps_token_id"),
    "no tasks": without("task_to_id"),
    "no tasks, nor anything else by name": in_file(
        GENERATION, lambda tree: [tree.pop(name) for name in ("task_to_id", "no_timestamps_token_id")]
    ),
    "empty tasks": in_file(GENERATION, lambda tree: tree.update(task_to_id={})),
    "no processor": gone("processor_config.json"),
    "features of another key": in_file(
        "processor_config.json", lambda tree: tree.update(feature_extractor={"feature_size": 80})
    ),
    "two files for the tokenizer": of_two_files,
}


@pytest.mark.parametrize("case", SAME)
def test_what_tokenizer_and_shape_determine_need_not_be_said(
    case: str, base_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(base_folder, tmp_path / "model"))
    SAME[case](folder)
    assert base_model_digest(folder) == base_model_digest(base_folder)
    assert load_base_model(folder, cache=tmp_path / "cache").decode_languages == (
        "da",
        "en",
        "ja",
        "pl",
        "zh",
    )


def old_fine_tune(folder: Path) -> None:
    """Write the settings as transformers made them of config.json, before Whisper had its own."""
    config = json.loads((folder / CONFIG).read_text())
    ids = ("bos_token_id", "decoder_start_token_id", "eos_token_id", "pad_token_id")
    settings = {name: config[name] for name in ids} | {"_from_model_config": True, "max_length": 448}
    (folder / GENERATION).write_text(json.dumps(settings | {"forced_decoder_ids": [[1, None], [2, 50359]]}))


# these answer, too, under a digest of their own: what is not determined differs from the whole folder
OTHERWISE: dict[str, Change] = {
    "no generation settings": gone(GENERATION),
    "settings made of config.json": old_fine_tune,
    "no languages": without("lang_to_id"),
    "no token for the text before": without("prev_sot_token_id"),
    "alignment heads of a teacher": in_file(
        GENERATION, lambda tree: tree.update(alignment_heads=[[0, 1], [25, 6]])
    ),
    "heads of a wider teacher": in_file(GENERATION, lambda tree: tree.update(alignment_heads=[[1, 19]])),
    "everything at once": together(gone(GENERATION, "processor_config.json"), of_two_files),
}


@pytest.mark.parametrize("case", OTHERWISE)
def test_what_is_not_said_is_taken_from_tokenizer_and_shape(
    case: str, base_folder: Path, tmp_path: Path, run: Run
) -> None:
    folder = Path(shutil.copytree(base_folder, tmp_path / "model"))
    OTHERWISE[case](folder)
    whole, other = read_settings(base_folder), read_settings(folder)
    assert other.config == whole.config
    assert other.features == whole.features
    assert other.tokens == whole.tokens
    determined = ("decoder_start_token_id", "eos_token_id", "no_timestamps_token_id", "task_to_id")
    assert {name: other.generation[name] for name in determined} == {
        name: whole.generation[name] for name in determined
    }
    assert other.generation["lang_to_id"].items() >= whole.generation["lang_to_id"].items()
    write_speech(tmp_path / "a.wav", seconds=5.0)  # two windows: the second is told the text before it
    words = ("--language", "da", "--words", "--previous-text", "--timestamps")
    answer = run("transcribe", "base-model", tmp_path / "a.wav", "--base-model", folder, *words)
    assert (answer.code, answer.err.count("error:")) == (0, 0)


def test_settings_of_config_json_count_where_there_are_no_others(base_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base_folder, tmp_path / "model"))
    gone(GENERATION)(folder)
    made = read_settings(folder).generation
    assert made["max_length"] == 40
    assert made["max_initial_timestamp_index"] == 50
    assert made["begin_suppress_tokens"] == [made["eos_token_id"]]  # a text of characters begins with a space
    steering = read_settings(base_folder).generation["decoder_start_token_id"]
    assert steering in made["suppress_tokens"]
    edit(folder, CONFIG, lambda tree: tree.update(suppress_tokens=[], begin_suppress_tokens=[3]))
    made = read_settings(folder).generation
    assert "suppress_tokens" not in made
    assert made["begin_suppress_tokens"] == [3]


@pytest.mark.parametrize("end", [50256, 50257])
def test_a_tokenizer_with_gpt2s_own_end_is_that_of_an_english_only_model(end: int) -> None:
    texts = (
        "<|endoftext|>",
        "<|startoftranscript|>",
        "<|en|>",
        "<|haw|>",
        "<|transcribe|>",
        "<|notimestamps|>",
    )
    added = tuple(AddedToken(end + place, text, special=True) for place, text in enumerate(texts))
    made = filled({}, {}, {"max_target_positions": 448}, TokenSettings({}, (), added, {}, False))
    assert made["no_timestamps_token_id"] == end + 5
    if end == 50256:
        assert (made["is_multilingual"], "lang_to_id" in made, "task_to_id" in made) == (False, False, False)
    else:
        assert made["lang_to_id"] == {"<|en|>": end + 2, "<|haw|>": end + 3}
        assert (made["task_to_id"], "is_multilingual" in made) == ({"transcribe": end + 4}, False)


REFUSED: dict[str, tuple[Change, str]] = {
    "two ends": (
        in_file(GENERATION, lambda tree: tree.update(eos_token_id=[tree["eos_token_id"], 7])),
        "expected the one token at which texts end, like ",
    ),
    "no tokenizer": (
        gone(TOKENIZER),
        "WhisperTokenizer as T; T.from_pretrained('namespace/name').save_pretr",
    ),
    "a pickle": (
        renamed("model.safetensors", "pytorch_model.bin"),
        "pytorch_model.bin is a pickle, which is never read here; if you trust it, let transformers write "
        "safetensors: `from transformers import WhisperForConditionalGeneration as M; M.from_pretrained(",
    ),
    "of CTranslate2": (
        renamed("model.safetensors", "model.bin"),
        "model.bin is for CTranslate2 (faster-whisper); take the model that it was made from",
    ),
    "of whisper.cpp": (
        together(gone(CONFIG), renamed("model.safetensors", "ggml-base.bin")),
        "no config.json; ggml-base.bin is for whisper.cpp",
    ),
    "a folder of checkpoints": (
        renamed(CONFIG, f"checkpoint-9/{CONFIG}"),
        "no config.json, but folders inside it have one: checkpoint-9; name the folder",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_told_is_refused_in_one_line_with_the_lines_that_repair_it(
    case: str, base_folder: Path, tmp_path: Path, run: Run
) -> None:
    folder = Path(shutil.copytree(base_folder, tmp_path / "model"))
    change, said = REFUSED[case]
    change(folder)
    write_speech(tmp_path / "a.wav")
    answer = run("transcribe", "base-model", tmp_path / "a.wav", "--base-model", folder, "--language", "da")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.count("\n") == answer.err.count("error:") == 1
    assert said in answer.err


def test_the_lines_repair_the_folder(base_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base_folder, tmp_path / "model"))
    (folder / "model.safetensors").unlink()
    state = WhisperForConditionalGeneration.from_pretrained(base_folder).state_dict()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(AdapterHubError, match="is a pickle") as refused:
        load_base_model(folder, cache=tmp_path / "cache")
    exec(str(refused.value).split("`")[1], {})  # as a user would run it
    assert base_model_digest(folder) == base_model_digest(base_folder)


@pytest.mark.parametrize(
    ("mels", "encoder", "decoder"),
    [(128, 3, 3), (128, 4, 1), (80, 3, 1), (128, 3, 2)],
    ids=["large-v3", "turbo", "distilled to one layer", "distil-large-v3"],
)
@pytest.mark.parametrize("timestamps", [False, True])
def test_greedy_decoding_of_any_shape_is_that_of_generate(
    mels: int, encoder: int, decoder: int, timestamps: bool, base_folder: Path, tmp_path: Path
) -> None:
    folder = reshaped(base_folder, tmp_path / "model", mels, encoder, decoder)
    base = load_base_model(folder, device="cpu", cache=tmp_path / "cache")
    session = Session(base)
    clips = [Audio(speech(seconds, seed), 16_000, "") for seed, seconds in enumerate((0.5, 1.7, 2.9, 4.0))]
    features = torch.from_numpy(log_mel(base.processor.feature_extractor, clips))
    options = DecodingOptions(beams=1, timestamps=timestamps)
    found = decode(session, features, rows=[None] * 4, languages=["da"] * 4, options=options)
    config = base.model.generation_config
    never = list(config.suppress_tokens)
    if not timestamps:  # `generate` lets them come, even where none are asked for
        never += range(config.no_timestamps_token_id + 1, base.model.config.vocab_size)
    theirs = base.model.generate(
        features,
        language="da",
        task="transcribe",
        return_timestamps=timestamps,
        force_unique_generate_call=True,  # otherwise what follows the last timestamp is decoded again
        suppress_tokens=never,
    )
    for row, text in enumerate(found):
        assert [*text.tokens] == spoken(base, theirs[row].tolist()), row


def spoken(base: BaseModel, tokens: list[int]) -> list[int]:
    """Return what `generate` found, without prompt, end and padding."""
    config = base.model.generation_config
    steering = {config.decoder_start_token_id, config.eos_token_id, config.no_timestamps_token_id}
    steering |= {*config.lang_to_id.values(), *config.task_to_id.values()}
    return [token for token in tokens if token not in steering]


def reshaped(source: Path, target: Path, mels: int, encoder: int, decoder: int) -> Path:
    """Write a model of another shape with random weights, as a fine-tune keeps it: without a processor."""
    config = WhisperConfig.from_pretrained(source)
    config.num_mel_bins, config.encoder_layers, config.decoder_layers = mels, encoder, decoder
    config.num_hidden_layers = encoder  # the same under its other name, which transformers 5.0 keeps apart
    torch.manual_seed(mels + encoder + decoder)
    model = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "embed" not in name:
                parameter.mul_(4.0)
    model.save_pretrained(target)
    for name in (GENERATION, TOKENIZER, "tokenizer_config.json"):
        shutil.copy(source / name, target / name)
    return target
