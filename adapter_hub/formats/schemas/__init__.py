"""JSON Schema of the records, for readers and editors that are not Python.

    python -m adapter_hub.formats.schemas      # writes them again after a record changed

The files beside this module are what the records say; a test compares the two.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from adapter_hub.formats.canonical import Record

FOLDER = Path(__file__).parent
_ATTRIBUTE = re.compile(r"^    (\w+): (.+(?:\n {8}.+)*)", re.MULTILINE)


def render_schemas() -> dict[str, str]:
    """Return the text of every schema file by its name."""
    return {
        name: json.dumps(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema_of(record)},
            indent=2,
            sort_keys=True,
        )
        + "\n"
        for name, record in records().items()
    }


def records() -> dict[str, type[Record]]:
    """Return the record of every schema file by its name."""
    from adapter_hub.formats.claims import EvaluationReport, Finding, StatusEntry
    from adapter_hub.formats.export_record import ExportRecord
    from adapter_hub.formats.full_fine_tune import FullFineTune
    from adapter_hub.formats.lock_file import LockFile
    from adapter_hub.formats.manifest import Manifest
    from adapter_hub.formats.registry_file import RegistryFile

    return {
        "adapter.json": Manifest,
        "evaluation.json": EvaluationReport,
        "export.json": ExportRecord,
        "finding.json": Finding,
        "full-fine-tune.json": FullFineTune,
        "lock.json": LockFile,
        "registry.json": RegistryFile,
        "status-entry.json": StatusEntry,
    }


def schema_of(record: type[Record]) -> dict[str, Any]:
    """Return a record's JSON Schema, with what its docstrings say of every field.

    Args:
        record: a class of records.
    """
    schema = record.model_json_schema()
    known = records_by_name()
    for name, part in [(record.__name__, schema), *schema.get("$defs", {}).items()]:
        part["description"], meanings = described(known[name])
        for field, meaning in meanings.items():
            part["properties"][field]["description"] = meaning
    return schema


def described(record: type[Record]) -> tuple[str, dict[str, str]]:
    """Return what docstrings say of a record, and of its fields, inherited ones among them.

    Args:
        record: a class of records.
    """
    meanings: dict[str, str] = {}
    for kind in reversed(record.__mro__[: record.__mro__.index(BaseModel)]):
        _, _, attributes = (inspect.getdoc(kind) or "").partition("\nAttributes:\n")
        meanings |= {name: " ".join(text.split()) for name, text in _ATTRIBUTE.findall(attributes)}
    summary = (inspect.getdoc(record) or "").partition("\nAttributes:\n")[0]
    return " ".join(summary.split()), meanings


def records_by_name() -> dict[str, type[Record]]:
    """Return every record, by the name that JSON Schema gives it."""
    from adapter_hub.formats import claims, export_record, full_fine_tune, lock_file, manifest, registry_file
    from adapter_hub.formats.canonical import Record

    return {
        name: kind
        for module in (claims, export_record, full_fine_tune, lock_file, manifest, registry_file)
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, Record)
    }
