"""A registry file that cannot be read or written any more, begun anew with all that could be read of it.

    loaded, reason = mended_registry(raw, "registry.json")

Such a file gets an id of its own: it is not the registry any more that others saw, and they are told.
"""

from __future__ import annotations

import uuid

from adapter_hub.errors import InvalidInputError
from adapter_hub.formats.canonical import check_schema
from adapter_hub.formats.registry_file import (
    LAST_SEQUENCE,
    REGISTRY_SCHEMA,
    LoadedRegistry,
    begun_registry,
    empty_registry,
    parse_registry,
    read_tree,
)


def new_registry() -> LoadedRegistry:
    """Return a registry without versions, with an id of its own."""
    return empty_registry(str(uuid.uuid4()))


def mended_registry(raw: bytes, where: str) -> tuple[LoadedRegistry, str]:
    """Read a registry file to make it anew where that is the only way out.

    Returns:
        The registry, and why it has to begin anew: empty if it is sound, else it has an id of its own, the
        sequence 0, and every entry that could be read.

    Raises:
        InvalidInputError: written by a later program.
    """
    try:
        loaded = parse_registry(raw, where)
    except InvalidInputError as error:
        reason = str(error).partition("; restore it")[0]
    else:
        if loaded.file.sequence < LAST_SEQUENCE:
            return loaded, ""
        reason = f"its sequence is {LAST_SEQUENCE}, after which there is none"
    try:
        tree = read_tree(raw, where)
    except InvalidInputError:
        return new_registry(), reason
    schema = tree.get("schema") if isinstance(tree, dict) else None
    if isinstance(schema, str) and schema.startswith("registry/"):
        check_schema(schema, REGISTRY_SCHEMA, where)
    adapters = tree.get("adapters") if isinstance(tree, dict) else None
    return begun_registry(str(uuid.uuid4()), adapters if isinstance(adapters, dict) else {}), reason
