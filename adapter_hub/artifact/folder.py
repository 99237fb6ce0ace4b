"""Artifacts: a folder with `adapter.json` and exactly the files that it lists.

    artifact = Artifact.open("out/mini-da")
    artifact.verify()                  # every digest, shape and ancestor; one error with all differences
    seal(folder, fields)               # the other direction: files that training wrote become an artifact
    copy_artifact(artifact, target)    # whole and verified, or not at all

The sha256 of `adapter.json`, as read, is the version's identity; it pins every other byte of the
folder, the base model, and the manifests of all ancestors (`ancestors/<digest>.json`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from adapter_hub.artifact.contents import (
    contents_problems,
    entry_of,
    kind_problems,
    listed_paths,
    size_problems,
)
from adapter_hub.artifact.safetensors_file import weights_digest
from adapter_hub.artifact.weights import layout_problems, lora_section, weights_problems
from adapter_hub.errors import (
    AdapterHubError,
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
)
from adapter_hub.files.beneath import below
from adapter_hub.files.reading import copy_regular, read_bounded
from adapter_hub.files.writing import (
    TEMPORARY,
    Stamp,
    folder_in_the_making,
    is_temporary,
    refuse_link,
    sync_file,
    write_atomically,
)
from adapter_hub.formats.canonical import Record, canonical_bytes, digest_of, hex_of
from adapter_hub.formats.export_record import EXPORT_FILE
from adapter_hub.formats.full_fine_tune import FULL_FINE_TUNE_FILE
from adapter_hub.formats.manifest import MANIFEST_FILE, SCHEMA, Draft, Manifest, Parent, function_digest
from adapter_hub.formats.times import utc_now

MAXIMUM_MANIFEST = 4 * 2**20  # bytes; one with 192 modules and a long recipe is about 100 kB
ANCESTORS = "ancestors"


@dataclass(frozen=True)
class Artifact:
    """An adapter version on disk.

    Attributes:
        path: the folder.
        manifest: what `adapter.json` says.
        digest: `sha256:…` of the bytes of `adapter.json` as read.
        stamps: of every file as it was when all of it was verified, by path; empty where that is not known.
    """

    path: Path
    manifest: Manifest
    digest: str
    stamps: Mapping[str, Stamp] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Read the manifest of an artifact; nothing else is read or checked.

        Args:
            folder: the folder, or the `adapter.json` in it.

        Raises:
            NotFoundError: no artifact is there. InvalidInputError: `adapter.json` is not sound.
        """
        path = Path(folder)
        path = path.parent if path.name == MANIFEST_FILE else path
        raw = _manifest_bytes(path / MANIFEST_FILE)
        return cls(path, Manifest.parse_canonical(raw, str(path / MANIFEST_FILE)), digest_of(raw))

    @property
    def ref(self) -> str:
        """`namespace/name@version`."""
        return self.manifest.ref

    @property
    def size(self) -> int:
        """Bytes of all listed files and of the manifest."""
        return sum(entry.size for entry in self.manifest.files) + len(self.manifest.to_bytes())

    def ancestors(self) -> dict[str, Manifest]:
        """Return the manifests of all ancestors by digest.

        Raises:
            IntegrityError: a file is not canonical, or its name is not its digest; all of them.
        """
        found, problems = read_ancestors(self.path)
        if problems:
            raise IntegrityError(f"{self.ref} in {self.path}", problems)
        return found

    def expect(self, name: str, version: str, where: str) -> Self:
        """Return this artifact if it is the version that was asked for, whatever `where` says it is.

        A digest is of a manifest that has a name and a version, so it cannot stand for another one.

        Args:
            name: that was asked for.
            version: that was asked for.
            where: who gave the digest, for the message.

        Raises:
            IntegrityError: it is another version.
        """
        if (self.manifest.name, self.manifest.version) != (name, version):
            raise IntegrityError(
                f"{name}@{version}: {where} gives it the digest {self.digest}, which is that of {self.ref}; "
                "a version has one digest: do not use it, and tell whoever maintains that list"
            )
        return self

    def verify(self) -> None:
        """Check that the folder holds exactly what the manifest promises (invariants 2, 3, 5, 8).

        Raises:
            IntegrityError: with every difference: missing, extra or changed files, links, pickles,
                tensors that do not fit `weights_digest` or `lora`, NaN, ancestors that do not fit.
        """
        if found := problems_of(self.path, self.manifest):
            raise IntegrityError(f"{self.ref} in {self.path}", found, "fetch it again, or seal it again")


