"""Training examples: features and labels of a data set's rows, with every dropped row accounted for.

prepared = prepare(dataset, base, language="da")
prepared.dropped      # [Dropped("clip7.flac", "9.1 s of audio, …"), …]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from adapter_hub.errors import AdapterHubError, InvalidInputError
from adapter_hub.speech.audio import check_seconds, read_audio
from adapter_hub.speech.dataset import Dataset, Utterance, data_sha256
from adapter_hub.speech.features import chunk_seconds, log_mel

SAMPLES_A_FRAME = 160
IGNORED = -100  # a label that does not count
Progress = Callable[[int, int], None]


class Listener(Protocol):
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
    """

    id: str
    features: NDArray[np.float16]
    silence: float
    tokens: tuple[int, ...]
    seconds: float


@dataclass(frozen=True)
class Dropped:
    """A row that is not trained on, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class Prepared:
    """The examples of one split; `sha256` is of the whole data set, dropped rows included."""

    examples: tuple[Example, ...]
    dropped: tuple[Dropped, ...]
    prompt: int  # tokens before the text; they are given, not predicted
    sha256: str

    @property
    def hours(self) -> float:
        """Of the audio that is used."""
        return sum(example.seconds for example in self.examples) / 3600


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


def prepare(
    dataset: Dataset,
    base: Listener,
    *,
    language: str,
    task: str = "transcribe",
    progress: Progress | None = None,
) -> Prepared:
    """Read, check and featurise every row of a data set.

    Rows that the base model cannot hear whole or spell within its decoder are dropped and listed, as
    are unreadable files; the others are kept in order.

    Raises:
        InvalidInputError: no usable row at all.
    """
    tokenizer, extractor = base.processor.tokenizer, base.processor.feature_extractor
    prompt = prompt_ids(tokenizer, language, task)
    limit = int(base.model.config.max_target_positions)
    examples: list[Example] = []
    dropped: list[Dropped] = []
    for count, row in enumerate(dataset.rows, 1):
        try:
            tokens = encode_text(tokenizer, row.text, prompt)
            check_tokens(len(tokens), limit)
            examples.append(_example(row, extractor, tokens))
        except AdapterHubError as error:
            dropped.append(Dropped(row.id, str(error)))
        if progress is not None:
            progress(count, len(dataset.rows))
    if not examples:
        raise InvalidInputError(
            f"{dataset.folder}: no row can be used, the first because of: {dropped[0].reason}"
        )
    return Prepared(tuple(examples), tuple(dropped), len(prompt), data_sha256(dataset))


def check_tokens(count: int, limit: int) -> None:
    """Refuse a text that the decoder has no room for.

    Raises:
        InvalidInputError: with both numbers.
    """
    if count > limit:
        raise InvalidInputError(f"text of {count} tokens, the decoder holds {limit}; split the utterance")


def _example(row: Utterance, extractor: Any, tokens: tuple[int, ...]) -> Example:
    audio = read_audio(row.path)
    check_seconds(audio.seconds, chunk_seconds(extractor), row.id)
    features = log_mel(extractor, [audio])[0]
    frames = min(features.shape[1], -(-len(audio.samples) // SAMPLES_A_FRAME) + 2)
    return Example(
        row.id, features[:, :frames].astype(np.float16), float(features.min()), tokens, audio.seconds
    )


def pad(examples: Sequence[Example], frames: int) -> NDArray[np.float32]:
    """Return features `[batch, mels, frames]`, each followed by its own silence."""
    features = np.empty((len(examples), examples[0].features.shape[0], frames), np.float32)
    for row, example in zip(features, examples, strict=True):
        length = min(example.features.shape[1], frames)
        row[:, length:] = example.silence
        row[:, :length] = example.features[:, :length]
    return features


def targets(
    examples: Sequence[Example], prompt: int, end: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return decoder inputs and labels `[batch, tokens]`; prompt and padding do not count.

    The mask follows the lengths, never the padding id: Whisper pads with the end-of-text token,
    which has to be learned.
    """
    longest = max(len(example.tokens) for example in examples) - 1
    inputs = np.full((len(examples), longest), end, np.int64)
    labels = np.full((len(examples), longest), IGNORED, np.int64)
    for i, example in enumerate(examples):
        length = len(example.tokens) - 1
        inputs[i, :length] = example.tokens[:-1]
        labels[i, prompt - 1 : length] = example.tokens[prompt:]
    return inputs, labels


def speakers_in_both(one: Dataset, other: Dataset) -> Iterator[str]:
    """Yield the speakers that two splits share: scores on one are then no scores on new voices."""
    known = {row.speaker for row in one.rows}
    yield from sorted({row.speaker for row in other.rows if row.speaker and row.speaker in known})
