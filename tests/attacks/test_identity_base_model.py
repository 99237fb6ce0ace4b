"""A base model's digest covers all that decides the text; another spelling of the same keeps it."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from base_model_edits import (
    CONFIG,
    GENERATION,
    OTHERS,
    PROCESSOR,
    TOKENIZER,
    TOKENIZER_CONFIG,
    Edit,
    drop,
    edit,
    features,
    put,
    with_output_matrix,
)
from command_line import Run
from safetensors.torch import load_file, save_file

from adapter_hub import embedded
from adapter_hub.base_model.digest import base_model_digest, stamped_digest
from adapter_hub.errors import IntegrityError, InvalidInputError
from adapter_hub.model.base_model import load_base_model

DIGEST = base_model_digest(embedded.base_model_path())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the embedded base model."""
    return shutil.copytree(embedded.base_model_path(), tmp_path / "base")


@pytest.mark.parametrize("what", OTHERS)
def test_what_can_answer_otherwise_has_another_digest(what: str, folder: Path) -> None:
    name, change = OTHERS[what]
    before = (folder / name).read_bytes() if (folder / name).exists() else b""
    edit(folder, name, change)
    assert (folder / name).read_bytes() != before
    assert base_model_digest(folder) != DIGEST


def to_preprocessor(folder: Path) -> None:
    tree = json.loads((folder / PROCESSOR).read_bytes())
    (folder / PROCESSOR).unlink()
    (folder / "preprocessor_config.json").write_text(json.dumps(tree["feature_extractor"]))


def to_older_tokenizer(folder: Path) -> None:
    """As transformers 4 wrote it: every added token once more in tokenizer_config.json."""
    tree = json.loads((folder / TOKENIZER).read_bytes())
    table = {str(item["id"]): {k: v for k, v in item.items() if k != "id"} for item in tree["added_tokens"]}
    special = [item["content"] for item in tree["added_tokens"] if item["special"]]
    edit(folder, TOKENIZER_CONFIG, put(added_tokens_decoder=table, additional_special_tokens=special))
    names = {"bos_token": {"content": "<|endoftext|>", "lstrip": False}, "additional_special_tokens": special}
    (folder / "special_tokens_map.json").write_text(json.dumps(names))


def merges_as_text(folder: Path) -> None:
    def join(tree: Any) -> None:
        tree["model"]["merges"] = [" ".join(pair) for pair in tree["model"]["merges"]]

    edit(folder, TOKENIZER, join)


def edited(name: str, change: Edit) -> Callable[[Path], Any]:
    return lambda folder: edit(folder, name, change)


def shuffled(tree: Any) -> None:
    tree["suppress_tokens"] = [*reversed(tree["suppress_tokens"]), tree["suppress_tokens"][0]]
    tree["lang_to_id"] = dict(reversed(tree["lang_to_id"].items()))
    tree["alignment_heads"].reverse()


SPELLINGS: dict[str, Callable[[Path], Any]] = {
    "defaults written out": edited(GENERATION, put(num_beams=1, do_sample=False, temperature=1.0, top_k=50)),
    "a default left out": edited(GENERATION, drop("is_multilingual")),
    "nulls": edited(GENERATION, put(forced_decoder_ids=None, bad_words_ids=None)),
    "the version of a program": edited(GENERATION, put(transformers_version="9.9.9", use_cache=False)),
    "another order": edited(GENERATION, shuffled),
    "another precision named": edited(CONFIG, put(torch_dtype="float32", _name_or_path="somewhere")),
    "dropout of training": edited(CONFIG, put(dropout=0.3, mask_time_prob=0.9, apply_spec_augment=True)),
    "a second name": edited(CONFIG, put(hidden_size=128, num_hidden_layers=4)),
    "a default shape left out": edited(CONFIG, drop("median_filter_width")),
    "features in the older file": to_preprocessor,
    "features with what follows from them": edited(PROCESSOR, features(n_samples=1, nb_max_frames=2)),
    "features by default": edited(PROCESSOR, lambda tree: tree["feature_extractor"].pop("dither")),
    "the tokenizer of an older program": to_older_tokenizer,
    "merges as text": merges_as_text,
    "another decoder, which is not used": edited(TOKENIZER, put(decoder={"type": "Fuse"})),
    "the output matrix stored too": with_output_matrix,
    "names as objects": edited(
        TOKENIZER_CONFIG, put(eos_token={"content": "<|endoftext|>", "special": True})
    ),
    "a template of chats": edited(TOKENIZER_CONFIG, put(chat_template="{{ 7 }}")),
}


@pytest.mark.parametrize("what", SPELLINGS)
def test_another_spelling_of_the_same_has_the_same_digest(what: str, folder: Path) -> None:
    SPELLINGS[what](folder)
    assert base_model_digest(folder) == DIGEST


