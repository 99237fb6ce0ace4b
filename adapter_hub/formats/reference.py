"""How adapters are named: `namespace/name`, with a version and a digest if need be.

>>> ref = AdapterRef.parse("mini/da@1.2.0")
>>> ref.name, ref.version
('mini/da', '1.2.0')
>>> str(AdapterRef.parse("hf://mini/da~=1.2"))
'hf://mini/da~=1.2'
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from adapter_hub.errors import InvalidInputError
from adapter_hub.formats.canonical import DIGEST_PATTERN

MAXIMUM_NAME = 96
RESERVED = frozenset({"auto", "base-model", "latest", "none"})
_PART = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
NAME_PATTERN = rf"{_PART}/{_PART}"
VERSION_PATTERN = r"(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)(?:(?:a|b|rc)(?:0|[1-9]\d*))?"
_REF = re.compile(
    rf"(?P<hub>hf://)?(?P<name>[^@~#]+?)(?:@(?P<version>[^#]+)|~=(?P<compatible>[^#]+))?"
    rf"(?:#(?P<digest>{DIGEST_PATTERN}))?"
)
EXPECTED = "namespace/name, namespace/name@1.2.0 or namespace/name~=1.2"


def check_name(name: str) -> str:
    """Return `name` if it is a legal adapter name; it is also the Hub repository's id.

    Raises:
        InvalidInputError: the rule that it breaks.
    """
    if not re.fullmatch(NAME_PATTERN, name) or "--" in name:
        raise InvalidInputError(
            f"adapter name {name!r}: expected namespace/name, each of a-z, 0-9 and single inner hyphens"
        )
    if len(name) > MAXIMUM_NAME:
        raise InvalidInputError(f"adapter name {name!r}: longer than {MAXIMUM_NAME} characters")
    if reserved := RESERVED.intersection(name.split("/")):
        raise InvalidInputError(f"adapter name {name!r}: {min(reserved)!r} is a reserved word")
    return name


def check_version(version: str) -> str:
    """Return `version` if it is MAJOR.MINOR.PATCH with an optional aN, bN or rcN.

    Raises:
        InvalidInputError: it is not.
    """
    if not re.fullmatch(VERSION_PATTERN, version):
        raise InvalidInputError(
            f"version {version!r}: expected MAJOR.MINOR.PATCH with an optional aN, bN or rcN, like 1.2.0"
        )
    return version


def is_local(text: str) -> bool:
    """Tell whether `text` names a folder (or its manifest) rather than what a registry or the Hub has.

    `./a`, `/a` and `…/adapter.json` do. What could be an adapter's name is one, so that no folder that
    happens to lie here takes the place of an adapter; anything else is a folder if there is one.
    """
    if text.startswith((".", "/")) or text.endswith("/adapter.json"):
        return True
    if not text or text in RESERVED or re.fullmatch(rf"(?:hf://)?{NAME_PATTERN}(?:[@~#].*)?", text):
        return False
    try:
        return Path(text).is_dir()
    except (ValueError, OSError):  # a NUL, a name that is too long
        return False


@dataclass(frozen=True)
class AdapterRef:
    """A reference to an adapter; `parse` and `str` are inverse.

    Attributes:
        name: `namespace/name`.
        version: the exact version, or None.
        compatible: the argument of `~=`, or None (`1.2` means at least 1.2 and below 2).
        digest: `sha256:…` of the manifest, or None.
        hub: True for `hf://`, which goes past the registry.
    """

    name: str
    version: str | None = None
    compatible: str | None = None
    digest: str | None = None
    hub: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a reference.

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
        return f"{'hf://' if self.hub else ''}{self.name}{version}{compatible}{digest}"

    def admits(self, version: str) -> bool:
        """Tell whether this reference may resolve to `version`; pre-releases only when named."""
        if self.version is not None:
            return version == self.version
        if self.compatible is None:
            return not Version(version).is_prerelease
        return SpecifierSet(f"~={self.compatible}").contains(Version(version))
