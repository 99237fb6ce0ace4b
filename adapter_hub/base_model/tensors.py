"""Whether the weights of a Whisper are whole: the tensors that its config.json asks for, and no others.

    tensor_problems(found, read_settings(folder).config)      # [] or what is wrong, in a few words

transformers fills what a file lacks with random numbers and passes over what it does not know, so that a
model saved inside another library would transcribe noise without a word of warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adapter_hub.errors import few
from adapter_hub.escaping import shown

Shapes = Mapping[str, tuple[int, ...]]

WEIGHTS = "model.safetensors"  # the file, where there are no shards
TIED = "proj_out.weight"  # most copies leave it out: it is the token embeddings
EMBEDDINGS = "model.decoder.embed_tokens.weight"
# may be there, and mean nothing: marks of the first conversions
MARKS = frozenset({"model.encoder.version", "model.decoder.version"})
ATTENTION = ("k_proj.weight", "q_proj.weight", "v_proj.weight", "out_proj.weight")
ATTENTION_BIASES = ("q_proj.bias", "v_proj.bias", "out_proj.bias")  # keys have none
LANDMARK = "model.encoder.conv1.weight"  # by which a prefix is recognised
MOST_LAYERS = 256  # several times those of the largest Whisper
SHOWN = 3  # tensors named of each kind


def whisper_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return `{tensor: shape}` of a WhisperForConditionalGeneration, without the tied output matrix.

    Args:
        config: effective values of config.json.
    """
    width = config["d_model"]
    found: dict[str, tuple[int, ...]] = {
        "model.encoder.conv1.weight": (width, config["num_mel_bins"], 3),
        "model.encoder.conv1.bias": (width,),
        "model.encoder.conv2.weight": (width, width, 3),
        "model.encoder.conv2.bias": (width,),
        "model.encoder.embed_positions.weight": (config["max_source_positions"], width),
        "model.decoder.embed_positions.weight": (config["max_target_positions"], width),
        EMBEDDINGS: (config["vocab_size"], width),
    }
    for side, attentions in (("encoder", ("self_attn",)), ("decoder", ("self_attn", "encoder_attn"))):
        found |= _norm(f"model.{side}.layer_norm", width)
        for number in range(config[f"{side}_layers"]):
            layer = f"model.{side}.layers.{number}"
            for attention in attentions:
                found |= {f"{layer}.{attention}.{name}": (width, width) for name in ATTENTION}
                found |= {f"{layer}.{attention}.{name}": (width,) for name in ATTENTION_BIASES}
                found |= _norm(f"{layer}.{attention}_layer_norm", width)
            inner = config[f"{side}_ffn_dim"]
            found |= {f"{layer}.fc1.weight": (inner, width), f"{layer}.fc1.bias": (inner,)}
            found |= {f"{layer}.fc2.weight": (width, inner), f"{layer}.fc2.bias": (width,)}
            found |= _norm(f"{layer}.final_layer_norm", width)
    return found


def tensor_problems(found: Shapes, config: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the tensors of a Whisper, in a few words each; none if they are whole.

    Args:
        found: the tensors of its files, with or without the `model.` that all names begin with.
        config: effective values of config.json.
    """
    for name in ("encoder_layers", "decoder_layers"):
        if config[name] > MOST_LAYERS:
            return [f"{name} {config[name]}, expected 1 to {MOST_LAYERS}"]
    expected = whisper_shapes(config)
    if LANDMARK.removeprefix("model.") in found:  # saved without the head
        found = {name if name == TIED else f"model.{name}": shape for name, shape in found.items()}
    optional = {TIED: expected[EMBEDDINGS]}
    missing = sorted(expected.keys() - found.keys())
    strange = sorted(found.keys() - expected.keys() - optional.keys() - MARKS)
    if missing and (prefix := _prefix(found, expected)):
        return [f"every name begins with {shown(prefix)!r}, {_who(prefix)}"]
    return [*_problems(found, {**expected, **optional}, missing, strange)]


def _problems(
    found: Shapes, expected: Shapes, missing: Sequence[str], strange: Sequence[str]
) -> Iterator[str]:
    if missing:
        yield f"{len(missing)} missing: {_named(missing)}"
    if strange:
        yield f"{len(strange)} unknown: {_named(strange)}"
    for name in sorted(found.keys() & expected.keys()):
        if found[name] != expected[name]:
            yield f"{name} is {list(found[name])}, config.json makes it {list(expected[name])}"


def _norm(path: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{path}.weight": (width,), f"{path}.bias": (width,)}


def _named(names: Sequence[str]) -> str:
    return few(names, separator=", ", most=SHOWN)


def _prefix(found: Shapes, expected: Shapes) -> str:
    """Return what stands before the right names, if that is all that is wrong with them."""
    for name in found:
        prefix = name.removesuffix(LANDMARK)
        if name.endswith(LANDMARK) and prefix and {f"{prefix}{name}" for name in expected} <= found.keys():
            return prefix
    return ""


def _who(prefix: str) -> str:
    """Say which library writes such names, and what to do."""
    if "base_model" in prefix:
        return "as PEFT saves them: call merge_and_unload() before save_pretrained()"
    if "_orig_mod" in prefix:
        return "as torch.compile names them: save the module that was compiled"
    if prefix == "module.":
        return "as DataParallel names them: save its .module"
    return "expected 'model.': save the WhisperForConditionalGeneration itself"
