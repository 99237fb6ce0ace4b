"""The order of versions, and what a new one may change.

    check_version_step([manifest of 1.0.0], new)   # raises if new is 1.0.1 with other weights

MAJOR: base model, languages, tokenizer or module set changed; MINOR: new weights, scaling, licence, dtype
or rank; PATCH: the same function digest, so the same text for every audio. So `~=1.2` never brings an
adapter for other speech or another model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from packaging.version import Version

from adapter_hub.errors import ConflictError, InvalidInputError
from adapter_hub.manifest import Manifest


def sort_versions(versions: Iterable[str]) -> list[str]:
    """Return versions from oldest to newest; pre-releases come before their release.

    >>> sort_versions(["1.10.0", "1.2.0", "1.10.0rc1"])
    ['1.2.0', '1.10.0rc1', '1.10.0']
    """
    return sorted(versions, key=Version)


def preferred(versions: Iterable[str]) -> str | None:
    """Return the version for those who name none: the newest release, or else the newest pre-release.

    >>> preferred(["1.0.0", "2.0.0rc1"])
    '1.0.0'
    """
    return max(versions, key=lambda v: (not Version(v).is_prerelease, Version(v)), default=None)


def check_version_step(previous: Sequence[Manifest], new: Manifest) -> None:
    """Check `new` against its neighbours among the published versions of its name.

    Pre-releases of one release may change freely among themselves.

    Args:
        previous: manifests of the published versions, in any order; `new` itself may be among them.
        new: the manifest to publish.

    Raises:
        ConflictError: this version exists with another digest.
        InvalidInputError: the version's number promises less than changed, with the least that fits; or
            an expert pair and other adapters under one name.
    """
    release = Version(new.version).release
    for other in previous:
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
    older = [m for m in previous if Version(m.version).release < release]
    newer = [m for m in previous if Version(m.version).release > release]
    if older:
        _check_step(max(older, key=lambda m: Version(m.version)), new, new)
    if newer:
        _check_step(new, min(newer, key=lambda m: Version(m.version)), new)


def _check_step(before: Manifest, after: Manifest, new: Manifest) -> None:
    needed, changes = needed_step(before, after)
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


def needed_step(before: Manifest, after: Manifest) -> tuple[int, list[str]]:
    """Return which number of the version has to grow (0 major, 1 minor, 2 none of these), and why."""
    major = {
        "the base model": before.base_model.digest != after.base_model.digest,
        "the languages": _languages(before) != _languages(after),
        "the task": before.task != after.task,
        "the module set": _modules(before) != _modules(after),
    }
    minor = {
        "the weights": before.weights_digest != after.weights_digest,
        "the scaling": _scalings(before) != _scalings(after),
        "the gate": before.gate != after.gate,
        "the timestamps": before.timestamps != after.timestamps,
        "the licence": before.license != after.license,
        "the dtype": _dtypes(before) != _dtypes(after),
        "the rank": _ranks(before) != _ranks(after),
    }
    for step, changes in enumerate((major, minor)):
        if found := [name for name, changed in changes.items() if changed]:
            return step, found
    if before.function_digest != after.function_digest:  # by the rules above it cannot
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
