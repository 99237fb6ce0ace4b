"""What a base model's JSON files say that decides the text, whatever their spelling.

    settings = read_settings(folder)
    settings.record()          # plain JSON: it enters the base model's digest
    settings.generation        # what the runtime decodes with

Effective values: where a file says nothing, transformers' default stands here, and what changes nothing is
left out. So a model that was saved again says the same, and one that says otherwise can answer otherwise.
The runtime builds its model from these values and from no others: whatever else is in the folder has no
effect, and need not be in the digest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from adapter_hub.base_model.filling import filled, one_end
from adapter_hub.base_model.repairs import no_file, no_tokenizer
from adapter_hub.base_model.tensors import tensor_problems
from adapter_hub.base_model.tokenizer import END, TokenSettings, token_settings
from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.escaping import shown
from adapter_hub.files.reading import read_bounded
from adapter_hub.formats.canonical import read_json

MAXIMUM_JSON = 64 * 2**20  # bytes; Whisper's tokenizer.json is 4 MB
MAXIMUM_SIZE = 2**24  # of any side of a model, and of any length
SAMPLE_RATE = 16_000
# every file that is read here
FILES = (
    "added_tokens.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
)
VOCABULARY, MERGES = "vocab.json", "merges.txt"

# sides of the model, with transformers' defaults
SIZES = {
    "d_model": 384,
    "decoder_attention_heads": 6,
    "decoder_ffn_dim": 1536,
    "decoder_layers": 4,
    "encoder_attention_heads": 6,
    "encoder_ffn_dim": 1536,
    "encoder_layers": 4,
    "max_source_positions": 1500,
    "max_target_positions": 448,
    "median_filter_width": 7,
    "num_mel_bins": 80,
    "vocab_size": 51865,
}
SWITCHES = {"scale_embedding": False, "tie_word_embeddings": True}
CONFIG_IDS = {"decoder_start_token_id": 50257, "eos_token_id": 50256, "pad_token_id": 50256}
# other names of the same sizes, which transformers also reads
ALIASES = {
    "hidden_size": "d_model",
    "num_hidden_layers": "encoder_layers",
    "num_attention_heads": "encoder_attention_heads",
    "num_key_value_heads": "encoder_attention_heads",
}
# no say in what a model answers; some have one in how it is trained
TRAINING_CONFIG = (
    "activation_dropout",
    "apply_spec_augment",
    "attention_dropout",
    "begin_suppress_tokens",  # the generation's counts
    "bos_token_id",
    "classifier_proj_size",
    "decoder_layerdrop",
    "dropout",
    "encoder_layerdrop",
    "init_std",
    "mask_feature_length",
    "mask_feature_min_masks",
    "mask_feature_prob",
    "mask_time_length",
    "mask_time_min_masks",
    "mask_time_prob",
    "suppress_tokens",
    "use_cache",
    "use_weighted_layer_sum",
)
FEATURES = {
    "chunk_length": 30,
    "dither": 0.0,
    "feature_size": 80,
    "hop_length": 160,
    "n_fft": 400,
    "padding_side": "right",
    "padding_value": 0.0,
    "sampling_rate": SAMPLE_RATE,
}

# generation_config.json: no say in what is answered
NEUTRAL_GENERATION = frozenset(
    {
        "_commit_hash",
        "_from_model_config",
        "cache_config",
        "cache_implementation",
        "compile_config",
        "disable_compile",
        "low_memory",
        "output_attentions",
        "output_hidden_states",
        "output_logits",
        "output_scores",
        "return_dict_in_generate",
        "transformers_version",
        "use_cache",
    }
)
# what older versions of transformers write out, and newer ones leave to the default
GENERATION_DEFAULTS: dict[str, Any] = {
    "diversity_penalty": 0,
    "do_sample": False,
    "early_stopping": False,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1,
    "epsilon_cutoff": 0,
    "eta_cutoff": 0,
    "is_multilingual": True,
    "length_penalty": 1,
    "min_length": 0,
    "no_repeat_ngram_size": 0,
    "num_beam_groups": 1,
    "num_beams": 1,
    "num_return_sequences": 1,
    "remove_invalid_values": False,
    "renormalize_logits": False,
    "repetition_penalty": 1,
    "return_timestamps": False,
    "temperature": 1,
    "top_k": 50,
    "top_p": 1,
    "typical_p": 1,
}
ID_LISTS = ("begin_suppress_tokens", "suppress_tokens")
ID_TABLES = ("lang_to_id", "task_to_id")
IDS = (
    "bos_token_id",
    "decoder_start_token_id",
    "eos_token_id",
    "no_timestamps_token_id",
    "pad_token_id",
    "prev_sot_token_id",
)
LENGTHS = ("max_initial_timestamp_index", "max_length", "max_new_tokens")
FROM_CONFIG = ("decoder_start_token_id", "eos_token_id", "pad_token_id")  # where config.json alone has them

_EXPECTED = {bool: "true or false", str: "a text", list: "a list", dict: "an object"}
Kind = TypeVar("Kind")


@dataclass(frozen=True)
class BaseModelSettings:
    """The effective values of a base model.

    Attributes:
        config: what shapes the computation.
        generation: what the decoding obeys; absent where nothing is asked for.
        features: of the feature extractor.
        tokens: the tokenizer.
        training: fields of config.json that matter in training alone; not in the record.
    """

    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    features: Mapping[str, Any]
    tokens: TokenSettings
    training: Mapping[str, Any]

    def record(self) -> dict[str, Any]:
        """Return all that decides the text, but for the weights, as plain JSON data."""
        return {
            "config": dict(self.config),
            "generation": dict(self.generation),
            "features": dict(self.features),
            "tokenizer": self.tokens.record(),
        }

    def tensor_problems(self, found: Mapping[str, tuple[int, ...]]) -> list[str]:
        """Return what is wrong with the tensors of the weights, see `tensors.tensor_problems`."""
        return tensor_problems(found, self.config)


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """Return a JSON file of a base model's folder.

    Args:
        folder: of the base model.
        name: of the file.

    Raises:
        NotFoundError: the file is missing. InvalidInputError: not a JSON object, or not an ordinary file.
    """
    path = folder / name
    try:
        raw = read_bounded(path, MAXIMUM_JSON)
    except FileNotFoundError:
        raise NotFoundError(no_file(folder, name)) from None
    value = read_json(raw, str(path))
    if not isinstance(value, dict):
        raise InvalidInputError(f"{path}: expected a JSON object")
    return value


def read_settings(folder: Path) -> BaseModelSettings:
    """Return the effective values of the base model in `folder`.

    Args:
        folder: of the base model.

    Raises:
        NotFoundError: config.json or the tokenizer is missing.
        InvalidInputError: a value cannot be, like the id of a token beyond the vocabulary.
    """
    check_alone(folder)
    given = read_config(folder)
    tokens = _tokens(folder, given)
    path = folder / "config.json"
    config = _config(given, tokens, path)
    said = optional(folder, "generation_config.json")
    path = folder / "generation_config.json" if said else path
    generation = _generation(filled(said, given, config, tokens), config, tokens, path)
    features = _features(folder, config)
    _check_fit(features, config, folder)
    training = {name: given[name] for name in TRAINING_CONFIG if name in given}
    return BaseModelSettings(config, generation, features, tokens, training)


def _tokens(folder: Path, config: Mapping[str, Any]) -> TokenSettings:
    """Return the tokenizer, of tokenizer.json or of the two files that older programs write instead."""
    if (folder / "tokenizer.json").exists():
        tokenizer = read_config(folder, "tokenizer.json")
    elif all((folder / name).exists() for name in (VOCABULARY, MERGES)):
        merges = read_bounded(folder / MERGES, MAXIMUM_JSON).decode("utf-8", "replace").splitlines()
        pairs = [line for line in merges if line.strip() and not line.startswith("#version")]
        tokenizer = {"model": {"vocab": read_config(folder, VOCABULARY), "merges": pairs}}
    else:
        raise NotFoundError(no_tokenizer(folder, config))
    return token_settings(
        tokenizer,
        optional(folder, "tokenizer_config.json"),
        optional(folder, "special_tokens_map.json"),
        optional(folder, "added_tokens.json"),
        folder,
    )


def check_alone(folder: Path) -> None:
    """Refuse a folder with an adapter beside the model, which transformers would put into it.

    Args:
        folder: of the base model.

    Raises:
        InvalidInputError: there is one.
    """
    if (folder / "adapter_config.json").exists():
        raise InvalidInputError(
            f"{folder}: holds adapter_config.json, so transformers would put that adapter into the model; "
            "expected a base model alone: move the adapter's files elsewhere"
        )


def optional(folder: Path, name: str) -> dict[str, Any]:
    """Return a JSON file of a base model's folder; {} if it is not there.

    Args:
        folder: of the base model.
        name: of the file.
    """
    return read_config(folder, name) if (folder / name).exists() else {}


def _config(given: Mapping[str, Any], tokens: TokenSettings, path: Path) -> dict[str, Any]:
    if given.get("quantization_config"):
        raise InvalidInputError(f"{path}: a quantized model; expected weights as they were trained")
    values = {name: value for name, value in given.items() if value is not None}
    for alias, name in ALIASES.items():
        if alias in values and values.setdefault(name, values[alias]) != values[alias]:
            raise InvalidInputError(
                f"{path}: {alias} is {shown(values[alias])} and {name} {shown(values[name])}, "
                "which are two names of one thing; expected the same value"
            )
    out: dict[str, Any] = {"model_type": values.get("model_type")}
    for name, default in SIZES.items():
        out[name] = whole_number(values.get(name, default), name, path, 1)
    for name, switch in SWITCHES.items():
        out[name] = of_kind(bool, values.get(name, switch), name, path)
    out["activation_function"] = of_kind(
        str, values.get("activation_function", "gelu"), "activation_function", path
    )
    values["eos_token_id"] = one_end(values.get("eos_token_id", tokens.id_of(END)), tokens, path)
    for name, default in CONFIG_IDS.items():
        if values.get(name) is not None or name not in given:  # null means that there is none
            value = default if values.get(name) is None else values[name]
            out[name] = whole_number(value, name, path, 0, out["vocab_size"])
    return out


def _generation(
    given: Mapping[str, Any], config: Mapping[str, Any], tokens: TokenSettings, path: Path
) -> dict[str, Any]:
    """Return the generation settings in one spelling; most of those `given` are in `path`.

    What is not known to change nothing is kept, so that it enters the base model's digest.
    """
    out = {
        name: value
        for name, value in given.items()
        if name not in NEUTRAL_GENERATION and value not in (None, [], {}) and not _is_default(name, value)
    }
    out |= {name: config[name] for name in FROM_CONFIG if name not in out and name in config}
    if "eos_token_id" in out:
        out["eos_token_id"] = one_end(out["eos_token_id"], tokens, path)
    room = config["vocab_size"]
    for name in out.keys() & {*IDS, *LENGTHS}:
        out[name] = whole_number(out[name], name, path, 0, room if name in IDS else MAXIMUM_SIZE)
    for name in out.keys() & {*ID_LISTS}:
        ids = of_kind(list, out[name], name, path)
        out[name] = sorted({whole_number(item, name, path, 0, room) for item in ids})
    for name in out.keys() & {*ID_TABLES}:
        table = of_kind(dict, out[name], name, path)
        out[name] = {
            key: whole_number(item, f"{name}.{shown(key)}", path, 0, room) for key, item in table.items()
        }
    if heads := _heads(out.pop("alignment_heads", []), config, path):
        out["alignment_heads"] = heads
    return out


def _is_default(name: str, value: Any) -> bool:
    default = GENERATION_DEFAULTS.get(name)
    return default is not None and type(value) in (bool, int, float) and value == default


def _heads(value: Any, config: Mapping[str, Any], path: Path) -> list[list[int]]:
    """Return the heads that follow the speech; none if they are those of a model with more layers or heads.

    Distilled models keep the settings of their teacher.
    """
    sides = (config["decoder_layers"], config["decoder_attention_heads"])
    pairs = of_kind(list, value, "alignment_heads", path)
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise InvalidInputError(f"{path}: alignment_heads is {shown(value)}; expected [[layer, head], …]")
    heads = sorted([whole_number(n, "alignment_heads", path, 0) for n in pair] for pair in pairs)
    return heads if all(n < side for pair in heads for n, side in zip(pair, sides, strict=True)) else []


def _features(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the feature extractor's settings; processor_config.json goes before preprocessor_config.json.

    Where neither says it, the encoder's shape tells how many mels and seconds it takes.
    """
    path = folder / "processor_config.json"
    processor = optional(folder, path.name)
    given = processor.get("feature_extractor", processor.get("audio_processor"))
    if given is None:
        path = folder / "preprocessor_config.json"
        given = optional(folder, path.name)
    given = of_kind(dict, given, "feature_extractor", path)
    seconds = 2 * config["max_source_positions"] * FEATURES["hop_length"] // SAMPLE_RATE
    defaults = FEATURES | {"feature_size": config["num_mel_bins"], "chunk_length": seconds}
    values = {name: given.get(name, default) for name, default in defaults.items()}
    for name in ("chunk_length", "feature_size", "hop_length", "n_fft", "sampling_rate"):
        values[name] = whole_number(values[name], name, path, 1)
    for name in ("dither", "padding_value"):
        if type(values[name]) not in (int, float) or not math.isfinite(values[name]):
            raise InvalidInputError(f"{path}: {name} is {shown(values[name])}; expected a number")
        values[name] = float(values[name])
    if values["padding_side"] not in ("left", "right"):
        raise InvalidInputError(
            f"{path}: padding_side is {shown(values['padding_side'])}; expected left or right"
        )
    return values


