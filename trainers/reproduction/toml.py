"""Recipes as the text that is written into a run's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def toml_text(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Return tables as TOML: values of their own first, then arrays of tables.

    Args:
        tables: by name; a value is a scalar, an array, or an array of tables.
    """
    parts = []
    for name, table in tables.items():
        arrays = {key: rows for key, rows in table.items() if _is_array_of_tables(rows)}
        own = {key: value for key, value in table.items() if key not in arrays}
        if own or not arrays:
            parts.append(f"[{name}]\n{_lines(own)}")
        parts += [f"[[{name}.{key}]]\n{_lines(row)}" for key, rows in arrays.items() for row in rows]
    return "\n".join(parts)


def _is_array_of_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _lines(values: Mapping[str, object]) -> str:
    # what JSON and TOML write alike: strings, numbers, true and false, arrays
    return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items())
