"""Look over a data set before training on it: what will be used, what will not, and why.

report = check_data(Path("data/da"), base)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from adapter_hub.errors import AdapterHubError, NotFoundError
from adapter_hub.speech.audio import check_seconds
from adapter_hub.speech.dataset import METADATA, SPLITS, Dataset, read_dataset
from adapter_hub.speech.features import chunk_seconds
from adapter_hub.trainers.examples import (
    Dropped,
    Listener,
    check_tokens,
    encode_text,
    prompt_ids,
    speakers_in_both,
)


@dataclass(frozen=True)
class SplitReport:
    """What one split holds; seconds are of the usable utterances."""

    split: str
    utterances: int
    usable: int
    hours: float
    shortest_seconds: float
    median_seconds: float
    longest_seconds: float
    longest_tokens: int
    speakers: int
    dropped: tuple[Dropped, ...]


@dataclass(frozen=True)
class DataReport:
    """All splits, and what they share."""

    folder: str
    splits: tuple[SplitReport, ...]
    shared_speakers: dict[str, list[str]]
    shared_transcripts: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return asdict(self)

    @property
    def clean(self) -> bool:
        """True if every row can be used."""
        return not any(split.dropped for split in self.splits)


def check_data(folder: Path, base: Listener, *, language: str = "en") -> DataReport:
    """Read every row of every split, as training would.

    Args:
        folder: a data set, with or without sub-folders for its splits.
        base: the base model, for its chunk, tokenizer and decoder length.
        language: a decode language; it decides the prompt's tokens, not their number.

    Raises:
        NotFoundError: no metadata anywhere in `folder`.
        InvalidInputError: metadata that cannot be read, with line numbers.
    """
    names = [name for name in SPLITS if any((folder / name / file).is_file() for file in METADATA)]
    if names:
        datasets = [read_dataset(folder, name) for name in names]
    elif folder.is_dir() or not folder.exists():
        datasets = [read_dataset(folder)]
    else:
        raise NotFoundError(f"{folder}: expected a folder with {' or '.join(METADATA)}")
    pairs = [(a, b) for i, a in enumerate(datasets) for b in datasets[i + 1 :]]
    return DataReport(
        str(folder),
        tuple(_split(dataset, base, language) for dataset in datasets),
        {f"{a.split} and {b.split}": shared for a, b in pairs if (shared := list(speakers_in_both(a, b)))},
        {f"{a.split} and {b.split}": count for a, b in pairs if (count := _same_texts(a, b))},
    )


def _split(dataset: Dataset, base: Listener, language: str) -> SplitReport:
    tokenizer, extractor = base.processor.tokenizer, base.processor.feature_extractor
    prompt = prompt_ids(tokenizer, language, "transcribe")
    limit, longest = int(base.model.config.max_target_positions), 0
    seconds: list[float] = []
    dropped: list[Dropped] = []
    for row in dataset.rows:
        try:
            tokens = len(encode_text(tokenizer, row.text, prompt))
            longest = max(longest, tokens)
            check_tokens(tokens, limit)
            audio = row.clip.read()
            check_seconds(audio.seconds, chunk_seconds(extractor), row.id)
            seconds.append(audio.seconds)
        except AdapterHubError as error:
            dropped.append(Dropped(row.id, str(error)))
    return SplitReport(
        split=dataset.split,
        utterances=len(dataset.rows),
        usable=len(seconds),
        hours=round(sum(seconds) / 3600, 4),
        shortest_seconds=round(min(seconds, default=0.0), 2),
        median_seconds=round(median(seconds), 2) if seconds else 0.0,
        longest_seconds=round(max(seconds, default=0.0), 2),
        longest_tokens=longest,
        speakers=len({row.speaker for row in dataset.rows} - {None}),
        dropped=tuple(dropped),
    )


def _same_texts(one: Dataset, other: Dataset) -> int:
    return len({row.text for row in one.rows} & {row.text for row in other.rows})
