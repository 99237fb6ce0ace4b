"""`registry.json`: its records, and reading and writing that keeps what this program does not know.

    loaded = parse_registry(raw, "registry.json")
    loaded.file.adapters["mini/da"]["1.0.0"].digest
    registry_bytes(loaded.tree) == raw                  # for a file that this program wrote

The plain JSON tree is what gets written back, the records are a view on it: an entry of a later schema, or
one that breaks the rules, is listed as unreadable and preserved as it is; the others go on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from adapter_hub.errors import AdapterHubError, ConflictError, DamagedFileError, InvalidInputError
from adapter_hub.escaping import shown
from adapter_hub.formats.canonical import (
    Count,
    Digest,
    Record,
    Sha256,
    Text,
    UtcTime,
    check_schema,
    explain,
    read_json,
    refuse_newer,
)
from adapter_hub.formats.claims import MetricName, Status, strictness
from adapter_hub.formats.manifest import BaseModelId, Method, Name, ParentRole, VersionText
from adapter_hub.formats.reference import check_name, check_version, name_key

REGISTRY_SCHEMA = "registry/1"
BLOCK_SCHEMA = "version/1"
MAXIMUM_SIZE = 64 * 2**20  # bytes of the file; 20 000 versions are 25 MB and take 300 MB of memory
LAST_SEQUENCE = 2**53 - 1  # the largest that every reader keeps exact; a file that has it can't be written
NEWER = "written by a newer program"  # why a block of a later schema is unreadable
_MOST_VALUES = 4_000_000  # 45 a version
_BYTES_PER_BRACKET = 24  # a block has one in about 100; more of them take far more memory than the file
_FREE_BRACKETS = 10_000  # where a file is small, whatever it holds


class Location(Record):
    """Where a version's bytes are: a store, and the place in it.

    Attributes:
        store: `embedded`, an absolute path, a path from the registry file's folder that starts with `./`,
            or `hf://namespace`.
        path: in a folder store: of the version's folder.
        repo: on the Hub: the repository.
        commit: on the Hub: the commit that the version's tag names.
    """

    store: Text
    path: Text | None = None
    repo: Text | None = None
    commit: Text | None = None


class Score(Record):
    """A score of this adapter, taken from an attached evaluation report.

    Attributes:
        data: as in the report.
        split: as in the report.
        data_sha256: as in the report.
        normaliser: as in the report.
        decoding: `greedy` or `beam 5`, with `auto language` and `timestamps` where they apply, separated by
            `, `.
        metric: the report's primary one.
        value: the metric as a fraction.
        n: the number of utterances.
    """

    data: Text
    split: Text
    data_sha256: Sha256
    normaliser: Text
    decoding: Text
    metric: MetricName
    value: Annotated[float, Field(ge=0.0)]
    n: Count

    @property
    def way(self) -> tuple[str, ...] | None:
        """How it was measured and on what: only scores where that is equal compare; None on training data."""
        if re.split("[^a-z]", self.split.lower())[0] in ("train", "training"):  # also train-clean-100
            return None
        return self.data_sha256, self.split, self.metric, self.normaliser, self.decoding


class BaseModelLink(Record):
    """The base model of a version.

    Attributes:
        id: as in the manifest.
        digest: as in the manifest.
    """

    id: BaseModelId
    digest: Digest


class ParentLink(Record):
    """A parent of a version.

    Attributes:
        role: as in the manifest.
        digest: of its manifest.
    """

    role: ParentRole
    digest: Digest


class VersionBlock(Record):
    """What the registry says of one version.

    Attributes:
        schema: of this block.
        digest: of the manifest.
        weights_digest: as in the manifest.
        function_digest: as in the manifest.
        method: as in the manifest.
        languages: BCP 47 tags.
        decode_languages: Whisper's languages, in the same order.
        base_model: as in the manifest.
        rank: the largest of any module.
        parents: in the manifest's order.
        license: as in the manifest.
        size: bytes of all its files, `adapter.json` among them.
        locations: where its bytes are, sorted by their canonical bytes.
        published: time of the first status entry; without one, when the manifest was created.
        scores: of the reports on its function digest, one for each way of measuring, sorted.
        status: the latest; `active` without any.
        reason: why it has its status; absent while active.
        since: when it was given its status; absent while active from the start.
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
    since: UtcTime | None = None


Adapters = dict[str, dict[str, VersionBlock]]  # name, then version


