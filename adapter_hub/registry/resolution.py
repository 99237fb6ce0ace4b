"""From a reference to one version, under the rules of the statuses.

    resolved = resolve(AdapterRef.parse("mini/da~=1.2"), registries)
    resolved.block.digest, resolved.warnings

| status | new resolve | exact pin | descendants |
|---|---|---|---|
| active | yes | yes | |
| deprecated | yes, warns | yes, warns | told |
| yanked | no | yes, warns | warned |
| quarantined | no | refused unless its digest is allowed | refused, transitively |
| withdrawn | no | no: the bytes are gone | warned |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adapter_hub.errors import IntegrityError, InvalidInputError, NotFoundError, StatusError
from adapter_hub.escaping import shown
from adapter_hub.formats.manifest import Manifest
from adapter_hub.formats.reference import AdapterRef, other_spelling
from adapter_hub.formats.registry_file import VersionBlock
from adapter_hub.formats.versions import sort_versions
from adapter_hub.registry.contract import Registry
from adapter_hub.registry.namespaces import Namespaces
from adapter_hub.registry.standing import Standing, Standings


@dataclass(frozen=True)
class Resolved:
    """A version that a reference was resolved to.

    Attributes:
        name: `namespace/name`.
        version: like `1.2.0`.
        block: what the registry says of it.
        warnings: one line each, for the user.
        registry: where it was found.
    """

    name: str
    version: str
    block: VersionBlock
    warnings: tuple[str, ...]
    registry: Registry

    @property
    def ref(self) -> str:
        """`namespace/name@version`."""
        return f"{self.name}@{self.version}"


def ancestor_digests(block: VersionBlock, registries: Sequence[Registry]) -> list[str]:
    """Return the digests of all ancestors that the registries know of, nearest first.

    Args:
        block: of the version.
        registries: asked for the parents' own parents.
    """
    waiting = [parent.digest for parent in block.parents]
    seen: list[str] = []
    while waiting:
        digest = waiting.pop(0)
        if digest not in seen:
            seen.append(digest)
            for registry in registries:
                if entry := registry.by_digest.get(digest):
                    waiting += [parent.digest for parent in entry[2].parents]
    return seen


@dataclass(frozen=True)
class Verdict:
    """Whether a version may be used: `refusal` says why not, `warnings` what the user should know."""

    refusal: str | None
    warnings: tuple[str, ...]


def judge_ancestors(
    ref: str,
    digests: Iterable[str] | Mapping[str, Manifest],
    registries: Sequence[Registry],
    allowed: str | None,
) -> Verdict:
    """Judge a version by the statuses of its ancestors.

    Args:
        ref: `namespace/name@version`, for the messages.
        digests: of the ancestors; with their manifests, also by what they do under any name.
        registries: all that are open.
        allowed: the digest of a quarantined version to let through.
    """
    standings = Standings(registries)
    refusal, warnings = None, []
    for digest in digests:
        manifest = digests[digest] if isinstance(digests, Mapping) else None
        ancestor = standings.of(digest, manifest.function_digest if manifest else None)
        if ancestor is None:
            continue
        if ancestor.status == "quarantined" and allowed not in (digest, ancestor.digest):
            refusal = f"{ref} was made from a quarantined version: {ancestor}; {_how_to_allow(ancestor)}"
        elif ancestor.status != "active":
            warnings.append(f"{ref} was made from a retired version: {ancestor}")
    return Verdict(refusal, tuple(warnings))


def judge(
    ref: str, block: VersionBlock, registries: Sequence[Registry], allowed: str | None = None
) -> Verdict:
    """Judge an exactly named version by its own status and its ancestors'.

    Args:
        ref: `namespace/name@version`, for the messages.
        block: what the registry says of it.
        registries: all that are open.
        allowed: the digest of a quarantined version (itself or an ancestor) to let through.
    """
    own = judge_bytes(ref, block.digest, block.function_digest, registries, allowed)
    inherited = judge_ancestors(ref, ancestor_digests(block, registries), registries, allowed)
    if own.refusal:
        return Verdict(own.refusal, inherited.warnings)
    return Verdict(inherited.refusal, (*own.warnings, *inherited.warnings))


def judge_bytes(
    ref: str, digest: str, function_digest: str, registries: Sequence[Registry], allowed: str | None = None
) -> Verdict:
    """Judge a version by its own status alone, whether a registry lists it or not.

    Args:
        ref: `namespace/name@version`, for the messages.
        digest: of its manifest.
        function_digest: of what it does: under quarantine, it is so under every name.
        registries: all that are open.
        allowed: the digest of a quarantined version to let through.
    """
    standings = Standings(registries)
    own = standings.of(digest, function_digest)
    notes = standings.memory.warnings
    if own is None or own.status == "active":
        return Verdict(None, notes)
    text = _about(ref, own)
    if own.status == "withdrawn":
        return Verdict(f"{text}: its files were removed, only its manifest stays", notes)
    if own.status == "quarantined" and allowed not in (digest, own.digest):
        return Verdict(f"{text}; {_how_to_allow(own)}", notes)
    return Verdict(None, (text, *notes))


def _about(ref: str, own: Standing) -> str:
    return f"{ref} does the same as a quarantined version: {own}" if own.other else str(own)


def _how_to_allow(quarantined: Standing) -> str:
    return f"to use it anyway: --allow-quarantined {quarantined.digest}"


def resolve(
    ref: AdapterRef, registries: Sequence[Registry], *, allow_quarantined: str | None = None
) -> Resolved:
    """Return the version to use for `ref`: the newest that may be used, or the one that is pinned.

    Args:
        ref: by version or digest it is an exact pin, otherwise a new resolve.
        registries: asked in order; the first that has a version that `ref` admits answers.
        allow_quarantined: digest of a quarantined version to let through anyway.

    Raises:
        NotFoundError: no such name or version. StatusError: its status forbids the use.
        IntegrityError: the pinned digest is another, or two registries disagree.
    """
    refusals: list[str] = []
    skipped: list[str] = []
    ref = _as_listed(ref, registries)
    hint, standings = "", Standings(registries)
    counting, foreign = _that_count(ref, registries)
    for candidate in _candidates(ref, counting, foreign):
        verdict = judge(candidate.ref, candidate.block, registries, allow_quarantined)
        own = standings.of(candidate.block.digest, candidate.block.function_digest)
        pinned = ref.version is not None or ref.digest is not None
        if not pinned and own and own.status in ("yanked", "quarantined", "withdrawn"):
            if own.status == "quarantined":
                to_allow = f"name the version and --allow-quarantined {own.digest}"
                refusals.append(f"{_about(candidate.ref, own)}; to use it anyway, {to_allow}")
            else:
                refusals.append(str(own))
            if own.status == "yanked":
                hint = "; an exact version, like NAME@VERSION, may still be used"
        elif verdict.refusal is None:
            notes = (*candidate.registry.warnings, *foreign, *candidate.warnings, *skipped)
            warnings = (*notes, *verdict.warnings)
            return Resolved(candidate.name, candidate.version, candidate.block, warnings, candidate.registry)
        else:
            refusals.append(verdict.refusal)
            skipped.append(f"{candidate.ref} was skipped: {verdict.refusal}")
    raise StatusError(f"{'; '.join(refusals)}{hint}")


def look_up(ref: AdapterRef, registries: Sequence[Registry]) -> Resolved:
    """Return what is known of `ref`, whatever its status: for showing and judging, not for use.

    Args:
        ref: by version or digest it is exactly that one; otherwise the newest that may be used.
        registries: asked in order.

    Raises:
        NotFoundError: no such name or version. IntegrityError: as for `resolve`.
    """
    ref = _as_listed(ref, registries)
    _, foreign = _that_count(ref, registries)
    candidates = list(_candidates(ref, registries))
    standings = Standings(registries)
    usable = [
        candidate
        for candidate in candidates
        if (own := standings.of(candidate.block.digest, candidate.block.function_digest)) is None
        or own.status in ("active", "deprecated")
    ]
    chosen = (usable or candidates)[0]
    verdict = judge(chosen.ref, chosen.block, registries)
    refused = (verdict.refusal,) if verdict.refusal else ()
    warnings = (*chosen.registry.warnings, *foreign, *chosen.warnings, *refused, *verdict.warnings)
    return Resolved(chosen.name, chosen.version, chosen.block, warnings, chosen.registry)


def _as_listed(ref: AdapterRef, registries: Sequence[Registry]) -> AdapterRef:
    """Return a reference whose name is spelt as the first registry that has it spells it."""
    if any(ref.name in registry.adapters for registry in registries):
        return ref
    names = (name for registry in registries for name in registry.adapters)
    return replace(ref, name=other_spelling(ref.name, names) or ref.name)


def _that_count(
    ref: AdapterRef, registries: Sequence[Registry]
) -> tuple[tuple[Registry, ...], tuple[str, ...]]:
    """Return the registries that may list the name, and a line for what does not count or is not known."""
    if ref.digest is not None or ref.hub:
        return tuple(registries), ()  # by its digest it is what the user means, wherever it is listed
    namespaces = Namespaces(registries)
    foreign = namespaces.foreign(ref.name, ref.admits)
    counting = tuple(registry for registry in registries if registry not in foreign)
    return counting, (*foreign.values(), *namespaces.warnings)


def _candidates(
    ref: AdapterRef, registries: Sequence[Registry], foreign: Sequence[str] = ()
) -> Iterator[Resolved]:
    """Yield the versions that `ref` admits, newest first, of the first registry that has any."""
    if ref.hub:
        raise InvalidInputError(f"{ref}: bypasses the registry; pull accepts it, a registry does not")
    _check_agreement(ref, registries)
    for registry in registries:
        versions = registry.adapters.get(ref.name, {})
        unreadable = {v: why for (name, v), why in registry.unreadable.items() if name == ref.name}
        if why := unreadable.get(ref.version or "") or unreadable.get(""):
            raise InvalidInputError(
                f"{ref.name}@{ref.version} in {registry.label}: its entry cannot be read ({why}); upgrade "
                "adapter_hub, or ask the registry's owner to mend it"
            )
        skipped = [f"{ref.name}@{shown(v)} was skipped: {unreadable[v]}" for v in sorted(unreadable)]
        admitted = [version for version in versions if _admits(ref, version, versions[version])]
        if admitted:
            for version in reversed(sort_versions(admitted)):
                yield Resolved(ref.name, version, versions[version], tuple(skipped), registry)
            return
    if foreign:
        raise StatusError("; ".join(foreign))
    raise NotFoundError(_missing(ref, registries))


def _admits(ref: AdapterRef, version: str, block: VersionBlock) -> bool:
    if ref.digest and ref.version is None and ref.compatible is None:
        return block.digest == ref.digest
    if not ref.admits(version):
        return False
    if ref.digest and ref.version and block.digest != ref.digest:
        raise IntegrityError(
            f"{ref.name}@{version} has digest {block.digest}, expected {ref.digest}, the pinned one"
        )
    return ref.digest is None or block.digest == ref.digest


def _check_agreement(ref: AdapterRef, registries: Sequence[Registry]) -> None:
    """A (name, version) has one digest for ever, whoever lists it (invariant 1)."""
    seen: dict[str, tuple[str, Registry]] = {}
    for registry in registries:
        for version, block in registry.adapters.get(ref.name, {}).items():
            digest, first = seen.setdefault(version, (block.digest, registry))
            if digest != block.digest and ref.admits(version):
                raise IntegrityError(
                    f"{ref.name}@{version}: {digest} in {first.label}, but {block.digest} in "
                    f"{registry.label}; a version never changes: pin another one, or leave out one of the "
                    "registries"
                )


def _missing(ref: AdapterRef, registries: Sequence[Registry]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - needed for a failure only

    versions = {v for registry in registries for v in registry.adapters.get(ref.name, {})}
    doubts = "".join(f"; {line}" for registry in registries for line in registry.warnings)  # an old copy
    if versions:
        there = ", ".join(sort_versions(versions))
        exactly = "" if ref.version else " (a pre-release has to be named exactly)"
        return f"{ref}: no such version; {ref.name} has {there}{exactly}{doubts}"
    names = {name for registry in registries for name in registry.adapters}
    near = get_close_matches(ref.name, names, n=3)
    asked = ", ".join(registry.label for registry in registries) or "no registry"
    hint = f"did you mean {', '.join(near)}?" if near else "`adapter-hub list` shows what there is"
    if Path(ref.name).is_dir():
        hint = f"the folder here is named ./{ref.name}"
    return f"{ref}: no such adapter in {asked}; {hint}{doubts}"
