"""A Whisper whose encoder takes less than 30 s of audio: the first positions, all else as it is.

    shorten_input(Path("tiny.en"), Path("tiny.en-15s"), 15)

A step and a decode then cost less. A pretrained Whisper bears it down to about 15 s; fed less, it repeats
itself.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers import AutoTokenizer, WhisperFeatureExtractor, WhisperForConditionalGeneration

from adapter_hub.errors import InvalidInputError

POSITIONS = 50  # of the encoder, per second
DERIVED = ("n_samples", "nb_max_frames")  # of the extractor, from its chunk length


def shorten_input(source: Path, out: Path, seconds: int) -> Path:
    """Write a base model with a shorter encoder's input, and return its folder.

    Args:
        source: folder of a Whisper.
        out: new folder; one that is there is replaced.
        seconds: of audio, at most those of the source.

    Raises:
        InvalidInputError: more seconds than the source has.
    """
    model = WhisperForConditionalGeneration.from_pretrained(source)
    embedding, positions = model.model.encoder.embed_positions, seconds * POSITIONS
    if not 0 < positions <= model.config.max_source_positions:
        raise InvalidInputError(
            f"{source}: {seconds} s of audio, expected 1 to {model.config.max_source_positions // POSITIONS}"
        )
    embedding.weight.data = embedding.weight.data[:positions].clone()
    embedding.num_embeddings = model.config.max_source_positions = positions
    features = WhisperFeatureExtractor.from_pretrained(source).to_dict()
    kept = {name: value for name, value in features.items() if name not in DERIVED}
    begun = out.with_name(f"{out.name}.part")
    shutil.rmtree(begun, ignore_errors=True)
    model.save_pretrained(begun)
    WhisperFeatureExtractor(**kept | {"chunk_length": seconds}).save_pretrained(begun)
    AutoTokenizer.from_pretrained(source).save_pretrained(begun)
    shutil.rmtree(out, ignore_errors=True)
    begun.rename(out)
    return out
