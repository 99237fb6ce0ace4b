"""What no write into a registry may break: a published version keeps its digest, and a digest its version."""

from __future__ import annotations

from collections.abc import Mapping

from adapter_hub.formats.registry_file import Adapters, VersionBlock


def broken_promises(before: Mapping[str, Mapping[str, VersionBlock]], after: Adapters) -> list[str]:
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
