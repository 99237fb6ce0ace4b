"""What a user's words name: an adapter, an artifact's folder, a place on the Hub, a file.

>>> ref = parse_source("mini/da@1.2.0")
>>> ref.name, ref.version
('mini/da', '1.2.0')
>>> str(parse_source("hf://mini/da~=1.2"))
'hf://mini/da~=1.2'
>>> parse_source("./out/adapter.json").as_posix()
'out'

Every command decides it here, so that the same words mean the same everywhere. Nothing heavy is imported:
the command line reads its options with this module.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from adapter_hub.embedded import EMBEDDED
from adapter_hub.errors import InvalidInputError
from adapter_hub.escaping import shown

HUB = "hf://"
DIGEST_PATTERN = r"sha256:[0-9a-f]{64}"
MAXIMUM_NAME = 96
AUTO, BASE_MODEL = "auto", "base-model"  # adapters chosen by language; none at all
RESERVED = frozenset({AUTO, BASE_MODEL, "latest", "none"})
# what Windows opens as a device, whatever the folder and whatever follows a dot
DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
)
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"  # as the Hub has it, in namespaces and names
NAME_PATTERN = rf"{_PART}/{_PART}"
VERSION_PATTERN = r"(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)(?:(?:a|b|rc)(?:0|[1-9]\d*))?"
_REF = re.compile(
    rf"(?P<hub>{HUB})?(?P<name>[^@~#]+?)(?:@(?P<version>[^#]+)|~=(?P<compatible>[^#]+))?"
    rf"(?:#(?P<digest>{DIGEST_PATTERN}))?"
)
_ON_THE_WEB = re.compile(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<name>[^/?#]+/[^/?#]+)")
_MANIFEST_FILE = "/adapter.json"
EXPECTED = "namespace/name, namespace/name@1.2.0 or namespace/name~=1.2"


def check_name(name: str) -> str:
    """Return `name` if it is a legal adapter name; it is also the Hub repository's id.

    Its spelling is kept, and names that differ by case alone are one name: see `name_key`.

    Args:
        name: `namespace/name`.

    Raises:
        InvalidInputError: the rule that it breaks.
    """
    if not is_repository_id(name):
        raise InvalidInputError(
            f"adapter name {name[:120]!r}: expected namespace/name, each of A-Z, a-z, 0-9, '_' and "
            "single inner hyphens and dots"
        )
    if len(name) > MAXIMUM_NAME:
        raise InvalidInputError(f"adapter name {name[:120]!r}: longer than {MAXIMUM_NAME} characters")
    parts = name_key(name).split("/")
    if reserved := RESERVED.intersection(parts):
        raise InvalidInputError(f"adapter name {name!r}: {min(reserved)!r} is a reserved word")
    if devices := DEVICES.intersection(part.partition(".")[0] for part in parts):
        raise InvalidInputError(
            f"adapter name {name!r}: {min(devices)!r} is a device on Windows, and no folder's name"
        )
    if parts[1] == _MANIFEST_FILE[1:]:
        raise InvalidInputError(f"adapter name {name!r}: {parts[1]} is a file of every adapter")
    return name


def is_repository_id(text: str) -> bool:
    """Tell whether the Hub allows `text` as the `namespace/name` of a repository, whatever its length.

    >>> is_repository_id("Vaibhavs10/whisper_da.v2"), is_repository_id("a--b/c"), is_repository_id("a/b.git")
    (True, False, False)
    """
    ends = tuple(part.lower().endswith(".git") for part in text.split("/"))
    return re.fullmatch(NAME_PATTERN, text) is not None and not ("--" in text or ".." in text or any(ends))


def name_key(name: str) -> str:
    """Return what two spellings of one name share: the Hub and many disks make no difference by case.

    Args:
        name: `namespace/name`, or a namespace.

    >>> name_key("Vaibhavs10/DA") == name_key("vaibhavs10/da")
    True
    """
    return name.lower()


def other_spelling(name: str, names: Iterable[str]) -> str | None:
    """Return the first of some names that differs from `name` by case alone; None if there is none.

    Args:
        name: `namespace/name`.
        names: those that exist.
    """
    key = name_key(name)
    return next((other for other in names if other != name and name_key(other) == key), None)


def check_version(version: str) -> str:
    """Return `version` if it is MAJOR.MINOR.PATCH with an optional aN, bN or rcN.

    Args:
        version: like `1.2.0` or `1.2.0rc1`.

    Raises:
        InvalidInputError: it is not.
    """
    if not re.fullmatch(VERSION_PATTERN, version):
        raise InvalidInputError(
            f"version {version!r}: expected MAJOR.MINOR.PATCH with an optional aN, bN or rcN, like 1.2.0"
        )
    return version


@dataclass(frozen=True)
class AdapterRef:
    """A reference to an adapter; `parse` and `str` are inverse.

    Attributes:
        name: `namespace/name`.
        version: the exact version, or None.
        compatible: the argument of `~=`, or None (`1.2` means at least 1.2 and below 2).
        digest: `sha256:…` of the manifest, or None.
        hub: True for `hf://`, which bypasses the registry.
    """

    name: str
    version: str | None = None
    compatible: str | None = None
    digest: str | None = None
    hub: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a reference.

        Args:
            text: like `mini/da`, `mini/da@1.2.0`, `hf://mini/da~=1.2#sha256:…`.

        Raises:
            InvalidInputError: not a reference, with the grammar.
        """
        match = _REF.fullmatch(text)
        if match is None:
            raise InvalidInputError(f"adapter reference {text!r}: expected {EXPECTED}")
        found = match.groupdict()
        check_name(found["name"])
        if found["version"] is not None:
            check_version(found["version"])
        if found["compatible"] is not None:
            from packaging.specifiers import InvalidSpecifier, SpecifierSet  # noqa: PLC0415 - see above

            try:
                SpecifierSet(f"~={found['compatible']}")
            except InvalidSpecifier:
                raise InvalidInputError(
                    f"adapter reference {text!r}: expected at least two numbers after ~=, like ~=1.2"
                ) from None
        return cls(found["name"], found["version"], found["compatible"], found["digest"], bool(found["hub"]))

    def __str__(self) -> str:
        version = f"@{self.version}" if self.version else ""
        compatible = f"~={self.compatible}" if self.compatible else ""
        digest = f"#{self.digest}" if self.digest else ""
        return f"{HUB if self.hub else ''}{self.name}{version}{compatible}{digest}"

    def admits(self, version: str) -> bool:
        """Tell whether this reference may resolve to `version`; pre-releases only when named.

        Args:
            version: of this name, as a store lists it.
        """
        from packaging.specifiers import SpecifierSet  # noqa: PLC0415 - see above
        from packaging.version import Version  # noqa: PLC0415

        if self.version is not None:
            return version == self.version
        if self.compatible is None:
            return not Version(version).is_prerelease
        return SpecifierSet(f"~={self.compatible}").contains(Version(version))