def _manifest_bytes(path: Path) -> bytes:
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if (path.parent / FULL_FINE_TUNE_FILE).is_file():
            raise InvalidInputError(
                f"{path.parent}: a full fine-tune, not an adapter, and never published; "
                f"`adapter-hub evaluate base-model --base-model {path.parent}` scores it"
            ) from None
        if (path.parent / EXPORT_FILE).is_file():
            raise InvalidInputError(
                f"{path.parent}: an export for other tools, not an adapter; use the one that its "
                f"{EXPORT_FILE} names, or a model that was written for transformers as --base-model"
            ) from None
        raise NotFoundError(
            f"{path.parent}: no {MANIFEST_FILE}; expected an artifact's folder, as train or pull writes it"
        ) from None
    if not stat.S_ISREG(mode):
        raise InvalidInputError(f"{path}: not an ordinary file (a link or a special file)")
    return read_bounded(path, MAXIMUM_MANIFEST, follow=False)


def read_ancestors(folder: Path) -> tuple[dict[str, Manifest], list[str]]:
    """Return the manifests in `ancestors/` by digest, and what is wrong with the files there.

    Args:
        folder: of the artifact; it is not trusted.
    """
    found: dict[str, Manifest] = {}
    problems: list[str] = []
    base = folder / ANCESTORS
    for path in sorted(base.iterdir()) if base.is_dir() and not base.is_symlink() else ():
        label = f"{ANCESTORS}/{path.name}"
        try:
            raw = _manifest_bytes(path)
            manifest = Manifest.parse_canonical(raw, label)
        except AdapterHubError as error:
            problems.append(str(error))
            continue
        if path.name != f"{hex_of(digest_of(raw))}.json":
            problems.append(f"{label}: its digest is {digest_of(raw)}, and its name has to be that")
        found[digest_of(raw)] = manifest
    return found, problems


def problems_of(folder: Path, manifest: Manifest) -> list[str]:
    """Return every way in which `folder` is not what `manifest` says; [] if it is sound.

    Args:
        folder: of the artifact; it is not trusted.
        manifest: its manifest.
    """
    problems = contents_problems(folder, manifest.files)
    problems += layout_problems(manifest)
    if not problems:  # looking inside makes sense only once the bytes are the listed ones
        ancestors, unsound = read_ancestors(folder)
        problems += weights_problems(folder, manifest, ancestors)
        problems += unsound + lineage_problems(manifest, ancestors)
    return problems


def lineage_problems(manifest: Manifest, ancestors: Mapping[str, Manifest]) -> list[str]:
    """Return how `ancestors` breaks invariant 3 for `manifest` and, transitively, for its parents.

    Args:
        manifest: of the artifact.
        ancestors: manifests by digest.
    """
    problems: list[str] = []
    seen: set[str] = set()
    waiting = [manifest]
    while waiting:
        child = waiting.pop()
        for parent in child.parents:
            problems += _parent_problems(child, parent, ancestors.get(parent.digest))
            if parent.digest not in seen and parent.digest in ancestors:
                seen.add(parent.digest)
                waiting.append(ancestors[parent.digest])
    strangers = sorted(set(ancestors) - seen)
    return problems + [f"{ANCESTORS}/{hex_of(digest)}.json: not an ancestor" for digest in strangers]


def _parent_problems(child: Manifest, parent: Parent, known: Manifest | None) -> list[str]:
    ref = f"parent {parent.name}@{parent.version} of {child.ref}"
    if known is None:
        return [f"unknown {ref}: its manifest {hex_of(parent.digest)[:12]}….json is not in {ANCESTORS}/"]
    problems = []
    if (known.name, known.version) != (parent.name, parent.version):
        problems.append(f"{ref}: its digest is that of {known.ref}")
    for name in ("weights_digest", "function_digest"):
        if getattr(known, name) != getattr(parent, name):
            problems.append(f"{ref}: its {name} is not the one that its manifest has")
    if known.base_model.digest != child.base_model.digest:
        problems.append(f"{ref}: made for another base model ({known.base_model.id})")
    if known.created > child.created:
        problems.append(f"{ref}: created later ({known.created}) than its child ({child.created})")
    return problems


