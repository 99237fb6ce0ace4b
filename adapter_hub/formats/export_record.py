"""What `export` wrote: which adapters are in it, on which base model, in which form.

    record = ExportRecord.read(Path("out/da"))
    record.ref, record.base_model.digest, [adapter.digest for adapter in record.adapters]

It is beside the files of the exported model and lists all of them. What is exported is for other programs; it
is not published as an adapter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from adapter_hub.errors import NotFoundError
from adapter_hub.files.reading import read_bounded
from adapter_hub.formats.canonical import Count, Digest, Record, Sha256, Text, UtcTime
from adapter_hub.formats.full_fine_tune import ModelParent
from adapter_hub.formats.manifest import BaseModelPin, Language
from adapter_hub.formats.reference import BASE_MODEL

EXPORT_FILE = "export.json"
SCHEMA = "export/1"
MAXIMUM_RECORD = 4 * 2**20  # bytes, as of a manifest

Format = Literal["transformers", "ctranslate2", "peft"]
DType = Literal["float32", "float16", "bfloat16"]
# the names that CTranslate2 has for them; a test compares them with its own
Quantization = Literal[
    "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16", "float16", "bfloat16", "float32"
]
FORMATS: tuple[Format, ...] = get_args(Format)
DTYPES: tuple[DType, ...] = get_args(DType)
QUANTIZATIONS: tuple[Quantization, ...] = get_args(Quantization)


class ExportedFile(Record):
    """A file of what was exported.

    Attributes:
        path: relative POSIX path.
        size: bytes.
        sha256: of its bytes.
    """

    path: Text
    size: Count
    sha256: Sha256


class ExportRecord(Record):
    """The provenance of an exported model, beside its files.

    Attributes:
        schema: of this record.
        format: whose files these are.
        precision: of the weights: a dtype, or in CTranslate2's format one of its quantizations.
        created: when it was finished.
        base_model: that the adapters are for.
        adapters: that are merged into it, or in PEFT's format the one that it is, each with its weight; none:
            the base model alone.
        languages: of the adapters.
        task: what it writes: the language spoken, or English; absent for the base model alone.
        license: SPDX expression of the adapters; absent for the base model alone.
        digest: in transformers' format what the new model's digest is as a base model.
        packages: versions by package.
        files: all others in the folder, sorted by path.
    """

    schema_: Annotated[Literal["export/1"], Field(alias="schema")]
    format: Format
    precision: Quantization
    created: UtcTime
    base_model: BaseModelPin
    adapters: tuple[ModelParent, ...]
    languages: tuple[Language, ...]
    task: Literal["transcribe", "translate"] | None = None
    license: Text | None = None
    digest: Digest | None = None
    packages: dict[str, str]
    files: Annotated[tuple[ExportedFile, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.digest is None) == (self.format == "transformers"):
            raise ValueError("expected a digest in transformers' format, and in no other")
        if not self.adapters and (self.format == "peft" or self.languages or self.task or self.license):
            raise ValueError("the base model alone has no PEFT format, and no languages, task or licence")
        if self.format != "ctranslate2" and self.precision not in DTYPES:
            raise ValueError(f"precision {self.precision}: expected one of {', '.join(DTYPES)}")
        if not all(adapter.kind and adapter.name and adapter.version for adapter in self.adapters):
            raise ValueError("expected adapters with names and versions")
        return self

    @property
    def ref(self) -> str:
        """The adapter as `namespace/name@version`, several with their weights, or `base-model`."""
        if [adapter.weight for adapter in self.adapters] == [1.0]:
            return f"{self.adapters[0].name}@{self.adapters[0].version}"
        parts = (f"{adapter.name}@{adapter.version}*{adapter.weight:g}" for adapter in self.adapters)
        return "+".join(parts) or BASE_MODEL

    @property
    def size(self) -> int:
        """Bytes of all files, without the record's own."""
        return sum(file.size for file in self.files)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the record in a folder; the files that it lists are not compared.

        Args:
            folder: that `export` wrote.

        Raises:
            NotFoundError: there is none. InvalidInputError: it is not sound.
        """
        path = folder / EXPORT_FILE
        if not path.is_file():
            raise NotFoundError(f"{folder}: no {EXPORT_FILE}; expected what `adapter-hub export` wrote")
        return cls.parse_canonical(read_bounded(path, MAXIMUM_RECORD), str(path))
