"""The states of a registry file: a new one, one that is mended, and the next one after a change.

    loaded, reason = read_or_mend(raw, "registry.json", mending=True)
    after = next_state(loaded, change, "registry.json")

A file that cannot be read or written any more starts over with all that could be read of it, under a new
id: it is no longer the registry that others saw, and they are told.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping

from adapter_hub.errors import (
    ConflictError,
    DamagedFileError,
    IntegrityError,
    InvalidInputError,
    NewerFormatError,
)
from adapter_hub.formats.canonical import check_schema
from adapter_hub.formats.reference import other_spelling
from adapter_hub.formats.registry_file import (
    LAST_SEQUENCE,
    MAXIMUM_SIZE,
    REGISTRY_SCHEMA,
    Adapters,
    LoadedRegistry,
    VersionBlock,
    begun_registry,
    empty_registry,
    parse_registry,
    read_tree,
    with_adapters,
)


def new_registry() -> LoadedRegistry:
    """Return a registry without versions, with an id of its own."""
    return empty_registry(str(uuid.uuid4()))


def read_or_mend(raw: bytes, where: str, *, mending: bool) -> tuple[LoadedRegistry, str]:
    """Read a registry file, and let it start over where that is allowed and the only way out.

    Args:
        raw: the file.
        where: what messages call it.
        mending: whether a file that cannot be read or written any more may start over.

    Returns:
        The registry, and why it has to start over: empty if it is sound, else it has an id of its own, the
        sequence 0, and every entry that could be read.

    Raises:
        InvalidInputError: damaged (without `mending`), or written by a later program.
    """
    if not mending:
        return parse_registry(raw, where), ""
    try:
        loaded = parse_registry(raw, where)
    except NewerFormatError:
        raise
    except InvalidInputError as error:
        reason = error.problem if isinstance(error, DamagedFileError) else str(error)
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


def next_state(
    before: LoadedRegistry, change: Callable[[Adapters], None], where: str, *, anyway: bool = False
) -> LoadedRegistry | None:
    """Return the state to write after a change, or None if nothing changed.

    Args:
        before: the newest state.
        change: gets name → version → block to modify in place.
        where: what messages call the registry.
        anyway: return a next state even if nothing changed.

    Raises:
        IntegrityError: a published version would change its digest or vanish.
        ConflictError: a new name differs from a listed one by case alone.
        InvalidInputError: a block breaks the rules, or the file would be too large to be read again.
    """
    adapters: Adapters = {name: dict(versions) for name, versions in before.file.adapters.items()}
    change(adapters)
    adapters = {name: versions for name, versions in adapters.items() if versions}
    if adapters == before.file.adapters and not anyway:
        return None
    refuse_other_spellings(adapters.keys() - before.file.adapters.keys(), adapters, where)
    if broken := _broken_promises(before.file.adapters, adapters):
        raise IntegrityError(f"registry {where}: published versions never change", broken)
    after = with_adapters(before, adapters, where)
    if len(after.raw) > MAXIMUM_SIZE:
        raise InvalidInputError(
            f"registry {where}: would have {len(after.raw)} bytes, and at most {MAXIMUM_SIZE} are read; name "
            "another registry with --registry"
        )
    return after


def refuse_other_spellings(new: Iterable[str], listed: Iterable[str], where: str) -> None:
    """Refuse new names that differ by case alone from those that are listed.

    Args:
        new: `namespace/name` each.
        listed: the names that exist.
        where: what messages call the registry or store that lists them.

    Raises:
        ConflictError: with the spelling to use.
    """
    for name in new:
        if other := other_spelling(name, listed):
            raise ConflictError(
                f"{name}: {where} has {other}, and names that differ by case alone are one name; publish it "
                f"as {other}, with --as NAME@VERSION"
            )


def _broken_promises(before: Mapping[str, Mapping[str, VersionBlock]], after: Adapters) -> list[str]:
    """Return what would change or vanish, and what would get the digest of another version."""
    owners = {
        block.digest: f"{name}@{version}"
        for name, versions in before.items()
        for version, block in versions.items()
    }
    problems = []
    for name, versions in before.items():
        for version, block in versions.items():
            now = after.get(name, {}).get(version)
            if now is None:
                problems.append(f"{name}@{version} would vanish")
            elif now.digest != block.digest:
                problems.append(f"{name}@{version} would become {now.digest}, it is {block.digest}")
    for name, versions in after.items():
        for version in versions.keys() - before.get(name, {}).keys():
            if owner := owners.get(versions[version].digest):
                problems.append(f"{name}@{version} would have the digest of {owner}")
    return problems
