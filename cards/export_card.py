"""The card of an exported model: for people who have neither this library nor the adapter's own card.

text = render_export_card(record, [artifact.manifest], "da")
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from adapter_hub.base_model.families import FAMILIES, WHISPER, family_of_architecture
from adapter_hub.cards.front_matter import Foreign, as_yaml, is_model_id, language_fields, licence_fields
from adapter_hub.cards.model_card import card_environment
from adapter_hub.formats.export_record import ExportRecord
from adapter_hub.formats.manifest import Manifest

READERS = {"transformers": "transformers", "ctranslate2": "CTranslate2 and faster-whisper", "peft": "PEFT"}
RELATIONS = {"transformers": "finetune", "ctranslate2": "quantized", "peft": "adapter"}


def render_export_card(record: ExportRecord, manifests: Sequence[Manifest], name: str) -> str:
    """Return the README.md of an exported model.

    Args:
        record: of the export; which files it lists does not matter.
        manifests: of its adapters, in the order of the record.
        name: of the folder, for the example.
    """
    family = family_of_architecture(record.base_model.architecture)
    template = card_environment().get_template("export.md.j2")
    codes = {language.decode_language for language in record.languages}
    return template.render(
        front_matter=as_yaml(_front_matter(record, family)),
        record=record,
        manifests=manifests,
        reader=READERS[record.format],
        folder=json.dumps(name),
        base_class=FAMILIES[family].architecture,
        whisper=family == WHISPER,
        language=json.dumps(codes.pop()) if len(codes) == 1 else None,
        task=json.dumps(record.task or "transcribe"),
    )


def _front_matter(record: ExportRecord, family: str) -> dict[str, Any]:
    base = record.base_model.id
    changed = bool(record.adapters) or record.format == "ctranslate2"
    return {
        **language_fields([language.tag for language in record.languages]),
        **(licence_fields(record.license) if record.license else {}),
        **({"base_model": Foreign(base)} if is_model_id(base) else {}),
        **({"base_model_relation": RELATIONS[record.format]} if changed else {}),
        "library_name": record.format,
        "pipeline_tag": "automatic-speech-recognition",
        "tags": ["adapter-hub", family.partition("_")[0]],
    }
