"""The order of versions, and what a new one may change.

    check_version_step([manifest of 1.0.0], new)   # raises if new is 1.0.1 with other weights

MAJOR: base model, languages, tokenizer or module set changed; MINOR: new weights, scaling, licence, dtype
or rank; PATCH: the same function digest, so the same text for every recording. So `~=1.2` never brings an
adapter for other speech or another model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from packaging.version import Version

from adapter_hub.errors import ConflictError, InvalidInputError
from adapter_hub.formats.manifest import Manifest
from adapter_hub.formats.registry_file import VersionBlock


@dataclass(frozen=True)
class VersionFacts:
    """What the rule of versions compares, as far as it is known.

    Attributes:
        ref: `namespace/name@version`.
        version: like `1.2.0`.
        digest: of the manifest.
        method: how it was made.
        function_digest: of what it computes.
        major: what takes a new MAJOR when it changes, by its name in messages.
        minor: what takes a new MINOR.
    """

    ref: str
    version: str
    digest: str
    method: str
    function_digest: str
    major: Mapping[str, object]
    minor: Mapping[str, object]


def facts_of(manifest: Manifest) -> VersionFacts:
    """Return what the rule of versions compares, all of it."""
    return VersionFacts(
        manifest.ref,
        manifest.version,
        manifest.digest,
        manifest.method,
        manifest.function_digest,
        {
            "the base model": manifest.base_model.digest,
            "the languages": _languages(manifest),
            "the task": manifest.task,
            "the module set": _modules(manifest),
        },
        {
            "the weights": manifest.weights_digest,
            "the scaling": _scalings(manifest),
            "the gate": manifest.gate,
            "the timestamps": manifest.timestamps,
            "the licence": manifest.license,
            "the dtype": _dtypes(manifest),
            "the rank": _ranks(manifest),
        },
    )


def facts_of_block(name: str, version: str, block: VersionBlock) -> VersionFacts:
    """Return what a registry knows of a version whose manifest cannot be read.

    Args:
        name: of the adapter.
        version: of the block.
        block: of the registry.
    """
    return VersionFacts(
        f"{name}@{version}",
        version,
        block.digest,
        block.method,
        block.function_digest,
        {
            "the base model": block.base_model.digest,
            "the languages": sorted(zip(block.languages, block.decode_languages, strict=False)),
        },
        {"the weights": block.weights_digest, "the licence": block.license},
    )


def sort_versions(versions: Iterable[str]) -> list[str]:
    """Return versions from oldest to newest; pre-releases come before their release.

    >>> sort_versions(["1.10.0", "1.2.0", "1.10.0rc1"])
    ['1.2.0', '1.10.0rc1', '1.10.0']
    """
    return sorted(versions, key=Version)


def preferred(versions: Iterable[str]) -> str | None:
    """Return the version for those who name none: the newest release, or else the newest pre-release.

    Args:
        versions: in any order.

    >>> preferred(["1.0.0", "2.0.0rc1"])
    '1.0.0'
    """
    return max(versions, key=lambda v: (not Version(v).is_prerelease, Version(v)), default=None)


def check_version_step(previous: Sequence[Manifest | VersionFacts], new: Manifest) -> None:
    """Check `new` against its neighbours among the published versions of its name.

    Pre-releases of one release may change freely among themselves.

    Args:
        previous: the published versions, in any order; `new` itself may be among them.
        new: the manifest to publish.

    Raises:
        ConflictError: this version exists with another digest.
        InvalidInputError: the version's number promises less than changed, with the least that fits; or
            an expert pair and other adapters under one name.
    """
    release, after = Version(new.version).release, facts_of(new)
    others = [facts_of(item) if isinstance(item, Manifest) else item for item in previous]
    for other in others:
        if other.version == new.version and other.digest != new.digest:
            raise ConflictError(
                f"{new.ref} exists with other bytes ({other.digest}); a version never changes: "
                "publish under a higher version, or with --as NAME@VERSION"
            )
        if (other.method == "expert-pair") != (new.method == "expert-pair"):
            raise InvalidInputError(
                f"{new.ref}: is made by {new.method}, {other.ref} by {other.method}; an expert pair needs a "
                "name of its own"
            )
    older = [m for m in others if Version(m.version).release < release]
    newer = [m for m in others if Version(m.version).release > release]
    if older:
        _check_step(max(older, key=lambda m: Version(m.version)), after, after)
    if newer:
        _check_step(after, min(newer, key=lambda m: Version(m.version)), after)


def _check_step(before: VersionFacts, after: VersionFacts, new: VersionFacts) -> None:
    needed, changes = _needed(before, after)
    a, b = Version(before.version).release, Version(after.version).release
    if needed == 2 or a[: needed + 1] != b[: needed + 1]:
        return
    kind = ("major", "minor")[needed]
    fits = f"{a[0] + 1}.0.0" if needed == 0 else f"{a[0]}.{a[1] + 1}.0"
    other = before if after is new else after
    advice = f", like {fits}" if after is new else ""
    raise InvalidInputError(
        f"{new.ref}: {', '.join(changes)} changed between {before.version} and {after.version}, "
        f"which takes a new {kind} version{advice} ({other.ref} is published)"
    )


def _needed(before: VersionFacts, after: VersionFacts) -> tuple[int, list[str]]:
    """Return which number of the version has to grow (0 major, 1 minor, 2 none of these), and why."""
    pairs = ((before.major, after.major), (before.minor, after.minor))
    for step, (old, new) in enumerate(pairs):
        if found := [name for name in new if name in old and old[name] != new[name]]:
            return step, found
    if before.function_digest != after.function_digest:  # by the rules above it cannot, where all is known
        return 1, ["the function digest"]
    return 2, []


def _languages(manifest: Manifest) -> list[tuple[str, str]]:
    return sorted((language.tag, language.decode_language) for language in manifest.languages)


def _modules(manifest: Manifest) -> list[tuple[str, str]]:
    return sorted((section.role, module.path) for section in manifest.lora for module in section.modules)


def _ranks(manifest: Manifest) -> list[tuple[str, str, int]]:
    return sorted((s.role, module.path, module.rank) for s in manifest.lora for module in s.modules)


def _scalings(manifest: Manifest) -> list[tuple[str, str, float]]:
    return sorted((s.role, module.path, module.scaling) for s in manifest.lora for module in s.modules)


def _dtypes(manifest: Manifest) -> list[tuple[str, str]]:
    return sorted((section.role, section.dtype) for section in manifest.lora)
