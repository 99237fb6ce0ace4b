"""Full fine-tunes: the papers' baselines, a Whisper folder with a record of how it was trained.

    record = FullFineTune.read(Path("out/da-full"))
    load_base_model("out/da-full")                     # it is a base model like any other

Every weight was trained, so it is not an adapter: it is evaluated as a base model, another recipe can start
from it, and nothing publishes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field

from adapter_hub.errors import NotFoundError
from adapter_hub.files.reading import read_bounded
from adapter_hub.formats.canonical import Digest, Record, Text, UtcTime
from adapter_hub.formats.manifest import BaseModelPin, DataSource, Name, Training, VersionText

FULL_FINE_TUNE_FILE = "full_fine_tuning.json"
SCHEMA = "full-fine-tune/1"
MAXIMUM_RECORD = 4 * 2**20  # bytes, as of a manifest


class FullFineTune(Record):
    """The record of a full fine-tune, `full_fine_tuning.json` beside the model's files.

    Attributes:
        schema: of this record.
        name: of the recipe.
        version: of the recipe.
        created: when it was finished.
        authors: as the recipe names them.
        license: SPDX expression.
        task: what it writes: the language spoken, or English.
        timestamps: whether it was trained with timestamp tokens.
        decode_languages: Whisper's languages of the rows that it was trained on, sorted.
        base_model: what training started from.
        digest: of the new model, see base model digest.
        data: that it was trained on.
        recipe: TOML text of the training.
        training: how it ran.
    """

    schema_: Annotated[Literal["full-fine-tune/1"], Field(alias="schema")]
    name: Name
    version: VersionText
    created: UtcTime
    authors: tuple[Text, ...]
    license: Text
    task: Literal["transcribe", "translate"]
    timestamps: bool
    decode_languages: Annotated[tuple[Text, ...], Field(min_length=1)]
    base_model: BaseModelPin
    digest: Digest
    data: tuple[DataSource, ...]
    recipe: Text
    training: Training

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