IMPOSSIBLE: dict[str, tuple[str, Edit, str]] = {
    "suppressed beyond": (GENERATION, put(suppress_tokens=[845]), "suppress_tokens is 845; .* 0 to 844"),
    "suppressed below": (GENERATION, put(begin_suppress_tokens=[-1]), "begin_suppress_tokens is -1"),
    "no list": (GENERATION, put(suppress_tokens="all"), "suppress_tokens is all; expected a list"),
    "an end of two": (GENERATION, put(eos_token_id=[336, 7]), "eos_token_id is .*; expected the one token"),
    "a language beyond": (
        GENERATION,
        put(lang_to_id={"<|da|>": 10**9}),
        r"lang_to_id\.<\|da\|> is 1000000000",
    ),
    "a length below": (GENERATION, put(max_length=-1), "max_length is -1"),
    "a length of text": (GENERATION, put(max_length="9"), "max_length is 9"),
    "true as a number": (GENERATION, put(max_length=True), "max_length is True"),
    "a head below": (GENERATION, put(alignment_heads=[[-1, 0]]), "alignment_heads is -1; .* from 0"),
    "a head of one": (GENERATION, put(alignment_heads=[[2]]), r"expected \[\[layer, head\]"),
    "a wide model": (CONFIG, put(d_model=10**9), "d_model is 1000000000"),
    "a model of text": (CONFIG, put(encoder_layers="four"), "encoder_layers is four"),
    "two layers": (CONFIG, put(num_hidden_layers=2), "num_hidden_layers is 2 and encoder_layers 4"),
    "an end beyond": (CONFIG, put(eos_token_id=845), "eos_token_id is 845"),
    "a quantized one": (CONFIG, put(quantization_config={"quant_method": "x"}), "a quantized model"),
    "another hop": (
        PROCESSOR,
        features(hop_length=200, n_fft=401),
        "hop_length is 640, but the model takes 800",
    ),
    "a long chunk": (PROCESSOR, features(chunk_length=10**7), "hop_length is 1000000000, but"),
    "another rate": (
        PROCESSOR,
        features(sampling_rate=8000),
        "sampling_rate is 8000, but the model takes 16000",
    ),
    "other mels": (PROCESSOR, features(feature_size=128), "feature_size is 128, but the model takes 80"),
    "dither of text": (PROCESSOR, features(dither="much"), "dither is much; expected a number"),
    "a list of features": (
        PROCESSOR,
        put(feature_extractor=[]),
        r"feature_extractor is \[\]; expected an obj",
    ),
    "two pieces of one id": (TOKENIZER, lambda t: t["model"]["vocab"].update(zz=3), "two pieces .* one id"),
    "words for pieces": (TOKENIZER, lambda t: t["model"].update(type="WordLevel"), "expected BPE"),
    "merges of one": (TOKENIZER, lambda t: t["model"].update(merges=["abc"]), "tokenizer's files are not"),
    "an id of text": (
        TOKENIZER,
        lambda t: t["model"]["vocab"].update(zz="3"),
        "where a token's id is expected",
    ),
    "a token of nothing": (TOKENIZER, lambda t: t["added_tokens"].append({}), "tokenizer's files are not"),
    "tokens of text": (TOKENIZER_CONFIG, put(added_tokens_decoder="x"), "tokenizer's files are not"),
    "special numbers": (TOKENIZER_CONFIG, put(extra_special_tokens=[7]), "where a text is expected"),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_a_value_that_cannot_be_is_refused_in_one_line(what: str, folder: Path) -> None:
    name, change, message = IMPOSSIBLE[what]
    edit(folder, name, change)
    with pytest.raises(InvalidInputError, match=message) as caught:
        base_model_digest(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_base_model_with_an_impossible_value_is_one_line_for_the_user(folder: Path, run: Run) -> None:
    edit(folder, GENERATION, put(suppress_tokens=[99999]))
    clip = Path(__file__).parents[1] / "clips" / "da.flac"
    done = run("transcribe", "base-model", "--base-model", folder, "--language", "da", clip)
    assert done.code == 1
    assert re.fullmatch(r"error: .*suppress_tokens is 99999; expected .*0 to 844\n", done.err)


def test_an_output_matrix_of_its_own_is_in_the_digest(folder: Path) -> None:
    with_output_matrix(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["proj_out.weight"] = tensors["proj_out.weight"].flip(0).contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert base_model_digest(folder) != DIGEST


def test_a_tensor_that_two_shards_hold_is_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = "model.decoder.layers.0.fc1.weight"
    (folder / "model.safetensors").unlink()
    save_file(tensors, folder / "model-00001-of-00002.safetensors", metadata={"format": "pt"})
    other = {name: -tensors[name]}
    save_file(other, folder / "model-00002-of-00002.safetensors", metadata={"format": "pt"})
    files = dict.fromkeys(tensors, "model-00001-of-00002.safetensors") | {
        name: "model-00002-of-00002.safetensors"
    }
    index = {"metadata": {}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(IntegrityError, match=f"tensor {name} is in two files"):
        base_model_digest(folder)


def test_an_adapter_beside_the_base_model_is_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(InvalidInputError, match="holds adapter_config.json, so transformers would put"):
        load_base_model(folder)


@pytest.mark.parametrize("name", ["model.safetensors", GENERATION, TOKENIZER_CONFIG, PROCESSOR])
def test_a_file_changed_in_place_is_noticed_though_its_time_was_set_back(
    name: str, folder: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    assert stamped_digest(folder, cache) == DIGEST == stamped_digest(folder, cache)
    path = folder / name
    status, raw = path.stat(), bytearray(path.read_bytes())
    if name == "model.safetensors":
        raw[-2:] = bytes(2) if any(raw[-2:]) else b"\1\0"
    else:
        raw = bytearray(raw.replace(b"336", b"335").replace(b'"<|endoftext|>"', b'"<|endoftexx|>"', 1))
        raw = bytearray(raw.replace(b'"dither": 0.0', b'"dither": 9.0'))
    assert raw != path.read_bytes()
    with path.open("r+b") as file:
        file.write(raw)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert stamped_digest(folder, cache) != DIGEST


def test_a_digest_noted_where_others_can_write_is_not_believed(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders cannot be entered by others at all
        cache = Path(name, "cache")
        Path(name).chmod(0o755)
        cache.mkdir(mode=0o700)
        stamped_digest(folder, cache)
        (note,) = (cache / "base_models").iterdir()
        forged = f"sha256:{'0' * 64}"
        note.write_text(json.dumps(forged))
        assert stamped_digest(folder, cache) == forged  # our own notes are
        cache.chmod(0o755)
        (cache / "base_models").chmod(0o777)
        assert stamped_digest(folder, cache) == DIGEST
