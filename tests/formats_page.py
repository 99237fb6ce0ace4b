"""What docs/formats.md shows of the code: fields of records, defaults of base models, worked examples.

Each is between `<!-- made: KIND WORDS -->` and `<!-- end -->`; the rest of the page is written by hand, and
tests/test_formats_page.py follows it without this project's code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from recipe_page import LIMITS

from adapter_hub import embedded
from adapter_hub.artifact.folder import Artifact
from adapter_hub.artifact.peft_config import PeftConfig
from adapter_hub.artifact.weights import GATE_FILE, ROLE_FOLDERS
from adapter_hub.base_model import settings
from adapter_hub.base_model.digest import base_model_digest
from adapter_hub.data.dataset import content_sha256
from adapter_hub.formats import manifest
from adapter_hub.formats.canonical import Record
from adapter_hub.formats.manifest import PARENT_RULES
from adapter_hub.formats.schemas import described, records_by_name, schema_of

EXAMPLE = "mini/da"  # of the embedded catalogue
MADE = re.compile(r"<!-- made: (?P<words>[^>]+) -->\n.*?<!-- end -->", re.DOTALL)
PATTERNS = {
    r"^sha256:[0-9a-f]{64}$": "digest",
    r"^[0-9a-f]{64}$": "sha256",
    r"^[0-9a-f]{40}$": "40 hexadecimal digits",
    rf"^{manifest.NAME_PATTERN}$": "name",
    rf"^{manifest.VERSION_PATTERN}$": "version",
    rf"^{manifest.BASE_MODEL_PATTERN}$": "base model id",
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$": "time",
}
RECORDS = {name: kind for name, kind in records_by_name().items() if kind is not Record}


def with_tables(page: str) -> str:
    """Return the page with everything that is made from the code as it is now."""

    def made(match: re.Match[str]) -> str:
        kind, *words = match["words"].split()
        return f"<!-- made: {match['words']} -->\n\n{MAKERS[kind](*words).strip()}\n\n<!-- end -->"

    return MADE.sub(made, page)


def fields(*names: str) -> str:
    """Return a table for each record."""
    return "\n".join(map(_fields, names))


def _fields(name: str) -> str:
    record = RECORDS[name]
    schema = schema_of(record)
    summary, _ = described(record)
    rows = [
        (f"`{field}`", _type(part, schema), _presence(field, schema), part["description"])
        for field, part in schema["properties"].items()
    ]
    return f"**{name}.** {summary}\n\n{_table(('field', 'type', 'present', 'meaning'), rows)}"


def _presence(field: str, schema: Mapping[str, Any]) -> str:
    if field in schema.get("required", ()):
        return "always"
    default = schema["properties"][field].get("default")
    return "optional" if default is None else f"always (`{json.dumps(default)}` without any)"


def _type(field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return a JSON Schema in words."""
    if "$ref" in field:
        return field["$ref"].rpartition("/")[2]
    if "anyOf" in field:
        return " or ".join(_type(item, schema) for item in field["anyOf"] if item.get("type") != "null")
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{json.dumps(item)}`" for item in field["enum"])
    if field["type"] == "array":
        return f"list of {_type(field['items'], schema)}{_count(field)}"
    if field["type"] == "object":
        for pattern, values in field.get("patternProperties", {}).items():
            return f"object: {PATTERNS[pattern]} to {_type(values, schema)}"
        return f"object: string to {_type(field['additionalProperties'], schema)}"
    if field["type"] == "string":
        return _string(field)
    if (field.get("minimum"), field.get("exclusiveMaximum")) == (0, 2**53):
        return "count"
    limits = [f"{words} {field[name]:.10g}" for name, words in LIMITS.items() if name in field]
    return ", ".join([{"boolean": "true or false"}.get(field["type"], field["type"]), *limits])


def _string(field: Mapping[str, Any]) -> str:
    if "pattern" in field:
        return PATTERNS[field["pattern"]]
    if (field.get("minLength"), field.get("maxLength")) == (1, 4096):
        return "text"
    least = ", not empty" if field.get("minLength") else ""
    return f"string{least}" + (f", at most {field['maxLength']} characters" if "maxLength" in field else "")


def _count(field: Mapping[str, Any]) -> str:
    least, most = field.get("minItems"), field.get("maxItems")
    return f", {least or 0} to {most}" if most else f", at least {least}" if least else ""


def methods() -> str:
    """Return what each method takes and which files it has."""
    rows = []
    for method, rules in PARENT_RULES.items():
        parents = [
            f"`{role}` ×{least if least == most else f'{least} to {most}'}"
            for role, (least, most) in rules.items()
        ]
        pair = method == "expert-pair"
        roles = ("parent", "child") if pair else ("self",)
        files = [f"`{ROLE_FOLDERS[role]}{name}`" for role in roles for name in PEFT_FILES]
        files += [f"`{GATE_FILE}`"] if pair else []
        rows.append(
            (
                f"`{method}`",
                ", ".join(parents) or "none",
                ", ".join(f"`{role}`" for role in roles),
                "yes" if pair else "no",
                ", ".join(files),
            )
        )
    return _table(("method", "parents", "roles in `lora`", "`gate`", "files beside `adapter.json`"), rows)


PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors")


def base_model() -> str:
    """Return the tables that the base model digest needs."""
    neutral = ", ".join(f"`{name}`" for name in sorted(settings.NEUTRAL_GENERATION))
    return "\n".join(
        [
            "**Config.** Fields and defaults:\n",
            _defaults({**settings.SIZES, **settings.SWITCHES, **ACTIVATION, **settings.CONFIG_IDS}),
            "**Config aliases.** Another name of a field:\n",
            _table(("alias", "field"), [(f"`{a}`", f"`{b}`") for a, b in settings.ALIASES.items()]),
            f"**Generation, left out always:** {neutral}.\n",
            "**Generation, left out at this value:**\n",
            _defaults(settings.GENERATION_DEFAULTS),
            "**Features.** Fields and defaults:\n",
            _defaults(settings.FEATURES),
        ]
    )


ACTIVATION = {"activation_function": "gelu"}


def _defaults(values: Mapping[str, Any]) -> str:
    rows = [(f"`{name}`", f"`{json.dumps(value)}`") for name, value in values.items()]
    return _table(("field", "default"), rows)


def peft() -> str:
    """Return the fields of PEFT's configuration that are read."""
    schema = PeftConfig.model_json_schema()
    required = schema["required"]
    names = [f"`{name}`" for name in schema["properties"] if name not in required]
    needed = ", ".join(f"`{name}`" for name in required)
    return f"Needed: {needed}. Read where they are there: {', '.join(names)}."


def example(what: str) -> str:
    """Return a value of the embedded catalogue."""
    artifact = Artifact.open(embedded.store_path() / EXAMPLE / "1.0.0")
    values: Mapping[str, Callable[[], str]] = {
        "digest": lambda: artifact.digest,
        "weights_digest": lambda: artifact.manifest.weights_digest,
        "function_digest": lambda: artifact.manifest.function_digest,
        "base_model_digest": lambda: base_model_digest(embedded.base_model_path()),
        "data_sha256": lambda: content_sha256([("0" * 64, "to"), ("f" * 64, "otte")]),
    }
    return f"```text\n{values[what]()}\n```"


MAKERS: Mapping[str, Callable[..., str]] = {
    "fields": fields,
    "methods": methods,
    "base_model": base_model,
    "peft": peft,
    "example": example,
}


def _table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines: Iterator[tuple[str, ...]] = iter([headings, ("---",) * len(headings), *rows])
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in lines)
