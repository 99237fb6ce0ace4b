"""List: every version that the registries hold, as plain data.

for row in list_versions(language="da"):
print(row["name"], row["version"], row["status"])
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from packaging.version import Version

from adapter_hub.exchange.places import Places
from adapter_hub.formats.registry_file import VersionBlock
from adapter_hub.registry.standing import Standing, Standings


def list_versions(
    places: Places | None = None,
    *,
    language: str | None = None,
    base_model: str | None = None,
    method: str | None = None,
    status: str | None = None,
) -> list[dict[str, Any]]:
    """Return the versions in the user's registry, then those of the embedded catalogue.

    Args:
        places: the registries to ask, and who gets warnings; the user's by default.
        language: only adapters for this BCP 47 tag.
        base_model: only adapters of this base model: its id or digest.
        method: only adapters made with it, like `lora`.
        status: only versions with it, like `active`.

    Returns:
        For each version its name, version and registry, and what the registry says of it, with the strictest
        status that any of them knows. Of an entry that cannot be read, `reason` says why.
    """
    rows = list(_versions(places or Places()))
    return those(rows, language=language, base_model=base_model, method=method, status=status)


def those(
    rows: Iterable[dict[str, Any]],
    *,
    language: str | None,
    base_model: str | None,
    method: str | None,
    status: str | None,
) -> list[dict[str, Any]]:
    """Return the rows of `list_versions` that have all that is asked for.

    Args:
        rows: of all versions.
        language: as there.
        base_model: as there.
        method: as there.
        status: as there.
    """
    return [
        row
        for row in rows
        if (language is None or language.lower() in [tag.lower() for tag in row.get("languages", ())])
        and (base_model is None or base_model in row.get("base_model", {}).values())
        and method in (None, row.get("method"))
        and status in (None, row["status"])
    ]


def _versions(places: Places) -> Iterator[dict[str, Any]]:
    """Yield every version; one that is in several registries is yielded once."""
    seen = set()
    registries = places.registries()
    standings = Standings(registries)
    for registry in registries:
        for warning in registry.warnings:
            places.warn(warning)
        for (name, version), why in registry.unreadable.items():
            row = {"name": name, "version": version, "registry": registry.label}
            yield {**row, "status": "unreadable", "reason": why}
        for name in sorted(registry.adapters):
            versions = registry.adapters[name]
            for version in sorted(versions, key=Version):
                block = versions[version]
                if (name, version, block.digest) not in seen:
                    seen.add((name, version, block.digest))
                    yield {
                        "name": name,
                        "version": version,
                        "registry": registry.label,
                        **block.to_json(),
                        **_strictest(standings.of(block.digest, block.function_digest), block),
                    }


def _strictest(standing: Standing | None, block: VersionBlock) -> dict[str, str]:
    """Return status and reason where another registry, or what this machine remembers, is stricter."""
    if standing is None or standing.status == block.status:
        return {}
    return {"status": standing.status, "reason": str(standing)}
