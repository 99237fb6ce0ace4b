"""Changes to a base model's folder, as somebody with an editor would make them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

Edit = Callable[[Any], Any]


def edit(folder: Path, name: str, change: Edit) -> Path:
    """Change a JSON file as somebody with an editor would."""
    path = folder / name
    value = json.loads(path.read_bytes()) if path.exists() else {}
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")
    return folder


def put(**values: Any) -> Edit:
    return lambda tree: tree.update(values)


def drop(name: str) -> Edit:
    return lambda tree: tree.pop(name)


def swap(table: str, one: str, other: str) -> Edit:
    def change(tree: Any) -> None:
        values = tree[table]
        values[one], values[other] = values[other], values[one]

    return change


def features(**values: Any) -> Edit:
    return lambda tree: tree["feature_extractor"].update(values)


GENERATION, CONFIG, PROCESSOR = "generation_config.json", "config.json", "processor_config.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
# every one can answer otherwise
OTHERS: dict[str, tuple[str, Edit]] = {
    "suppressed tokens": (GENERATION, lambda tree: tree["suppress_tokens"].append(5)),
    "no suppressed tokens": (GENERATION, drop("suppress_tokens")),
    "tokens suppressed first": (GENERATION, put(begin_suppress_tokens=[336, 7])),
    "swapped tasks": (GENERATION, swap("task_to_id", "transcribe", "translate")),
    "swapped languages": (GENERATION, swap("lang_to_id", "<|da|>", "<|pl|>")),
    "the start": (GENERATION, put(decoder_start_token_id=338)),
    "the end": (GENERATION, put(eos_token_id=7)),
    "padding": (GENERATION, put(pad_token_id=7)),
    "the token without timestamps": (GENERATION, put(no_timestamps_token_id=400)),
    "the token of what was before": (GENERATION, put(prev_sot_token_id=400)),
    "the length": (GENERATION, put(max_length=7)),
    "another length": (GENERATION, put(max_new_tokens=7)),
    "the first timestamp": (GENERATION, put(max_initial_timestamp_index=3)),
    "heads of the alignment": (GENERATION, lambda tree: tree["alignment_heads"].pop()),
    "forced tokens": (GENERATION, put(forced_decoder_ids=[[1, 340]])),
    "beams of generate": (GENERATION, put(num_beams=4)),
    "drawn tokens": (GENERATION, put(do_sample=True)),
    "a penalty": (GENERATION, put(repetition_penalty=1.5)),
    "a setting of later programs": (GENERATION, put(some_new_penalty=0.5)),
    "English alone": (GENERATION, put(is_multilingual=False)),
    "the activation": (CONFIG, put(activation_function="relu")),
    "the scale": (CONFIG, put(scale_embedding=True)),
    "heads": (CONFIG, put(encoder_attention_heads=2)),
    "the end of the model": (CONFIG, put(eos_token_id=7)),
    "the median filter": (CONFIG, put(median_filter_width=9)),
    "dither": (PROCESSOR, features(dither=0.1)),
    "the transform": (PROCESSOR, features(n_fft=512)),
    "the padding of audio": (PROCESSOR, features(padding_value=0.5)),
    "its side": (PROCESSOR, features(padding_side="left")),
    "pieces": (TOKENIZER, lambda tree: swap("vocab", "e", "i")(tree["model"])),
    "what a token says": (TOKENIZER, lambda tree: tree["added_tokens"][-1].update(content="xx")),
    "a special token": (TOKENIZER, lambda tree: tree["added_tokens"][-1].update(special=True)),
    "pieces made special": (TOKENIZER_CONFIG, put(extra_special_tokens=["i", "e", "t"])),
    "by their older name": (
        TOKENIZER_CONFIG,
        put(extra_special_tokens=None, additional_special_tokens=["i", "e", "t"]),
    ),
    "as a table": (TOKENIZER_CONFIG, put(extra_special_tokens={"own": "e"})),
    "as the token of something": (TOKENIZER_CONFIG, put(evil_token="e")),
    "as the token of nothing known": (TOKENIZER_CONFIG, put(mask_token="e")),
    "tokens for those of the vocabulary": (
        TOKENIZER_CONFIG,
        put(added_tokens_decoder={"336": {"content": "<|endoftext|>", "special": True}}),
    ),
    "a prefix": (TOKENIZER_CONFIG, put(add_prefix_space=True)),
    "special by the older file": ("special_tokens_map.json", put(pad_token="e")),
    "added by the oldest file": ("added_tokens.json", put(sometoken=845)),
    "features of the other file": (PROCESSOR, put(feature_extractor={"chunk_length": 8, "dither": 1.0})),
}


def with_output_matrix(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["proj_out.weight"] = tensors["model.decoder.embed_tokens.weight"].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


# every one asks for other weights than the folder has
MISFITS: dict[str, tuple[str, Edit]] = {
    "layers": (CONFIG, put(encoder_layers=3)),
    "layers by their other name": (
        CONFIG,
        lambda t: (t.pop("encoder_layers"), t.update(num_hidden_layers=3)),
    ),
    "the room for text": (CONFIG, put(max_target_positions=200)),
}
