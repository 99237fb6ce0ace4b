"""JSON Schema of the records, for readers and editors that are not Python.

    python -m adapter_hub.formats.schemas      # writes them anew after a record changed

The files beside this module are what the records say; a test compares the two.
"""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parent


def render_schemas() -> dict[str, str]:
    """Return the text of every schema file by its name."""
    from adapter_hub.formats.canonical import Record
    from adapter_hub.formats.claims import EvaluationReport, Finding, StatusEntry
    from adapter_hub.formats.full_fine_tune import FullFineTune
    from adapter_hub.formats.lock_file import LockFile
    from adapter_hub.formats.manifest import Manifest
    from adapter_hub.formats.registry_file import RegistryFile

    records: dict[str, type[Record]] = {
        "adapter.json": Manifest,
        "evaluation.json": EvaluationReport,
        "finding.json": Finding,
        "full-fine-tune.json": FullFineTune,
        "lock.json": LockFile,
        "registry.json": RegistryFile,
        "status-entry.json": StatusEntry,
    }
    return {
        name: json.dumps(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", **record.model_json_schema()},
            indent=2,
            sort_keys=True,
        )
        + "\n"
        for name, record in records.items()
    }
