"""What a base model is: the digest that tells a swapped one from a re-saved or re-sharded one.

It covers the configuration that shapes the computation, every tensor, and the tokenizer; not file
names, sharding, or what a newer transformers adds to the JSON files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapter_hub import embedded
from adapter_hub.canonical import canonical_bytes, digest_of, read_json
from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.reference import is_local
from adapter_hub.tensors import read_header, tensor_rows

EMBEDDED_ID = "adapter-hub/whisper-mini"
# what is fetched of a Hub repository: no pickles, no other frameworks' weights
NEEDED = ["*.json", "model*.safetensors", "merges.txt"]
TIED = "proj_out.weight"  # the same tensor as the token embeddings; some copies store it, some do not
CONFIG_FIELDS = (
    "activation_function",
    "architectures",
    "d_model",
    "decoder_attention_heads",
    "decoder_ffn_dim",
    "decoder_layers",
    "decoder_start_token_id",
    "encoder_attention_heads",
    "encoder_ffn_dim",
    "encoder_layers",
    "eos_token_id",
    "max_source_positions",
    "max_target_positions",
    "model_type",
    "num_mel_bins",
    "scale_embedding",
    "vocab_size",
)


def find_base_model(
    id_or_path: str | Path, revision: str | None = None, *, allow_network: bool = False
) -> tuple[Path, str | None]:
    """Return the folder of a base model on this machine, and its commit if it is the Hub's.

    Args:
        id_or_path: the embedded model's id, a folder, or a Hub id.
        revision: of the Hub's repository.
        allow_network: fetch it from the Hub; by default only its local cache is looked at.

    Raises:
        NotFoundError: it is not here; the message holds the command that gets it.
    """
    text = str(id_or_path)
    if text == EMBEDDED_ID:
        return embedded.base_model_path(), None
    if isinstance(id_or_path, Path) or is_local(text) or Path(text).is_dir():
        if not Path(text).is_dir():
            raise NotFoundError(f"{text}: no such folder; expected a Whisper model as transformers saves it")
        return Path(text), None
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only for models of the Hub
    from huggingface_hub.errors import (  # noqa: PLC0415
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    try:
        folder = Path(
            snapshot_download(
                text, revision=revision, local_files_only=not allow_network, allow_patterns=NEEDED
            )
        )
    except LocalEntryNotFoundError:
        at = f" --revision {revision}" if revision else ""
        raise NotFoundError(
            f"base model {text}{f' at {revision}' if revision else ''} is not in the local cache; "
            f"fetch it with `hf download {text}{at}`, or name a folder"
        ) from None
    except (HFValidationError, HfHubHTTPError) as error:
        raise NotFoundError(f"base model {text}: {' '.join(str(error).split())}") from None
    return folder, folder.name if len(folder.name) == 40 else revision


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """Return a JSON file of a base model's folder.

    Raises:
        NotFoundError: the file is missing. InvalidInputError: it is no JSON object.
    """
    path = folder / name
    if not path.is_file():
        raise NotFoundError(f"{folder}: no {name}; expected a Whisper model as transformers saves it")
    value = read_json(path.read_bytes(), str(path))
    if not isinstance(value, dict):
        raise InvalidInputError(f"{path}: expected a JSON object")
    return value


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a base model, sharded or not."""
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise NotFoundError(f"{folder}: no model.safetensors; only safetensors are read, never pickles")
    return files


def base_model_digest(folder: Path) -> str:
    """Return the digest of the base model in `folder`; reads every weight once."""
    config = read_config(folder)
    rows = sorted(row[1:] for path in weight_files(folder) for row in tensor_rows(path, "") if row[1] != TIED)
    record = {
        "config": {name: config[name] for name in CONFIG_FIELDS if config.get(name) is not None},
        "weights": digest_of(canonical_bytes(rows)),
        "tokenizer": _tokenizer(folder),
    }
    return digest_of(canonical_bytes(record))


def _tokenizer(folder: Path) -> dict[str, Any]:
    tokenizer = read_config(folder, "tokenizer.json")
    model = tokenizer.get("model", {})
    generation = read_config(folder, "generation_config.json")
    merges = [m if isinstance(m, str) else " ".join(m) for m in model.get("merges", [])]
    special = [[item["id"], item["content"]] for item in tokenizer.get("added_tokens", [])]
    return {
        "vocabulary": sorted([index, token] for token, index in model.get("vocab", {}).items()),
        "merges": merges,
        "special_tokens": sorted(special),
        "lang_to_id": generation.get("lang_to_id", {}),
    }


def linear_shapes(folder: Path) -> dict[str, tuple[int, int]]:
    """Return `{module path: (out_features, in_features)}` of every matrix of the base model."""
    shapes: dict[str, tuple[int, int]] = {}
    for path in weight_files(folder):
        for entry in read_header(path).values():
            if len(entry.shape) == 2 and entry.name.endswith(".weight"):
                shapes[entry.name.removesuffix(".weight")] = (entry.shape[0], entry.shape[1])
    return shapes
