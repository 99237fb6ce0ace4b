"""JSON Schema of the records, for readers and editors that are not Python.

    python -m adapter_hub.schemas      # writes them anew after a record changed

The files beside this module are what the records say; a test compares the two.
"""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parent


def render_schemas() -> dict[str, str]:
    """Return the text of every schema file by its name."""
    from adapter_hub.canonical import Record
    from adapter_hub.full_fine_tune import FullFineTune
    from adapter_hub.lockfile import LockFile
    from adapter_hub.manifest import Manifest
    from adapter_hub.registry_file import RegistryFile
    from adapter_hub.report import EvaluationReport, Finding, StatusEntry

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
