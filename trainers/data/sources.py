"""The data sources that a recipe names: their rows, languages, weights and origin.

    sources = read_sources(file, "train", cache)
    sources[0].dataset.rows, sources[0].weight

A source is a folder, a JSONL file, or a split of a data set on the Hub at a pinned commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapter_hub.data.dataset import Dataset, read_dataset
from adapter_hub.data.hub_dataset import HubSplit, read_hub_dataset
from adapter_hub.errors import InvalidInputError
from adapter_hub.formats.manifest import DataSource
from adapter_hub.hub import RepoId
from adapter_hub.reporting import Tell
from adapter_hub.trainers.recipe import RecipeFile
from adapter_hub.trainers.recipe_tables import SourceTable


@dataclass(frozen=True)
class Source:
    """A data set and how a recipe uses it.

    Attributes:
        dataset: the rows.
        id: its name in the manifest; None for the data set's own name.
        revision: of a data set on the Hub, or as the recipe says.
        license: an SPDX expression.
        language: BCP 47 tag of rows that name none; None for the adapter's.
        decode_language: the Whisper language whose token stands for it.
        weight: how often a row is visited in an epoch.
        hours: at most so much audio, randomly chosen; None for all of it.
        domain: of rows that state none; None for one of its own.
    """

    dataset: Dataset
    id: str | None = None
    revision: str | None = None
    license: str | None = None
    language: str | None = None
    decode_language: str | None = None
    weight: float = 1.0
    hours: float | None = None
    domain: str | None = None

    def record(self, *, hours: float, utterances: int, sha256: str) -> DataSource:
        """Return the manifest's record of the source.

        Args:
            hours: of audio that were used.
            utterances: that were used.
            sha256: of the content, see `adapter_hub.data.dataset.content_sha256`.
        """
        return DataSource(
            id=self.id or self.dataset.name,
            revision=self.revision,
            split=self.dataset.split,
            license=self.license,
            hours=round(hours, 4),
            utterances=utterances,
            sha256=sha256,
        )


def read_sources(
    file: RecipeFile, split: Literal["train", "dev"], cache: Path, tell: Tell = lambda _: None
) -> tuple[Source, ...]:
    """Open every source of a split that the recipe names.

    Args:
        file: the recipe.
        split: `train`, or `dev`, which may be missing.
        cache: the cache folder, for data sets on the Hub.
        tell: receives lines of progress.

    Raises:
        NotFoundError, InvalidInputError: a source that does not exist or cannot be read.
        IntegrityError, AccessError, UnreachableError, MissingExtraError: a data set on the Hub.
    """
    data = file.recipe.data
    named = data.train if split == "train" else data.dev
    if named is None:
        return ()
    if isinstance(named, str):
        dataset = read_dataset(file.resolve(named))
        return (Source(dataset, id=data.id, revision=data.revision, license=data.license),)
    return tuple(_source(file, table, cache, tell) for table in named)


def _source(file: RecipeFile, table: SourceTable, cache: Path, tell: Tell) -> Source:
    return Source(
        _dataset(file, table, cache, tell),
        id=table.id,
        revision=table.revision,
        license=table.license or file.recipe.data.license,
        language=table.language,
        decode_language=table.decode_language,
        weight=table.weight,
        hours=table.hours,
        domain=table.domain,
    )


def _dataset(file: RecipeFile, table: SourceTable, cache: Path, tell: Tell) -> Dataset:
    if table.folder is not None:
        folder = file.resolve(table.folder)
        if folder.is_file():
            raise InvalidInputError(f"data: folder = {table.folder!r} is a file; name it with manifest = …")
        return read_dataset(folder)
    if table.manifest is not None:
        listed = file.resolve(table.manifest)
        if listed.is_dir():
            raise InvalidInputError(f"data: manifest = {table.manifest!r} is a folder, expected a JSONL file")
        return read_dataset(listed)
    split = HubSplit(
        RepoId(str(table.dataset), "dataset"),
        str(table.revision),
        str(table.split),
        table.config,
        table.audio_column,
        table.text_column,
    )
    return read_hub_dataset(split, cache, tell=tell)


def rows_in_adapter_language(sources: Sequence[Source], file: RecipeFile) -> Dataset:
    """Return the rows of the adapter's own language, whose similarity to base languages is measured.

    A full fine-tune has no language of its own: all rows are returned.

    Args:
        sources: of the training data.
        file: the recipe, which names the adapter's language.
    """
    if len(sources) == 1:
        return sources[0].dataset
    wanted = file.recipe.adapter.language
    rows = [
        row
        for source in sources
        for row in source.dataset.rows
        if wanted is None or (row.language or source.language or wanted) == wanted
    ]
    first = sources[0].dataset
    return Dataset(first.name, first.split, first.folder, tuple(rows))
