"""The tables of docs/recipe.md, rendered from `adapter_hub.trainers.recipe_tables`.

Type, limits and default are the JSON schema's; the meaning of a key is the comment on its line, and what a
table is for is its docstring.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
import tokenize
from collections.abc import Iterator, Mapping
from typing import Any

from adapter_hub.formats.canonical import Record
from adapter_hub.trainers import recipe_tables
from adapter_hub.trainers.recipe_tables import TABLES, SourceTable

HEADINGS = ("key", "type", "default", "meaning")
BEGIN, END = "<!-- recipe: begin -->", "<!-- recipe: end -->"
SECTIONS: Mapping[str, type[Record]] = {
    "`[adapter]`": TABLES["adapter"],
    "`[base_model]`": TABLES["base_model"],
    "`[data]`": TABLES["data"],
    "`[[data.train]]` and `[[data.dev]]`": SourceTable,
    "`[lora]`": TABLES["lora"],
    "`[training]`": TABLES["training"],
    "`[distillation]`": TABLES["distillation"],
    "`[seed]` and `[expert]`": TABLES["seed"],
    "`[gate]`": TABLES["gate"],
}
LIMITS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}
NAMES = {"string": "string", "integer": "integer", "number": "number", "boolean": "true or false"}


def with_tables(page: str) -> str:
    """Return the page with what is between the two markers rendered again."""
    head, _, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    assert end, f"docs/recipe.md needs {BEGIN} and, below it, {END}"
    return f"{head}{BEGIN}\n{''.join(map(_section, SECTIONS))}\n{END}{tail}"


def meanings() -> dict[str, dict[str, str]]:
    """Return the comment of every key, by the name of its table's class."""
    source = inspect.getsource(recipe_tables)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}
    return {
        node.name: {
            field.target.id: comments.get(field.end_lineno or 0, "").lstrip("# ")
            for field in node.body
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        }
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef)
    }


def _section(title: str) -> str:
    table = SECTIONS[title]
    about = re.sub(r"^`\[\w+\]`[:;,] ", "", inspect.cleandoc(table.__doc__ or ""))  # the heading says that
    rows = [HEADINGS, ("---",) * len(HEADINGS), *_rows(table)]
    lines = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return f"\n## {title}\n\n{about[0].upper()}{about[1:]}\n\n{lines}"


def _rows(table: type[Record]) -> Iterator[tuple[str, ...]]:
    schema = table.model_json_schema()
    for key, field in schema["properties"].items():
        required = key in schema.get("required", ())
        default = "**required**" if required else _default(field.get("default"))
        yield f"`{key}`", _type(field, schema), default, meanings()[table.__name__][key]


def _default(value: Any) -> str:
    return "" if value in (None, [], {}) else f"`{json.dumps(value)}`"


def _type(field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return a JSON schema in words."""
    if "$ref" in field:
        return "table"
    if "anyOf" in field:
        return " or ".join(_type(item, schema) for item in field["anyOf"] if item.get("type") != "null")
    if "enum" in field:
        return ", ".join(f"`{json.dumps(item)}`" for item in field["enum"])
    if field["type"] == "array":
        items = field["items"]
        return f"list of {_type(items, schema)}{'' if 'enum' in items else 's'}"
    if field["type"] == "object":
        return f"table of {_type(field['additionalProperties'], schema)}"
    limits = [f"{words} {field[name]:.10g}" for name, words in LIMITS.items() if name in field]
    return ", ".join([NAMES[field["type"]], *limits])
