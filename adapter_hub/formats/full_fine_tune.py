"""Full fine-tunes: the papers' baselines, a Whisper folder with a record of how it was trained.

    record = FullFineTune.read(Path("out/da-full"))
    load_base_model("out/da-full")                     # it is a base model like any other

Every weight was trained, so it is not an adapter: it is evaluated as a base model, another recipe can start
from it, and nothing publishes it. An average of such models has the same record, with its parents.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from adapter_hub.errors import NotFoundError
from adapter_hub.files.reading import read_bounded
from adapter_hub.formats.canonical import Digest, Record, Text, UtcTime
from adapter_hub.formats.manifest import (
    AverageSection,
    BaseModelPin,
    DataSource,
    Name,
    Training,
    VersionText,
)

FULL_FINE_TUNE_FILE = "full_fine_tuning.json"
SCHEMA = "full-fine-tune/1"
MAXIMUM_RECORD = 4 * 2**20  # bytes, as of a manifest


class ModelParent(Record):
    """A model that an average was computed from, or an adapter that is in it.

    Attributes:
        kind: `adapter` for one; absent: a model.
        name: of its record; absent: it has none.
        version: of its record.
        digest: base model digest of the model; of an adapter that of its manifest.
        weight: its share; what the shares leave is the base model's.
    """

    kind: Literal["adapter"] | None = None
    name: Name | None = None
    version: VersionText | None = None
    digest: Digest
    weight: Annotated[float, Field(gt=0.0, le=1.0)]


class FullFineTune(Record):
    """The record of a full fine-tune, or of an average of some, beside the model's files.

    It has either a recipe and how training ran, or parents and how they were combined.

    Attributes:
        schema: of this record.
        name: of the recipe, or of the average.
        version: of the recipe, or of the average.
        created: when it was finished.
        authors: as the recipe names them.
        license: SPDX expression.
        task: what it writes: the language spoken, or English.
        timestamps: whether it was trained with timestamp tokens.
        decode_languages: Whisper's languages of the rows that it was trained on, sorted; of an average those
            of its parents' records.
        base_model: what training started from; absent: an average whose parents do not say.
        digest: of the new model, see base model digest.
        data: that it was trained on.
        recipe: TOML text of the training.
        training: how it ran.
        parents: of an average, in the order in which they were named.
        average: how the parents were combined.
    """

    schema_: Annotated[Literal["full-fine-tune/1"], Field(alias="schema")]
    name: Name
    version: VersionText
    created: UtcTime
    authors: tuple[Text, ...]
    license: Text
    task: Literal["transcribe", "translate"]
    timestamps: bool
    decode_languages: tuple[Text, ...]
    base_model: BaseModelPin | None = None
    digest: Digest
    data: tuple[DataSource, ...]
    recipe: Text | None = None
    training: Training | None = None
    parents: tuple[ModelParent, ...] | None = None
    average: AverageSection | None = None

    @model_validator(mode="after")
    def _trained_or_averaged(self) -> Self:
        trained = [self.recipe, self.training, self.base_model, self.decode_languages or None]
        averaged = [self.parents or None, self.average]
        if self.training is not None and (None in trained or averaged != [None, None]):
            raise ValueError("a training has decode_languages, base_model and recipe, and no parents")
        if self.training is None and (self.recipe is not None or None in averaged):
            raise ValueError("expected a recipe and training, or parents and average")
        return self

    @property
    def ref(self) -> str:
        """`namespace/name@version`."""
        return f"{self.name}@{self.version}"

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the record in a folder.

        Args:
            folder: of the model.

        Raises:
            NotFoundError: there is none. InvalidInputError: it is not sound.
        """
        path = folder / FULL_FINE_TUNE_FILE
        if not path.is_file():
            raise NotFoundError(f"{folder}: no {FULL_FINE_TUNE_FILE}; expected what a full fine-tune wrote")
        return cls.parse_canonical(read_bounded(path, MAXIMUM_RECORD), str(path))
