"""What a Parakeet CTC's JSON files say that decides the text, whatever their spelling.

    settings = read_parakeet_settings(folder)
    settings.record()          # plain JSON: it enters the base model's digest

The second family of base models beside Whisper: transformers' `ParakeetForCTC`, a FastConformer encoder
(arXiv:2305.05084) with a CTC head. As in `adapter_hub.base_model.settings` these are effective values:
transformers' defaults stand where a file says nothing, and the model is built from them and from no others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_hub.base_model.settings import (
    MAXIMUM_SIZE,
    SAMPLE_RATE,
    check_alone,
    of_kind,
    optional,
    read_config,
    whole_number,
)
from adapter_hub.errors import InvalidInputError, few
from adapter_hub.escaping import shown

MODEL_TYPE = "parakeet_ctc"

# of the encoder, with transformers' defaults, and the most that a model may have
SIZES = {
    "conv_kernel_size": (9, 1_000),
    "hidden_size": (1024, 16_384),
    "intermediate_size": (4096, 131_072),
    "max_position_embeddings": (5000, 1_000_000),
    "num_attention_heads": (8, 1_024),
    "num_hidden_layers": (24, 256),
    "num_mel_bins": (80, 1_024),
    "subsampling_conv_channels": (256, 16_384),
    "subsampling_conv_kernel_size": (3, 100),
    "subsampling_conv_stride": (2, 2),  # other strides do not give the subsampling that is stated
    "subsampling_factor": (8, 64),
}
SWITCHES = {"attention_bias": True, "convolution_bias": True, "scale_input": True}
MOST_TOKENS = 1_000_000
# no say in what a model answers
TRAINING_CONFIG = ("ctc_loss_reduction", "ctc_zero_infinity")
TRAINING_ENCODER = (
    "activation_dropout",
    "attention_dropout",
    "dropout",
    "dropout_positions",
    "initializer_range",
    "layerdrop",
)
LENGTHS = {
    "feature_size": 80,
    "hop_length": 160,
    "n_fft": 512,
    "sampling_rate": SAMPLE_RATE,
    "win_length": 400,
}
NUMBERS = {"padding_value": 0.0, "preemphasis": 0.97}
# of tokenizer.json: how texts become ids, and ids texts
TOKENIZER_PARTS = ("added_tokens", "decoder", "model", "normalizer", "post_processor", "pre_tokenizer")


@dataclass(frozen=True)
class ParakeetSettings:
    """The effective values of a Parakeet CTC.

    Attributes:
        config: what shapes the computation: `blank_id`, `vocab_size` and the encoder's.
        features: of the feature extractor.
        tokenizer: the parts of tokenizer.json that map texts to ids and back.
        training: fields of config.json that matter in training alone, the encoder's under `encoder_config`;
            not in the record.
    """

    config: Mapping[str, Any]
    features: Mapping[str, Any]
    tokenizer: Mapping[str, Any]
    training: Mapping[str, Any]

    def record(self) -> dict[str, Any]:
        """Return all that decides the text, but for the weights, as plain JSON data."""
        return {
            "config": dict(self.config),
            "features": dict(self.features),
            "tokenizer": dict(self.tokenizer),
        }

    def tensor_problems(self, found: Mapping[str, tuple[int, ...]]) -> list[str]:
        """Return nothing: that weights are whole is seen where they are loaded."""
        return []


def read_parakeet_settings(folder: Path) -> ParakeetSettings:
    """Return the effective values of the Parakeet CTC in `folder`.

    Args:
        folder: of the base model, as transformers saves it.

    Raises:
        NotFoundError: config.json or tokenizer.json is missing.
        InvalidInputError: a value cannot be, like a blank beyond the vocabulary.
    """
    check_alone(folder)
    given = read_config(folder)
    config = _config(given, folder / "config.json")
    settings = ParakeetSettings(config, _features(folder), _tokenizer(folder), _training(given))
    if problems := list(_misfits(settings)):
        raise InvalidInputError(f"{folder}: not a usable Parakeet model: {few(problems)}")
    return settings


def _config(given: Mapping[str, Any], path: Path) -> dict[str, Any]:
    if given.get("quantization_config"):
        raise InvalidInputError(f"{path}: a quantized model; expected weights as they were trained")
    values = {name: value for name, value in given.items() if value is not None}
    encoder = of_kind(dict, values.get("encoder_config", {}), "encoder_config", path)
    encoder = {name: value for name, value in encoder.items() if value is not None}
    out: dict[str, Any] = {"model_type": MODEL_TYPE}
    out["vocab_size"] = whole_number(values.get("vocab_size", 1025), "vocab_size", path, 2, MOST_TOKENS)
    out["blank_id"] = whole_number(
        values.get("pad_token_id", 1024), "pad_token_id (the blank)", path, 0, out["vocab_size"]
    )
    for name, (default, most) in SIZES.items():
        out[name] = whole_number(encoder.get(name, default), name, path, 1, most + 1)
    for name, switch in SWITCHES.items():
        out[name] = of_kind(bool, encoder.get(name, switch), name, path)
    out["hidden_act"] = of_kind(str, encoder.get("hidden_act", "silu"), "hidden_act", path)
    return out


def _training(given: Mapping[str, Any]) -> dict[str, Any]:
    encoder = given.get("encoder_config") or {}
    return {name: given[name] for name in TRAINING_CONFIG if name in given} | {
        "encoder_config": {name: encoder[name] for name in TRAINING_ENCODER if name in encoder}
    }


def _features(folder: Path) -> dict[str, Any]:
    """Return the feature extractor's settings; processor_config.json goes before preprocessor_config.json."""
    path = folder / "processor_config.json"
    given = optional(folder, path.name).get("feature_extractor")
    if given is None:
        path = folder / "preprocessor_config.json"
        given = optional(folder, path.name)
    given = of_kind(dict, given, "feature_extractor", path)
    values: dict[str, Any] = {
        name: whole_number(given.get(name, default), name, path, 1, MAXIMUM_SIZE)
        for name, default in LENGTHS.items()
    }
    for name, standard in NUMBERS.items():
        value = given.get(name, standard)
        if type(value) not in (int, float) or not math.isfinite(value):
            raise InvalidInputError(f"{path}: {name} is {shown(value)}; expected a number")
        values[name] = float(value)
    return values