class RegistryFile(Record):
    """The whole file; an entry with a schema that this program does not know is kept and skipped.

    Attributes:
        schema: of the file.
        registry_id: made up once, when the registry is made.
        sequence: one more with every write.
        adapters: by name, then by version.
    """

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
        unreadable: why, by `(name, version)` of every entry that cannot be used; the version is empty if
            that is all of a name.
        raw: the bytes; empty for one that was never written.
    """

    tree: dict[str, Any]
    file: RegistryFile
    unreadable: Mapping[tuple[str, str], str] = field(default_factory=dict)
    raw: bytes = b""

    @cached_property
    def by_digest(self) -> Mapping[str, tuple[str, str, VersionBlock]]:
        """Name, version and block by the version's digest; of several with one digest, the strictest."""
        entries = [
            (name, version, block)
            for name, versions in self.file.adapters.items()
            for version, block in versions.items()
        ]
        entries.sort(key=lambda entry: strictness(entry[2].status))
        return {entry[2].digest: entry for entry in entries}

    def digests(self) -> dict[str, str]:
        """Return `{name@version: digest}` of every block that has one, readable or not."""
        found = {
            f"{name}@{version}": block["digest"]
            for name, versions in self.tree["adapters"].items()
            if isinstance(versions, dict) and (name, "") not in self.unreadable
            for version, block in versions.items()
            if isinstance(block, dict) and isinstance(block.get("digest"), str)
        }
        return {
            ref: digest for ref, digest in found.items() if ref.isascii() and digest.isascii()
        }  # what is remembered has to be readable itself


def empty_registry(registry_id: str) -> LoadedRegistry:
    """Return a registry without versions, whose first write will have the sequence number 1.

    Args:
        registry_id: any text that no other registry has.
    """
    return begun_registry(registry_id, {})


def begun_registry(registry_id: str, adapters: dict[str, Any]) -> LoadedRegistry:
    """Return a registry that begins with entries from elsewhere; see `empty_registry`.

    Args:
        registry_id: any text that no other registry has.
        adapters: plain JSON, as under `adapters` of the file.
    """
    tree = {"schema": REGISTRY_SCHEMA, "registry_id": registry_id, "sequence": 0, "adapters": adapters}
    file, unreadable = _records(tree, None)
    return LoadedRegistry(tree, file, unreadable)


def parse_registry(raw: bytes, where: str) -> LoadedRegistry:
    """Read a registry file; an entry that breaks the rules is that entry's fault alone.

    Args:
        raw: the file's bytes.
        where: what messages call it.

    Raises:
        NewerFormatError: a later program wrote it. DamagedFileError: not a registry, or damaged as a whole.
    """
    damaged = "restore it, or rebuild it from the stores with `adapter-hub registry rebuild`"
    try:
        tree = read_tree(raw, where)
    except InvalidInputError as error:
        raise DamagedFileError(str(error), damaged) from None
    if isinstance(tree, dict):
        refuse_newer(tree.get("schema"), REGISTRY_SCHEMA, where)
    if not isinstance(tree, dict) or not isinstance(tree.get("adapters"), dict):
        raise DamagedFileError(f"{where}: not a registry (an object with `adapters`)", damaged)
    check_schema(tree.get("schema"), REGISTRY_SCHEMA, where)
    try:
        file, unreadable = _records(tree, raw)
    except ValidationError as error:
        raise DamagedFileError(f"{where}: {shown(explain(error))}", damaged) from None
    except RecursionError:
        raise DamagedFileError(f"{where}: nested too deeply", damaged) from None
    return LoadedRegistry(tree, file, unreadable, raw)


def unreadable_ref(name: str, version: str) -> str:
    """Return how messages call an entry that cannot be read; its name may be anything.

    Args:
        name: any text.
        version: any text; empty if all versions of the name are meant.
    """
    return f"{shown(name, 100)}@{shown(version, 40)}" if version else shown(name, 100)


def read_tree(raw: bytes, where: str) -> Any:
    """Return a registry file as plain JSON data, refused before it could fill the memory.

    Args:
        raw: the file's bytes.
        where: what messages call it.

    Raises:
        InvalidInputError: not JSON, or far more lists and objects than a registry of this size can have.
    """
    brackets = raw.count(b"[") + raw.count(b"{")
    if brackets > _FREE_BRACKETS + len(raw) // _BYTES_PER_BRACKET:
        raise InvalidInputError(f"{where}: not a registry ({brackets} lists and objects in {len(raw)} bytes)")
    return read_json(raw, where, values=_MOST_VALUES, half_pairs=True)


def _records(tree: dict[str, Any], raw: bytes | None) -> tuple[RegistryFile, dict[tuple[str, str], str]]:
    """Return the records of the readable entries, and why the others are not."""
    unreadable = dict(_odd_entries(tree["adapters"]))
    try:
        if raw is None or unreadable:
            raw = _dumped(tree, unreadable)
        return RegistryFile.model_validate_json(raw), unreadable
    except ValidationError:  # one block after the other is several times slower, so only then
        unreadable |= dict(_bad_blocks(tree["adapters"], unreadable))
        return RegistryFile.model_validate_json(_dumped(tree, unreadable)), unreadable


def _dumped(tree: dict[str, Any], left_out: Mapping[tuple[str, str], str]) -> bytes:
    return json.dumps({**tree, "adapters": _without(tree["adapters"], left_out)}).encode()


