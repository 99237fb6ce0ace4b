"""The exported JSON Schemas say what the records say."""

from __future__ import annotations

import json

import pytest

from adapter_hub.formats.schemas import FOLDER, render_schemas

RENDERED = render_schemas()


@pytest.mark.parametrize("name", RENDERED)
def test_a_schema_file_is_what_its_record_says(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == RENDERED[name], "run `make schemas`"


def test_there_is_no_schema_without_a_record() -> None:
    assert {path.name for path in FOLDER.glob("*.json")} == set(RENDERED)


def test_the_schemas_name_every_field_and_refuse_unknown_ones() -> None:
    schema = json.loads(RENDERED["adapter.json"])
    assert schema["additionalProperties"] is False
    assert {"schema", "name", "version", "files", "weights_digest", "parents"} <= set(schema["properties"])
    assert {"schema", "name", "base_model", "lora"} <= set(schema["required"])
