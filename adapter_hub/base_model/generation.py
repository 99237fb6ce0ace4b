"""What the decoding obeys: suppressed tokens, special ids, lengths, as generation_config.json gives them.

    effective_generation(generation_config, config, path)

Whatever is not known to change nothing is kept, so that it enters the base model's digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapter_hub.base_model.values import MAXIMUM_SIZE, of_kind, whole
from adapter_hub.errors import InvalidInputError
from adapter_hub.escaping import shown

NEUTRAL = frozenset(
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
DEFAULTS: dict[str, Any] = {
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


def effective_generation(given: Mapping[str, Any], config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the generation settings in one spelling.

    Args:
        given: generation_config.json.
        config: the effective values of config.json.
        path: of generation_config.json, for messages.

    Raises:
        InvalidInputError: a value cannot be, like the id of a token beyond the vocabulary.
    """
    out = {
        name: value
        for name, value in given.items()
        if name not in NEUTRAL and value not in (None, [], {}) and not _is_default(name, value)
    }
    out |= {name: config[name] for name in FROM_CONFIG if name not in out and name in config}
    room = config["vocab_size"]
    for name in out.keys() & {*IDS, *LENGTHS}:
        out[name] = whole(out[name], name, path, 0, room if name in IDS else MAXIMUM_SIZE)
    for name in out.keys() & {*ID_LISTS}:
        ids = of_kind(list, out[name], name, path)
        out[name] = sorted({whole(item, name, path, 0, room) for item in ids})
    for name in out.keys() & {*ID_TABLES}:
        table = of_kind(dict, out[name], name, path)
        out[name] = {key: whole(item, f"{name}.{shown(key)}", path, 0, room) for key, item in table.items()}
    if "alignment_heads" in out:
        out["alignment_heads"] = _heads(out["alignment_heads"], config, path)
    return out


def _is_default(name: str, value: Any) -> bool:
    default = DEFAULTS.get(name)
    return default is not None and type(value) in (bool, int, float) and value == default


def _heads(value: Any, config: Mapping[str, Any], path: Path) -> list[list[int]]:
    sides = (config["decoder_layers"], config["decoder_attention_heads"])
    pairs = of_kind(list, value, "alignment_heads", path)
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise InvalidInputError(f"{path}: alignment_heads is {shown(value)}; expected [[layer, head], …]")
    return sorted(
        [whole(n, "alignment_heads", path, 0, side) for n, side in zip(pair, sides, strict=True)]
        for pair in pairs
    )