def _tokenizer(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer.json"
    given = read_config(folder, path.name)
    parts = {name: given[name] for name in TOKENIZER_PARTS if given.get(name) not in (None, [], {})}
    model = dict(of_kind(dict, parts.get("model"), "model", path))
    if isinstance(merges := model.get("merges"), list):  # older files: "a b" instead of ["a", "b"]
        model["merges"] = [pair.split(" ") if isinstance(pair, str) else pair for pair in merges]
    return parts | {"model": model}


def _misfits(settings: ParakeetSettings) -> Iterator[str]:
    """Yield how values do not fit each other."""
    yield from _feature_misfits(settings)
    yield from _size_misfits(settings)
    tokens = settings.tokenizer["model"].get("vocab")
    if not isinstance(tokens, dict | list) or not tokens:
        yield "a tokenizer without a vocabulary"
    elif len(tokens) > settings.config["vocab_size"]:
        yield f"a tokenizer of {len(tokens)} tokens for a vocabulary of {settings.config['vocab_size']}"
    for name in TRAINING_ENCODER:
        value = settings.training["encoder_config"].get(name, 0.0)
        if type(value) not in (int, float) or not 0 <= value <= 1:
            yield f"{name} {shown(repr(value), 40)}, expected 0 to 1"


def _feature_misfits(settings: ParakeetSettings) -> Iterator[str]:
    features, mels = settings.features, settings.config["num_mel_bins"]
    if features["sampling_rate"] != SAMPLE_RATE:
        yield f"sampling_rate {features['sampling_rate']} of the feature extractor, expected {SAMPLE_RATE}"
    if features["feature_size"] != mels:
        yield f"feature_size {features['feature_size']} of the feature extractor, but the model takes {mels}"
    if features["win_length"] > features["n_fft"]:
        yield f"win_length {features['win_length']}, expected at most n_fft ({features['n_fft']})"


def _size_misfits(settings: ParakeetSettings) -> Iterator[str]:
    config = settings.config
    if config["hidden_size"] % (2 * config["num_attention_heads"]):
        yield f"hidden_size {config['hidden_size']} for {config['num_attention_heads']} heads"
    factor = config["subsampling_factor"]
    if factor < 2 or factor & (factor - 1):
        yield f"subsampling_factor {factor}, expected a power of 2"
    elif config["num_mel_bins"] < factor:
        yield f"num_mel_bins {config['num_mel_bins']}, expected at least subsampling_factor ({factor})"
    for name in ("conv_kernel_size", "subsampling_conv_kernel_size"):
        if config[name] % 2 == 0:
            yield f"{name} {config[name]}, expected an odd number"
