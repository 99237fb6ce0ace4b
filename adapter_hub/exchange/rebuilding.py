"""The registry rebuilt from the stores, and the two compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapter_hub.errors import IntegrityError
from adapter_hub.exchange.holdings import StoreContents, contents_of
from adapter_hub.exchange.places import check_pair
from adapter_hub.exchange.statuses import keep_statuses
from adapter_hub.formats.claims import Finding
from adapter_hub.formats.reference import other_spelling
from adapter_hub.formats.registry_file import Adapters, VersionBlock
from adapter_hub.registry.contract import Registry, WritableRegistry
from adapter_hub.registry.standing import Standings
from adapter_hub.reporting import Tell
from adapter_hub.stores.contract import Store


@dataclass(frozen=True)
class Rebuilt:
    """What came of rebuilding.

    Attributes:
        changed: whether the registry had to be written.
        findings: what the stores could not give; everything else is as they say.
    """

    changed: bool
    findings: tuple[Finding, ...] = ()


def rebuild(registry: WritableRegistry, stores: Sequence[Store], tell: Tell | None = None) -> Rebuilt:
    """Rebuild the registry's blocks from everything that the stores hold; none of them ever vanishes.

    A version whose bytes are lost keeps its block, and so does an entry that a newer program wrote. One that
    cannot be read or written any more starts over, under a new id.

    Args:
        registry: need not exist.
        stores: all that hold versions of it; the order does not matter.
        tell: called with a line for every status that is kept although no store records it any more.

    Returns:
        Whether anything changed, and what is lost, damaged or in doubt.

    Raises:
        UnreachableError: no store can be asked; what is in one that cannot stays unchecked, a finding each.
    """
    for store in stores:
        check_pair(registry, store)
    remembered = _remembered(registry)
    registry.mend()
    findings: list[Finding] = []

    def change(adapters: Adapters) -> None:
        contents = contents_of(stores, registry)  # in here, so that it knows what others listed meanwhile
        kept.update(keep_statuses(contents.adapters, registry))
        findings[:] = _content_findings(contents, registry)
        doubtful = _spellings(contents, registry)
        for name in contents.adapters.keys() - doubtful.keys():
            versions = contents.adapters[name]
            listed = adapters.setdefault(name, {})
            listed.update({v: block for v, block in versions.items() if _may_replace(listed.get(v), block)})

    kept: dict[str, str] = {}
    changed = registry.update(change)
    Standings((registry,))  # remembers what it says now
    for line in kept.values() if tell else ():
        assert tell is not None
        tell(line)
    for ref, digest in sorted(remembered.items()):
        name, _, version = ref.partition("@")
        if version not in registry.adapters.get(name, {}) and not registry.why_unreadable(name, version):
            message = f"this machine saw it ({digest}), and neither the registry nor a store has it"
            hint = "publish it again, if you have its bytes"
            findings.append(_error("registry-forgotten", ref, message, hint))
    return Rebuilt(changed, tuple(findings))


def _may_replace(listed: VersionBlock | None, block: VersionBlock) -> bool:
    return listed is None or listed.digest == block.digest


def _remembered(registry: WritableRegistry) -> Mapping[str, str]:
    """Return what this machine saw of the registry at this place."""
    try:
        there = registry.memory.recall_place()
        memory = registry.memory.recall(there.registry_id) if there else None
    except IntegrityError:
        return {}  # reported when the registry is read
    return memory.versions if memory else {}


def check(registry: Registry, stores: Sequence[Store]) -> list[Finding]:
    """Compare the registry with what the stores hold; an empty list means that they agree.

    Args:
        registry: to compare.
        stores: all that hold versions of it.

    Returns:
        One finding for every version and every claim that is wrong.

    Raises:
        UnreachableError: no store can be asked; what is in one that cannot stays unchecked, a finding each.
    """
    contents = contents_of(stores, registry)
    findings = [
        _error(
            "registry-status-lost", ref, line, "restore the store's status.json, or retire the version again"
        )
        for ref, line in keep_statuses(contents.adapters, registry).items()
    ]
    findings += _content_findings(contents, registry)
    told = {finding.ref for finding in findings}
    for name, version in sorted(_versions(registry.adapters) | _versions(contents.adapters)):
        listed = registry.adapters.get(name, {}).get(version)
        held = contents.adapters.get(name, {}).get(version)
        if held is not None and listed != held and f"{name}@{version}" not in told:
            findings.append(_difference(f"{name}@{version}", listed, held))
    return sorted(findings, key=lambda finding: finding.ref)


def _content_findings(contents: StoreContents, registry: Registry) -> list[Finding]:
    """Return what the stores could not give: lost and damaged versions and claims."""
    findings = list(contents.findings)
    for name, why in sorted(contents.unasked.items()):
        message = f"not reachable, not checked: {why}"
        hint = "run the command again where its store can be reached; its entries stay as they are"
        findings.append(
            Finding(code="registry-unasked", severity="info", ref=name, message=message, hint=hint)
        )
    for name, other in sorted(_spellings(contents, registry).items()):
        message = f"a store has {other}, too, and names that differ by case alone are one name"
        hint = "publish one of the two as the other, with --as NAME@VERSION, and move its folder away"
        findings += [
            _error("registry-spelling", f"{name}@{version}", message, hint)
            for version in sorted(contents.adapters[name])
        ]
    for name, version in sorted(_versions(registry.adapters) | contents.lost.keys()):
        if name in contents.unasked:
            continue
        ref, reasons = f"{name}@{version}", "; ".join(contents.lost.get((name, version), ()))
        listed = registry.adapters.get(name, {}).get(version)
        if version in contents.adapters.get(name, {}):
            if reasons:
                message = f"one store does not have it whole, another has: {reasons}"
                hint = "publish it again with --store naming the first"
                findings.append(_error("registry-copy-damaged", ref, message, hint))
        elif listed is None:
            message = f"a store holds something in its place that cannot be read: {reasons}"
            hint = "publish it again, or move what is there away"
            findings.append(_error("registry-unreadable", ref, message, hint))
        elif listed.status != "withdrawn":
            findings.append(_lost(ref, reasons))
    return findings


def _spellings(contents: StoreContents, registry: Registry) -> dict[str, str]:
    """Return new names that differ by case alone from a listed one or from another new one, and that one."""
    there = {*registry.adapters, *contents.adapters}
    new = contents.adapters.keys() - registry.adapters.keys()
    found = {name: other_spelling(name, there) for name in new}
    return {name: other for name, other in found.items() if other}


def _lost(ref: str, reasons: str) -> Finding:
    return _error(
        "registry-without-bytes",
        ref,
        f"listed in the registry, but not in any of the stores{f': {reasons}' if reasons else ''}",
        "publish the same bytes again, which restores it, or name the store that has it with --store; if "
        f"they are lost, `adapter-hub retire {ref} --status withdrawn --reason TEXT`",
    )


def _versions(adapters: Mapping[str, Mapping[str, VersionBlock]]) -> set[tuple[str, str]]:
    return {(name, version) for name, versions in adapters.items() for version in versions}


def _error(code: str, ref: str, message: str, hint: str) -> Finding:
    return Finding(code=code, severity="error", ref=ref, message=message, hint=hint)


def _difference(ref: str, listed: VersionBlock | None, held: VersionBlock) -> Finding:
    rebuild_it = "`adapter-hub registry rebuild` writes what the stores say"
    if listed is None:
        return Finding(
            code="registry-not-listed",
            severity="warning",
            ref=ref,
            message="in a store, but not listed in the registry: publishing it was not finished",
            hint=f"publish it again, or {rebuild_it}",
        )
    a, b = listed.to_json(), held.to_json()
    fields = ", ".join(field for field in sorted(a.keys() | b.keys()) if a.get(field) != b.get(field))
    return Finding(
        code="registry-stale",
        severity="warning",
        ref=ref,
        message=f"the registry differs from the store's reports and statuses in {fields}",
        hint=rebuild_it,
    )
