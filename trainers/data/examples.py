"""Training examples, the features and tokens of one row each, and the arrays of a batch of them.

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

IGNORED = -100  # a label that does not count, as in torch's cross-entropy


class ProcessorAndModel(Protocol):
    """The part of a `BaseModel` that decides which rows can be used."""

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
        weight: how often the row is visited in an epoch.
        domain: as the row or its source states it; empty if neither does.
    """

    id: str
    features: NDArray[np.float16]
    silence: float
    tokens: tuple[int, ...]
    seconds: float
    prompt: int
    language: str
    weight: float = 1.0
    domain: str = ""


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
        sources: the manifest's record of every source: hours and utterances used, content, licence.
        sha256: of the content of all sources, dropped rows included.
    """

    examples: tuple[Example, ...]
    dropped: tuple[DroppedRow, ...]
    sources: tuple[DataSource, ...]
    sha256: str

    @property
    def hours(self) -> float:
        """Hours of the audio that is used, each row once."""
        return sum(example.seconds for example in self.examples) / 3600


def prompt_ids(
    tokenizer: Any, language: str, task: str, *, timestamps: bool = False, multilingual: bool = True
) -> list[int]:
    """Return the tokens that a transcript starts with: start, language, task and no-timestamps.

    An English-only model was trained without language and task: its vocabulary has their tokens, but they
    never occur.

    Args:
        tokenizer: a `WhisperTokenizer`.
        language: of Whisper's token, such as `da`.
        task: `transcribe` or `translate`.
        timestamps: leave out the no-timestamps token.
        multilingual: false for an English-only model.

    Raises:
        InvalidInputError: the base model has no token for `language`; borrow one with decode_language. Or
            it is English-only and cannot do this.
    """
    if not multilingual and (language, task) != ("en", "transcribe"):
        raise InvalidInputError(
            f"language {language!r}, task {task}: the base model is English-only; choose a multilingual one"
        )
    start = "<|startoftranscript|>"
    names = [start, f"<|{language}|>", f"<|{task}|>"] if multilingual else [start]
    if not timestamps:
        names.append("<|notimestamps|>")
    vocabulary = tokenizer.get_vocab()
    if multilingual and names[1] not in vocabulary:
        raise InvalidInputError(
            f"language {language!r}: the base model has no token for it; borrow the token of a language "
            'that it knows, with decode_language = "…" in the recipe'
        )
    return [vocabulary[name] for name in names]


def encode_text(tokenizer: Any, text: str, prompt: Sequence[int]) -> tuple[int, ...]:
    """Return the target sequence of a text; Whisper's transcripts begin with a space.

    Args:
        tokenizer: a `WhisperTokenizer`.
        text: the reference.
        prompt: from `prompt_ids`.

    Returns:
        The prompt, the text's tokens and end-of-text.
    """
    ids = tokenizer.encode(" " + text.strip(), add_special_tokens=False)
    return (*prompt, *ids, tokenizer.convert_tokens_to_ids("<|endoftext|>"))


def check_tokens(count: int, limit: int) -> None:
    """Refuse a text that is too long for the decoder.

    Args:
        count: tokens of the whole sequence.
        limit: positions of the decoder.

    Raises:
        InvalidInputError: the sequence is longer.
    """
    if count > limit:
        raise InvalidInputError(f"text of {count} tokens, the decoder holds {limit}; split the utterance")


def pad(examples: Sequence[Example], frames: int) -> NDArray[np.float32]:
    """Return the features of a batch, each followed by its own value of digital silence.

    Args:
        examples: of the batch.
        frames: of every row; longer features are cut.

    Returns:
        `[batch, mels, frames]` float32.
    """
    features = np.empty((len(examples), examples[0].features.shape[0], frames), np.float32)
    for row, example in zip(features, examples, strict=True):
        length = min(example.features.shape[1], frames)
        row[:, length:] = example.silence
        row[:, :length] = example.features[:, :length]
    return features


def targets(examples: Sequence[Example], end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return decoder inputs and labels; each row's prompt and the padding do not count.

    The mask follows the lengths, never the padding id: Whisper pads with the end-of-text token,
    which has to be learned.

    Args:
        examples: of the batch.
        end: id of the end-of-text token, which pads the inputs.

    Returns:
        Inputs and labels, both `[batch, tokens]` int64; labels are the inputs shifted by one, `IGNORED`
        where they do not count.
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
    """Yield the speakers that two splits share: error rates on one are then not those on new voices.

    Args:
        one: a split.
        other: another split.

    Yields:
        Their names, sorted.
    """
    known = {row.speaker for row in one.rows}
    yield from sorted({row.speaker for row in other.rows if row.speaker and row.speaker in known})