def _check_fit(features: Mapping[str, Any], config: Mapping[str, Any], folder: Path) -> None:
    """Refuse features that do not fit the encoder."""
    frames = features["chunk_length"] * features["sampling_rate"] // features["hop_length"]
    wanted: dict[str, tuple[object, object]] = {
        "sampling_rate": (features["sampling_rate"], SAMPLE_RATE),
        "feature_size": (features["feature_size"], config["num_mel_bins"]),
        "chunk_length * sampling_rate / hop_length": (frames, 2 * config["max_source_positions"]),
    }
    for what, (found, expected) in wanted.items():
        if found != expected:
            raise InvalidInputError(
                f"{folder}: the feature extractor's {what} is {found}, but the model takes {expected}; "
                "correct its file, or leave that out: the model's shape says it"
            )


def whole_number(value: Any, name: str, path: Path, least: int, below: int = MAXIMUM_SIZE) -> int:
    """Return a value that has to be a whole number.

    Args:
        value: as the file has it.
        name: of the setting, for the message.
        path: of the file, for the message.
        least: the lowest that is allowed.
        below: the first number that is too large.

    Raises:
        InvalidInputError: it is anything else.
    """
    if type(value) is not int or not least <= value < below:
        raise InvalidInputError(
            f"{path}: {name} is {shown(value, 60)}; expected a whole number from {least} to {below - 1}"
        )
    return value


def of_kind(kind: type[Kind], value: Any, name: str, path: Path) -> Kind:
    """Return a value that has to be of one JSON type.

    Args:
        kind: bool, str, list or dict.
        value: as the file has it.
        name: of the setting, for the message.
        path: of the file, for the message.

    Raises:
        InvalidInputError: it is anything else.
    """
    if not isinstance(value, kind):
        raise InvalidInputError(f"{path}: {name} is {shown(value, 60)}; expected {_EXPECTED[kind]}")
    return value
