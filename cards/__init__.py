"""Model cards and the catalogue's table, rendered from the records and never edited by hand.

    text = render_card(manifest, reports, status)      # README.md of an adapter, front matter included
    text = render_export_card(record, manifests, name)  # README.md of what `export` wrote
    table = render_catalogue(registry.adapters)        # the table in this project's README

The same records always give the same bytes, so that a card that differs from its rendering was edited.
"""

from __future__ import annotations

from adapter_hub.cards.catalogue import render_catalogue, with_catalogue
from adapter_hub.cards.export_card import render_export_card
from adapter_hub.cards.front_matter import spdx_licence
from adapter_hub.cards.model_card import render_card

__all__ = ["render_card", "render_catalogue", "render_export_card", "spdx_licence", "with_catalogue"]
