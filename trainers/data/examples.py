"""Training examples: features and tokens of one row each, and batches of them.

features, (inputs, labels) = pad(examples, frames), targets(examples, end)

`adapter_hub.trainers.data.preparing` makes them from data sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from adapter_hub.data.dataset import Dataset
from adapter_hub.errors import InvalidInputError
from adapter_hub.formats.manifest import DataSource
from adapter_hub.trainers.data.mixture import epoch_length

IGNORED = -100  # a label that does not count


class ProcessorAndModel(Protocol):
    """What of a `BaseModel` decides which rows can be used."""

    @property
    def processor(self) -> Any:
        """The `WhisperProcessor`."""

    @property
    def model(self) -> Any:
        """The model, for its configuration."""


@dataclass(frozen=True)
class Example:
    """One row, ready for training.

    Attributes:
        id: the row's id in its data set.
        features: `[mels, frames]` float16 log-mel, up to where the audio ends.
        silence: the value that the extractor gives to digital silence after it.
        tokens: the whole target sequence, start-of-transcript to end-of-text.
        seconds: of audio.
        prompt: how many tokens at its start are given, not predicted.
        language: the decode language, whose token is in the prompt.
        weight: how often the row is seen in an epoch.
    """

    id: str
    features: NDArray[np.float16]
    silence: float
    tokens: tuple[int, ...]
    seconds: float
    prompt: int
    language: str
    weight: float = 1.0


@dataclass(frozen=True)
class DroppedRow:
    """A row that is not trained on, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class PreparedSplit:
    """The examples of one split.

    Attributes:
        examples: in the order of the sources and of their rows.
        dropped: rows that are not used.
        sources: what the manifest says of every source: hours and utterances used, content, licence.
        sha256: binds the content of all sources, dropped rows included.
    """

    examples: tuple[Example, ...]
    dropped: tuple[DroppedRow, ...]
    sources: tuple[DataSource, ...]
    sha256: str

    @property
    def hours(self) -> float:
        """Of the audio that is used, each row once."""
        return sum(example.seconds for example in self.examples) / 3600

    @property
    def rows_an_epoch(self) -> int:
        """How many rows an epoch visits; a row of weight 2 counts twice."""
        return epoch_length([example.weight for example in self.examples])


def prompt_ids(tokenizer: Any, language: str, task: str, *, timestamps: bool = False) -> list[int]:
    """Return the tokens that a transcript starts with: start, language, task and no-timestamps.

    Raises:
        InvalidInputError: the base model has no token for `language`; borrow one with decode_language.
    """
    names = ["<|startoftranscript|>", f"<|{language}|>", f"<|{task}|>"]
    if not timestamps:
        names.append("<|notimestamps|>")
    vocabulary = tokenizer.get_vocab()
    if names[1] not in vocabulary:
        raise InvalidInputError(
            f"language {language!r}: the base model has no token for it; borrow the token of a language "
            'that it knows, with decode_language = "…" in the recipe'
        )
    return [vocabulary[name] for name in names]


def encode_text(tokenizer: Any, text: str, prompt: Sequence[int]) -> tuple[int, ...]:
    """Return the target sequence of a text; Whisper's transcripts begin with a space."""
    ids = tokenizer.encode(" " + text.strip(), add_special_tokens=False)
    return (*prompt, *ids, tokenizer.convert_tokens_to_ids("<|endoftext|>"))


def check_tokens(count: int, limit: int) -> None:
    """Refuse a text that the decoder has no room for.

    Raises:
        InvalidInputError: with both numbers.
    """
    if count > limit:
        raise InvalidInputError(f"text of {count} tokens, the decoder holds {limit}; split the utterance")


def pad(examples: Sequence[Example], frames: int) -> NDArray[np.float32]:
    """Return features `[batch, mels, frames]`, each followed by its own silence."""
    features = np.empty((len(examples), examples[0].features.shape[0], frames), np.float32)
    for row, example in zip(features, examples, strict=True):
        length = min(example.features.shape[1], frames)
        row[:, length:] = example.silence
        row[:, :length] = example.features[:, :length]
    return features


def targets(examples: Sequence[Example], end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return decoder inputs and labels `[batch, tokens]`; each row's prompt and the padding do not count.

    The mask follows the lengths, never the padding id: Whisper pads with the end-of-text token,
    which has to be learned.
    """
    longest = max(len(example.tokens) for example in examples) - 1
    inputs = np.full((len(examples), longest), end, np.int64)
    labels = np.full((len(examples), longest), IGNORED, np.int64)
    for i, example in enumerate(examples):
        length = len(example.tokens) - 1
        inputs[i, :length] = example.tokens[:-1]
        labels[i, example.prompt - 1 : length] = example.tokens[example.prompt :]
    return inputs, labels


def speakers_in_both(one: Dataset, other: Dataset) -> Iterator[str]:
    """Yield the speakers that two splits share: scores on one are then no scores on new voices."""
    known = {row.speaker for row in one.rows}
    yield from sorted({row.speaker for row in other.rows if row.speaker and row.speaker in known})
