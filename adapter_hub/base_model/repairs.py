"""What a base model's folder lacks, and the lines of Python that bring it: one line for the user.

    raise NotFoundError(no_weights(folder, "WhisperForConditionalGeneration"))
    raise NotFoundError(no_tokenizer(folder, read_config(folder)))

A pickle is never read here: whoever trusts a folder can let transformers read it, and write safetensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapter_hub.base_model.tensors import WEIGHTS
from adapter_hub.errors import few
from adapter_hub.escaping import shown

PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
ORIGINAL = "take the model that it was made from, as transformers saves it"
NEVER_READ = "which is never read here; if you trust it, let transformers write safetensors:"
# (name of a file, what it is, what to do instead); the first that fits is told
OTHER_TOOLS = (
    (r"model\.bin", "for CTranslate2 (faster-whisper)", ORIGINAL),
    (r".*\.gguf|ggml.*\.bin", "for whisper.cpp", ORIGINAL),
    (r".*\.npz", "for MLX", ORIGINAL),
    (r"tf_model\.h5", "TensorFlow's", "save it again with transformers 4: from_pretrained(…, from_tf=True)"),
    (
        r"flax_model\.msgpack",
        "Flax's",
        "save it again with transformers 4: from_pretrained(…, from_flax=True)",
    ),
    (r".*\.nemo", "NeMo's", "take its conversion for transformers"),
    (
        r"(?!optimizer|scheduler|scaler|rng_state).*\.(pt|pth|ckpt)",
        "a checkpoint of PyTorch",
        "take the same model as transformers saves it",
    ),
)
# the official models by width, whose tokenizer and settings fine-tunes have, too
OFFICIAL = {384: "tiny", 512: "base", 768: "small", 1024: "medium", 1280: "large-v2"}
VOCABULARIES = {51864: "{size}.en", 51865: "{size}", 51866: "large-v3"}
UNKNOWN = "namespace/name"
SOME = 4  # names in a message


def no_file(folder: Path, name: str) -> str:
    """Return the message for a folder without one of its JSON files.

    Args:
        folder: of the base model.
        name: of the file.
    """
    if name != "config.json":
        return f"{folder}: no {name}; expected a base model as transformers saves it"
    inside = sorted(path.parent.name for path in folder.glob("*/config.json")) if folder.is_dir() else []
    if inside:
        names = few(inside, separator=", ", most=SOME)
        return f"{folder}: no {name}, but folders inside it have one: {names}; name the folder"
    return f"{folder}: no {name}; {_instead(folder) or 'expected a Whisper model as transformers saves it'}"


def no_weights(folder: Path, architecture: str) -> str:
    """Return the message for a folder without safetensors.

    Args:
        folder: of the base model.
        architecture: transformers' class of its family.
    """
    if there := next((name for name in PICKLES if (folder / name).is_file()), None):
        return (
            f"{folder}: no {WEIGHTS}, and {there} is a pickle, {NEVER_READ} "
            f"`from transformers import {architecture} as M; "
            f"M.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})`"
        )
    return f"{folder}: no {WEIGHTS}; {_instead(folder) or 'only safetensors are read, never pickles'}"


def hub_lines(repo: str, commit: str, target: str) -> str:
    """Return how to get safetensors of a repository whose weights are a pickle.

    Args:
        repo: its id.
        commit: of it.
        target: the folder to write.
    """
    return (
        f"{NEVER_READ} "
        "`from transformers import WhisperForConditionalGeneration as M, WhisperProcessor as P; "
        f"[K.from_pretrained({repo!r}, revision={commit!r}).save_pretrained({target!r}) for K in (M, P)]`"
    )


def no_tokenizer(folder: Path, config: Mapping[str, Any]) -> str:
    """Return the message for a folder without a tokenizer.

    Args:
        folder: of the base model.
        config: its config.json.
    """
    return (
        f"{folder}: no tokenizer.json, nor vocab.json and merges.txt; add the tokenizer of the model that it "
        f"was made from: `from transformers import WhisperTokenizer as T; "
        f"T.from_pretrained({origin(config)!r}).save_pretrained({str(folder)!r})`"
    )


def lacking_settings(folder: Path, config: Mapping[str, Any], missing: str) -> str:
    """Return the message for settings of the generation that the tokenizer does not tell either.

    Args:
        folder: of the base model.
        config: effective values of its config.json.
        missing: the names of the settings.
    """
    name = origin(config)
    return (
        f"{folder}: no {missing} in generation_config.json, and its tokenizer has no such tokens; take both "
        "from the model that it was made from: `from transformers import GenerationConfig as G, "
        "WhisperTokenizer as T; "
        f"[K.from_pretrained({name!r}).save_pretrained({str(folder)!r}) for K in (G, T)]`"
    )


def origin(config: Mapping[str, Any]) -> str:
    """Return the model on the Hub that a Whisper was made from, as far as its config.json tells.

    >>> origin({"_name_or_path": "openai/whisper-small"})
    'openai/whisper-small'
    >>> origin({"d_model": 1280, "vocab_size": 51866})
    'openai/whisper-large-v3'
    >>> origin({"d_model": 128, "vocab_size": 845})
    'namespace/name'

    Args:
        config: its config.json.
    """
    named = config.get("_name_or_path")
    if isinstance(named, str) and re.fullmatch(r"[\w.-]+/whisper-[\w.-]+", named):
        return named
    sizes = [config.get(name) for name in ("vocab_size", "d_model")]
    vocabulary, width = (size if isinstance(size, int) else 0 for size in sizes)
    if vocabulary not in VOCABULARIES or width not in OFFICIAL:
        return UNKNOWN
    return f"openai/whisper-{VOCABULARIES[vocabulary].format(size=OFFICIAL[width])}"


def _instead(folder: Path) -> str:
    """Return what a folder holds in place of weights that can be read, and what to do; empty if nothing."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    for pattern, what, advice in OTHER_TOOLS:
        for name in names:
            if re.fullmatch(pattern, name):
                return f"{shown(name)} is {what}; {advice}"
    return ""
