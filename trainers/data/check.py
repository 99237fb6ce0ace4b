"""Check a data set before training on it: what will be used, what will not, and why.

sources, rules = sources_at(Path("data/da"), cache_folder())       # or a JSONL file, or a recipe
report = check_data(sources, base, rules)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

from adapter_hub.base_model.digest import EMBEDDED_ID
from adapter_hub.data.dataset import SPLITS, Dataset, Utterance, read_dataset, split_in
from adapter_hub.errors import AdapterHubError, IntegrityError
from adapter_hub.model.base_model import BaseModelSketch, sketch_base_model
from adapter_hub.trainers.data.examples import DroppedRow, ProcessorAndModel, speakers_in_both
from adapter_hub.trainers.data.input_lengths import input_lengths
from adapter_hub.trainers.data.preparing import map_in_order
from adapter_hub.trainers.data.rows import RowProcessor, RowRules, row_processor
from adapter_hub.trainers.data.sources import Source, read_sources
from adapter_hub.trainers.recipe import read_recipe


@dataclass(frozen=True)
class SplitReport:
    """What one split holds.

    Attributes:
        split: its name in the report.
        place: its folder or file.
        utterances: rows, those that cannot be used included.
        usable: rows that training would use.
        hours: of usable audio.
        shortest_seconds: of the usable rows, as the next two.
        median_seconds: of the usable rows.
        longest_seconds: of the usable rows.
        longest_tokens: the longest target sequence, prompt included.
        input_seconds: that the encoder is given for a clip, by `audio_length`; empty where it has no chunk.
        speakers: the number of different ones that rows name.
        domains: how many rows name each domain; empty if none does.
        dropped: rows that cannot be used, with reasons.
    """

    split: str
    place: str
    utterances: int
    usable: int
    hours: float
    shortest_seconds: float
    median_seconds: float
    longest_seconds: float
    longest_tokens: int
    input_seconds: dict[str, float]
    speakers: int
    domains: dict[str, int]
    dropped: tuple[DroppedRow, ...]


@dataclass(frozen=True)
class DataReport:
    """All splits, and what they share.

    Attributes:
        splits: in the order of the sources.
        shared_speakers: by pair of splits, "train and dev": speakers who are in both.
        shared_transcripts: by pair of splits: how many texts are in both.
    """

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


def check_data(sources: Mapping[str, Source], base: ProcessorAndModel, rules: RowRules) -> DataReport:
    """Read every row of every source, as training would.

    Args:
        sources: by their names in the report, such as `train` and `dev`.
        base: the base model, for its chunk, tokenizer and decoder length.
        rules: of the recipe, or of `sources_at`.

    Raises:
        IntegrityError: a cached data set is damaged.
    """
    reader = row_processor(base, rules)
    return DataReport(
        tuple(_split(name, source, reader) for name, source in sources.items()),
        {
            f"{a} and {b}": shared
            for a, b in combinations(sources, 2)
            if (shared := list(speakers_in_both(sources[a].dataset, sources[b].dataset)))
        },
        {
            f"{a} and {b}": count
            for a, b in combinations(sources, 2)
            if (count := _same_texts(sources[a].dataset, sources[b].dataset))
        },
    )


def sources_at(place: Path, cache: Path) -> tuple[dict[str, Source], RowRules]:
    """Return the sources that `data check` reads at a place, by name, and the rules for their rows.

    Args:
        place: a data set's folder, with or without sub-folders for its splits; a JSONL file; or a
            recipe, all of whose sources are returned.
        cache: the cache folder, for data sets on the Hub.

    Raises:
        NotFoundError: no such folder or file. InvalidInputError: metadata that cannot be read.
    """
    if place.suffix == ".toml":
        file = read_recipe(place)
        named = [
            (f"{split} {number}" if len(sources) > 1 else split, source)
            for split in ("train", "dev")
            for sources in [read_sources(file, split, cache)]
            for number, source in enumerate(sources, 1)
        ]
        return dict(named), RowRules.of(file.recipe)
    names = [name for name in SPLITS if split_in(place, name)]
    datasets = [read_dataset(place, name) for name in names] or [read_dataset(place)]
    return {dataset.split: Source(dataset) for dataset in datasets}, RowRules(language="en")


def base_model_at(place: Path, named: str | None, cache: Path) -> BaseModelSketch:
    """Return the base model that rows are checked for, without its weights.

    Args:
        place: as of `sources_at`: a recipe names its own.
        named: the user's word for another one.
        cache: the cache folder.

    Raises:
        NotFoundError: it is not here. InvalidInputError: it is no base model.
    """
    if named is None and place.suffix == ".toml":
        file = read_recipe(place)
        return sketch_base_model(file.base_model, revision=file.recipe.base_model.revision, cache=cache)
    return sketch_base_model(named or EMBEDDED_ID, cache=cache)


def _split(name: str, source: Source, reader: RowProcessor) -> SplitReport:
    longest, seconds = 0, []
    dropped = [DroppedRow(*item) for item in source.dataset.unusable]

    def check_row(row: Utterance) -> tuple[int, float] | DroppedRow:
        try:
            tokenised = reader.tokenise(row, source)
            audio = reader.read(row)
            reader.check(audio.seconds, row.id)
            row.check_stated(audio.seconds)
            if misfit := reader.misfit(tokenised, audio.seconds):
                return DroppedRow(row.id, misfit)
        except IntegrityError:
            raise  # the cache is damaged, not the row
        except (AdapterHubError, OSError) as error:
            return DroppedRow(row.id, str(error))
        return len(tokenised.tokens), audio.seconds

    for found in map_in_order(check_row, source.dataset.rows):
        if isinstance(found, DroppedRow):
            dropped.append(found)
        else:
            longest = max(longest, found[0])
            seconds.append(found[1])
    return SplitReport(
        split=name,
        place=str(source.dataset.folder),
        utterances=len(source.dataset.rows) + len(source.dataset.unusable),
        usable=len(seconds),
        hours=round(sum(seconds) / 3600, 4),
        shortest_seconds=round(min(seconds, default=0.0), 2),
        median_seconds=round(median(seconds), 2) if seconds else 0.0,
        longest_seconds=round(max(seconds, default=0.0), 2),
        longest_tokens=longest,
        input_seconds=input_lengths(seconds, reader.rules.batch_size, reader.chunk) if reader.chunk else {},
        speakers=len({row.speaker for row in source.dataset.rows} - {None}),
        domains=dict(sorted(Counter(row.domain for row in source.dataset.rows if row.domain).items())),
        dropped=tuple(dropped),
    )


def _same_texts(one: Dataset, other: Dataset) -> int:
    return len({row.text for row in one.rows} & {row.text for row in other.rows})