def seal(folder: Path | str, fields: Mapping[str, Any]) -> Artifact:
    """Turn the files in `folder` into an artifact: compute digests, check all, write `adapter.json` last.

    Args:
        folder: holds the weights in PEFT's format and `ancestors/` if there are parents, no more.
        fields: the manifest's fields but `schema`, `files` and both digests, as records or plain
            JSON data; `lora` (for ordinary adapters) and `created` are filled in where absent.

    Raises:
        InvalidInputError: a field is missing or wrong. IntegrityError: the files are not sound.
        ConflictError: the folder is an artifact already.
    """
    path = Path(folder)
    if (path / MANIFEST_FILE).exists():
        raise ConflictError(f"{path}: is an artifact already; a version is sealed once")
    for leftover in path.rglob(f"{TEMPORARY}*"):  # of a sealing that was killed
        if is_temporary(leftover.name) and not leftover.is_dir():
            leftover.unlink()
    paths, problems = listed_paths(path)
    if problems := problems + kind_problems(paths):
        raise IntegrityError(f"{path}: cannot be sealed", [str(problem) for problem in problems])
    given = {name: _plain(value) for name, value in fields.items() if value is not None}
    given.setdefault("created", utc_now())
    if "lora" not in given:
        given["lora"] = [lora_section(path).to_json()]
    given["schema"] = SCHEMA
    given["files"] = [entry_of(path, name).to_json() for name in paths]
    given["weights_digest"] = weights_digest(path, [name for name in paths if name.endswith(".safetensors")])
    draft = Draft.parse(canonical_bytes(given), f"manifest for {path}")
    given["function_digest"] = function_digest(draft)
    manifest = Manifest.parse(canonical_bytes(given), f"manifest for {path}")
    if differences := problems_of(path, manifest):
        raise IntegrityError(f"{manifest.ref} in {path}: cannot be sealed", differences)
    for name in paths:
        sync_file(path / name)
    write_atomically(path / MANIFEST_FILE, manifest.to_bytes())
    return Artifact.open(path)


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def write_ancestors(folder: Path | str, parents: Iterator[Artifact] | list[Artifact]) -> None:
    """Put the manifests of `parents` and of all their ancestors into `folder`, as sealing needs them.

    Args:
        folder: of the artifact that is being made.
        parents: what it is made from.
    """
    for parent in parents:
        manifests = {**parent.ancestors(), parent.digest: parent.manifest}
        for digest, manifest in manifests.items():
            write_atomically(Path(folder) / ANCESTORS / f"{hex_of(digest)}.json", manifest.to_bytes())


def copy_artifact(artifact: Artifact, target: Path | str, *, link: bool = False) -> Artifact:
    """Copy an artifact whole to `target`, verified by reading back what was written.

    Where the same version is already, it is verified and left alone.

    Args:
        artifact: it is not trusted.
        target: its folder.
        link: let both share their bytes on the disk where that can be; for one that is removed afterwards.

    Raises:
        IntegrityError: what is there in the end is not what the manifest says; every difference.
        ConflictError: `target` is something else already.
    """
    path = Path(target)
    refuse_link(path)
    if not path.exists():
        try:
            with folder_in_the_making(path) as temporary:
                _copy_files(artifact, temporary, link=link)
            return Artifact.open(path)
        except FileExistsError:
            pass  # another process put it there meanwhile; it has to be the same
    return _same_version(artifact, path)


def _copy_files(artifact: Artifact, folder: Path, *, link: bool) -> None:
    label, problems = f"{artifact.ref} from {artifact.path}", size_problems(artifact.manifest.files)
    for entry in () if problems else artifact.manifest.files:
        copy = folder / entry.path
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            source = below(artifact.path, entry.path)
            if not (link and _linked(source, copy)):
                copy_regular(source, copy, entry.size)
        except (FileNotFoundError, NotADirectoryError):
            problems.append(f"{entry.path}: missing")
        except InvalidInputError as error:
            problems.append(str(error).replace(f"{artifact.path}/", ""))
    if problems:
        raise IntegrityError(label, problems)
    (folder / MANIFEST_FILE).write_bytes(_manifest_bytes(artifact.path / MANIFEST_FILE))
    if Artifact.open(folder).digest != artifact.digest:
        raise IntegrityError(label, [f"{MANIFEST_FILE} changed while it was copied"])
    if problems := problems_of(folder, artifact.manifest):
        raise IntegrityError(label, problems)


def _linked(source: Path, copy: Path) -> bool:
    try:
        os.link(source, copy)
    except OSError:  # another disk, or one that knows no links
        return False
    return True


def _same_version(artifact: Artifact, path: Path) -> Artifact:
    try:
        there = Artifact.open(path)
    except AdapterHubError as error:
        raise ConflictError(f"{path}: exists and is not an artifact ({error})") from None
    if there.digest != artifact.digest:
        raise ConflictError(
            f"{path}: holds {there.ref} with digest {there.digest}, not {artifact.digest}; "
            "a version never changes: publish the new bytes as a new version"
        )
    there.verify()
    return there
