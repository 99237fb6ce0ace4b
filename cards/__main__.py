"""Refresh the catalogue's table in a README: `python -m adapter_hub.cards README.md`."""

from __future__ import annotations

import sys
from pathlib import Path

from adapter_hub import embedded
from adapter_hub.cards.catalogue import with_catalogue
from adapter_hub.paths import write_atomically
from adapter_hub.registry import Registry


def refresh(readme: Path) -> None:
    """Render the embedded registry between the README's two markers."""
    adapters = Registry(embedded.registry_path(), read_only=True).adapters
    text = with_catalogue(readme.read_text(encoding="utf-8"), adapters)
    write_atomically(readme, text.encode())


if __name__ == "__main__":
    refresh(Path(sys.argv[1] if len(sys.argv) > 1 else "README.md"))
