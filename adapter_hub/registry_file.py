"""`registry.json`: its records, and reading and writing that keeps what this program does not know.

    loaded = parse_registry(raw, "registry.json")
    loaded.file.adapters["mini/da"]["1.0.0"].digest
    registry_bytes(loaded.tree) == raw                  # for a file that this program wrote

The plain JSON tree is what gets written back, the records are a view on it: a block of a later schema
is listed as unreadable and preserved as it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from adapter_hub.canonical import (
    Count,
    Digest,
    Record,
    Sha256,
    Text,
    UtcTime,
    check_schema,
    explain,
    read_json,
)
from adapter_hub.errors import InvalidInputError
from adapter_hub.manifest import Method, Name, ParentRole, VersionText
from adapter_hub.report import MetricName, Status

REGISTRY_SCHEMA = "registry/1"
BLOCK_SCHEMA = "version/1"


class Location(Record):
    """Where a version's bytes are: a store, and the path or the repository and commit in it.

    `store` is `embedded`, an absolute path, a path from the registry file's folder that starts with
    `./`, or `hf://namespace`.
    """

    store: Text
    path: Text | None = None
    repo: Text | None = None
    commit: Text | None = None


class Score(Record):
    """A score of this adapter, taken from an attached evaluation report.

    Attributes:
        value: the metric as a fraction.
        n: the number of utterances.
        decoding: `greedy` or `beam 5`, with `auto language` or `timestamps` where it applies.
    """

    data: Text
    split: Text
    data_sha256: Sha256
    normaliser: Text
    decoding: Text
    metric: MetricName
    value: Annotated[float, Field(ge=0.0)]
    n: Count


class BaseModelLink(Record):
    """The base model of a version."""

    id: Text
    digest: Digest


class ParentLink(Record):
    """A parent of a version, by the digest of its manifest."""

    role: ParentRole
    digest: Digest


class VersionBlock(Record):
    """What the registry says of one version.

    Attributes:
        languages: BCP 47 tags.
        decode_languages: the Whisper tokens, in the same order.
        rank: the largest of any module.
        size: bytes of all its files.
        published: when it became known.
        reason: why it has its status; absent while active from the start.
    """

    schema_: Annotated[Literal["version/1"], Field(alias="schema")]
    digest: Digest
    weights_digest: Digest
    function_digest: Digest
    method: Method
    languages: tuple[Text, ...]
    decode_languages: tuple[Text, ...]
    base_model: BaseModelLink
    rank: Annotated[int, Field(ge=1)]
    parents: tuple[ParentLink, ...] = ()
    license: Text
    size: Count
    locations: tuple[Location, ...] = ()
    published: UtcTime
    scores: tuple[Score, ...] = ()
    status: Status
    reason: Text | None = None


Adapters = dict[str, dict[str, VersionBlock]]  # name, then version


class RegistryFile(Record):
    """The whole file, blocks of unknown schemas left out."""

    schema_: Annotated[Literal["registry/1"], Field(alias="schema")]
    registry_id: Text
    sequence: Count
    adapters: dict[Name, dict[VersionText, VersionBlock]]


@dataclass(frozen=True)
class LoadedRegistry:
    """A registry file as read.

    Attributes:
        tree: the whole content as plain JSON.
        file: the records.
        unreadable: `(name, version)` of the blocks that a later program wrote.
    """

    tree: dict[str, Any]
    file: RegistryFile
    unreadable: tuple[tuple[str, str], ...] = ()

    def digests(self) -> dict[str, str]:
        """Return `{name@version: digest}` of every block, readable or not."""
        return {
            f"{name}@{version}": str(block.get("digest"))
            for name, versions in self.tree["adapters"].items()
            for version, block in versions.items()
        }


def empty_registry(registry_id: str) -> LoadedRegistry:
    """Return a registry without versions, whose first write will have the sequence number 1."""
    tree = {"schema": REGISTRY_SCHEMA, "registry_id": registry_id, "sequence": 0, "adapters": {}}
    return LoadedRegistry(tree, RegistryFile.model_validate(tree))


def parse_registry(raw: bytes, where: str) -> LoadedRegistry:
    """Read a registry file.

    Raises:
        InvalidInputError: no registry, damaged, or written by a later program.
    """
    damaged = "restore it, or move it away and run `adapter-hub registry rebuild`"
    try:
        tree = read_json(raw, where)
    except InvalidInputError as error:
        raise InvalidInputError(f"{error}; {damaged}") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("adapters"), dict):
        raise InvalidInputError(f"{where}: no registry (an object with `adapters`); {damaged}")
    check_schema(tree.get("schema"), REGISTRY_SCHEMA, where)
    unreadable = tuple(_unreadable(tree["adapters"]))
    try:
        if unreadable:
            raw = json.dumps({**tree, "adapters": _without(tree["adapters"], set(unreadable))}).encode()
        file = RegistryFile.model_validate_json(raw)
    except ValidationError as error:
        raise InvalidInputError(f"{where}: {explain(error)}; {damaged}") from None
    return LoadedRegistry(tree, file, unreadable)


def _unreadable(adapters: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, version)
        for name, versions in adapters.items()
        if isinstance(versions, dict)
        for version, block in versions.items()
        if isinstance(block, dict) and block.get("schema", BLOCK_SCHEMA) != BLOCK_SCHEMA
    ]


def _without(adapters: dict[str, Any], left_out: set[tuple[str, str]]) -> dict[str, Any]:
    kept = {
        name: {v: block for v, block in versions.items() if (name, v) not in left_out}
        if isinstance(versions, dict)
        else versions
        for name, versions in adapters.items()
    }
    return {name: versions for name, versions in kept.items() if versions}


def with_adapters(loaded: LoadedRegistry, adapters: Adapters) -> LoadedRegistry:
    """Return the next state: `adapters` in place of the readable blocks, the sequence one higher.

    Unchanged blocks keep their spelling.
    """
    tree: dict[str, Any] = {name: {} for name in adapters}
    for name, versions in adapters.items():
        for version, block in versions.items():
            same = loaded.file.adapters.get(name, {}).get(version) == block
            tree[name][version] = loaded.tree["adapters"][name][version] if same else block.to_json()
    for name, version in loaded.unreadable:
        tree.setdefault(name, {})[version] = loaded.tree["adapters"][name][version]
    file = loaded.file.model_copy(
        update={"sequence": loaded.file.sequence + 1, "adapters": {n: dict(v) for n, v in adapters.items()}}
    )
    return LoadedRegistry(
        {**loaded.tree, "sequence": file.sequence, "adapters": tree}, file, loaded.unreadable
    )


def registry_bytes(tree: dict[str, Any]) -> bytes:
    """Return the file's one spelling: two-space indent, sorted keys, one trailing newline."""
    return (json.dumps(tree, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