def parse_source(text: str | AdapterRef | os.PathLike[str]) -> AdapterRef | Path:
    """Return what a user calls an adapter: a reference to a published one, or an artifact's folder.

    Args:
        text: as `is_local` understands it; a path is a folder; what has been decided already comes back.

    Returns:
        A reference, or the folder in which `adapter.json` is (also where that file itself was named).

    Raises:
        InvalidInputError: neither, with the grammar of a reference.
    """
    if isinstance(text, AdapterRef):
        return text
    if isinstance(text, str) and not is_local(text):
        if web := _ON_THE_WEB.match(text):
            raise InvalidInputError(f"{shown(text, 200)}: write hf://{web['name']} for that repository")
        if "/" not in text:
            raise InvalidInputError(
                f"adapter name {shown(text, 200)!r}: expected namespace/name, or an artifact's folder; no "
                "folder of that name is here"
            )
        return AdapterRef.parse(text)
    folder = expanded(text) if isinstance(text, str) else Path(text)
    return folder.parent if f"/{folder.name}" == _MANIFEST_FILE else folder


def is_local(text: str, beside: Path | None = None) -> bool:
    """Tell whether `text` names a folder (or its manifest) rather than what a registry or the Hub has.

    `./a`, `/a`, `~/a` and `…/adapter.json` do. What could be an adapter's name is one, so that no folder that
    happens to be here takes the place of an adapter; anything else is a folder if there is one.

    Args:
        text: as the user wrote it.
        beside: the folder that relative paths start from; by default the current one.
    """
    if text.startswith((".", "/", "~")) or text.endswith(_MANIFEST_FILE):
        return True
    if not text or text in RESERVED or re.fullmatch(rf"(?:{HUB})?{NAME_PATTERN}(?:[@~#].*)?", text):
        return False
    try:
        return ((beside or Path()) / text).is_dir()
    except (ValueError, OSError):  # a NUL, a name that is too long
        return False


def is_hub(text: str) -> bool:
    """Tell whether `text` names something on the Hub."""
    return text.startswith(HUB)


def is_address(text: str) -> bool:
    """Tell whether `text` names something elsewhere, like `hf://namespace`, and no file or folder.

    Args:
        text: a user's word for a registry or store, or a location's `store`.
    """
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text) is not None or text.startswith("hf:")


def is_folder_of_store(label: str) -> bool:
    """Tell whether a store's label names a folder, and neither the embedded store nor one elsewhere.

    Args:
        label: a user's word for a store, or a location's `store`.
    """
    return label != EMBEDDED and not is_address(label)


def expanded(text: str) -> Path:
    """Return the path that a user's text names; `~` is the home folder, unless a file has that name.

    Args:
        text: as the user wrote it.

    Raises:
        InvalidInputError: no text, a NUL in it, or the home of a user who is not known here.
    """
    if not text or "\0" in text:
        raise InvalidInputError(f"path {text!r}: expected the name of a file or folder")
    try:
        return Path(text) if os.path.lexists(text) else Path(text).expanduser()
    except RuntimeError:
        raise InvalidInputError(
            f"path {text!r}: no such user here, whose home it could be; write ./{text} for a name like that"
        ) from None


def parse_blend(text: str) -> tuple[tuple[str, float], ...] | None:
    """Return adapters and weights of a text like `mini/pl*0.5+mini/it*0.5`; None if it is a single reference.

    Args:
        text: references, each with `*` and a weight behind it, joined by `+`; `*` is in no name.

    Raises:
        InvalidInputError: a part without a weight, a weight that is not above 0, or a sum above 1.

    >>> parse_blend("mini/pl*0.5+mini/it@1.0.0*0.25")
    (('mini/pl', 0.5), ('mini/it@1.0.0', 0.25))
    >>> parse_blend("mini/pl") is None
    True
    """
    if "*" not in text:
        return None
    parts = []
    for part in text.split("+"):
        ref, star, weight = part.strip().rpartition("*")
        try:
            number = float(weight) if star and ref else math.nan
        except ValueError:
            number = math.nan
        if not 0.0 < number <= 1.0:
            raise InvalidInputError(
                f"{shown(text, 200)}: expected references with weights above 0 and at most 1, like "
                "mini/pl*0.5+mini/it*0.5"
            )
        parts.append((ref, number))
    if math.fsum(number for _, number in parts) > 1.0 + 1e-9:
        raise InvalidInputError(
            f"{shown(text, 200)}: the weights sum to more than 1, the base model's share included"
        )
    return tuple(parts)
