"""Write the schema files beside this module."""

from __future__ import annotations

from adapter_hub.formats.schemas import FOLDER, render_schemas

for name, text in render_schemas().items():
    (FOLDER / name).write_text(text, encoding="utf-8")