def _odd_entries(adapters: dict[str, Any]) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield the entries whose name, version or schema alone makes them unreadable."""
    spellings: dict[str, list[str]] = {}
    for name in adapters:
        spellings.setdefault(name_key(name), []).append(name)
    for name, versions in adapters.items():
        others = [other for other in spellings[name_key(name)] if other != name]
        if problem := _problem(check_name, name):
            yield (name, ""), problem
        elif others:
            yield (name, ""), f"{others[0]} is listed, too, and names that differ by case alone are one name"
        elif not isinstance(versions, dict):
            yield (name, ""), "expected an object with its versions"
        else:
            for version, block in versions.items():
                if problem := _problem(check_version, version):
                    yield (name, version), problem
                elif isinstance(block, dict) and block.get("schema", BLOCK_SCHEMA) != BLOCK_SCHEMA:
                    yield (name, version), _about_schema(block["schema"])


def _about_schema(schema: object) -> str:
    later = isinstance(schema, str) and re.fullmatch(r"version/[1-9]\d*", schema)
    return NEWER if later else f"schema {shown(schema, 40)}, expected {BLOCK_SCHEMA}"


def _bad_blocks(
    adapters: dict[str, Any], known: Mapping[tuple[str, str], str]
) -> Iterator[tuple[tuple[str, str], str]]:
    for name, versions in _without(adapters, known).items():
        for version, block in versions.items():
            try:
                VersionBlock.model_validate_json(json.dumps(block))
            except ValidationError as error:
                yield (name, version), shown(explain(error))


def _problem(check: Callable[[str], str], text: str) -> str:
    try:
        check(text)
    except AdapterHubError as error:
        return shown(error)
    return ""


def _without(adapters: dict[str, Any], left_out: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    kept = {
        name: {version: block for version, block in versions.items() if (name, version) not in left_out}
        for name, versions in adapters.items()
        if (name, "") not in left_out
    }
    return {name: versions for name, versions in kept.items() if versions}


def check_next_sequence(loaded: LoadedRegistry, where: str) -> None:
    """Refuse to write after the last sequence: no reader would accept a later one.

    Args:
        loaded: the state before.
        where: what messages call the registry.

    Raises:
        InvalidInputError: with the way out.
    """
    if loaded.file.sequence >= LAST_SEQUENCE:
        raise InvalidInputError(
            f"registry {where}: its sequence is {loaded.file.sequence}, after which there is none, so it "
            "cannot be written to; `adapter-hub registry rebuild` makes it from scratch, under a new id"
        )


def with_adapters(loaded: LoadedRegistry, adapters: Adapters, where: str = "registry") -> LoadedRegistry:
    """Return the next state: `adapters` in place of the readable blocks, the sequence one higher.

    Unchanged blocks keep their spelling. What comes back was read from the bytes that are to be written, so
    that nothing is ever written that cannot be read again.

    Args:
        loaded: the state before.
        adapters: all readable blocks; one in the place of a damaged entry replaces it.
        where: what messages call the registry.

    Raises:
        InvalidInputError: there is no next sequence, or a block or its name breaks the rules.
        ConflictError: a block in the place of one that a newer program wrote.
    """
    check_next_sequence(loaded, where)
    tree: dict[str, Any] = {name: {} for name in adapters}
    for name, versions in adapters.items():
        for version, block in versions.items():
            if loaded.unreadable.get((name, version)) == NEWER:
                raise ConflictError(f"{name}@{version} in {where}: {NEWER}; upgrade to change it")
            same = loaded.file.adapters.get(name, {}).get(version) == block
            tree[name][version] = loaded.tree["adapters"][name][version] if same else block.to_json()
    for name, version in loaded.unreadable:
        entry = loaded.tree["adapters"][name]
        if not version:
            tree.setdefault(name, entry)
        else:
            tree.setdefault(name, {}).setdefault(version, entry[version])
    next_tree = {**loaded.tree, "sequence": loaded.file.sequence + 1, "adapters": tree}
    after = parse_registry(registry_bytes(next_tree), where)
    for (name, version), problem in after.unreadable.items():
        if (name, version) not in loaded.unreadable or version in adapters.get(name, {}):
            raise InvalidInputError(
                f"registry {where}: nothing was written, {unreadable_ref(name, version)} could not be read "
                f"again: {problem}"
            )
    return after


def registry_bytes(tree: dict[str, Any]) -> bytes:
    """Return the file's one spelling: two-space indent, sorted keys, one trailing newline.

    Args:
        tree: the whole file as plain JSON.

    Raises:
        InvalidInputError: an entry is nested too deeply to be written.
    """
    try:
        text = json.dumps(tree, indent=2, sort_keys=True, ensure_ascii=False)
    except RecursionError:
        raise InvalidInputError("registry: nested too deeply to be written") from None
    # halves of characters are possible in JSON's escapes alone, so there they stay
    text = re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)
    return f"{text}\n".encode()
