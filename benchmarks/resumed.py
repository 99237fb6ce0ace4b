"""Rows of a page that take minutes each: kept in the page's JSON file, so that a later run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Rows = dict[str, dict[str, Any]]


def read_rows(path: Path) -> Rows:
    """Return the rows that are known already, by name.

    Args:
        path: of the JSON file; none is none.
    """
    return json.loads(path.read_text())["rows"] if path.is_file() else {}


def write_rows(path: Path, rows: Rows, **more: Any) -> None:
    """Write the rows, with whatever else is to be known about them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**more, "rows": rows}, indent=1, ensure_ascii=False) + "\n")
