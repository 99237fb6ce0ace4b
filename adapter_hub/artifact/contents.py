"""What is in an artifact's folder, compared with what its manifest lists (invariant 2).

    contents_problems(folder, manifest.files)   # [] if the folder holds exactly these bytes

A folder that came from elsewhere is hostile until proven otherwise: links are never followed, only
ordinary files count, and every difference is reported, not the first.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from adapter_hub.errors import IntegrityError, InvalidInputError
from adapter_hub.files.reading import file_sha256
from adapter_hub.formats.manifest import MANIFEST_FILE, MAXIMUM_FILES, FileEntry, Manifest

MAXIMUM_DEPTH = 8  # folders in each other
MAXIMUM_FILE = 2 * 2**30  # bytes; rank 256 on every linear of whisper-large-v3 in float32 is 1.3 GB
MAXIMUM_TOTAL = 6 * 2**30  # bytes of all files; a pair of two of these is 2.7 GB
PLAIN_NAMES = ("LICENSE", "NOTICE")
PLAIN_SUFFIXES = (".json", ".safetensors", ".txt", ".md")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz")


@dataclass(frozen=True)
class Oddity:
    """What is wrong with one path in a folder; its text is what a message says.

    Attributes:
        path: relative, POSIX; empty for the folder as a whole.
        problem: what is wrong.
    """

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" if self.path else self.problem


def entry_of(folder: Path, path: str) -> FileEntry:
    """Return size and sha256 of a file as they are now.

    Args:
        folder: of the artifact.
        path: of the file in it, POSIX.
    """
    file = folder / path
    return FileEntry(path=path, size=file.stat().st_size, sha256=file_sha256(file))


def listed_paths(folder: Path) -> tuple[list[str], list[Oddity]]:
    """Return the relative POSIX paths of the files in `folder`, and what is wrong with the rest.

    `adapter.json` at the top is left out. Links, special files, empty folders and kinds of files
    that an artifact cannot hold are problems; nothing is opened.

    Args:
        folder: of an artifact, or one that is to become one.
    """
    paths: list[str] = []
    problems: list[Oddity] = []
    for path, entry in _walk(folder, ""):
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            problems.append(Oddity(path, "a symbolic link; only ordinary files are allowed"))
        elif stat.S_ISDIR(mode):
            problems.append(Oddity(path, "an empty folder (or one too deep), which no manifest lists"))
        elif not stat.S_ISREG(mode):
            problems.append(Oddity(path, "not an ordinary file"))
        elif path != MANIFEST_FILE:
            paths.append(path)
        if len(paths) > MAXIMUM_FILES:
            problems.append(Oddity("", f"more than {MAXIMUM_FILES} files"))
            break
    return sorted(paths), problems


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield every file and link, and every folder that is empty."""
    with os.scandir(folder) as found:
        for entry in sorted(found, key=lambda entry: entry.name):
            path = f"{prefix}{entry.name}"
            if entry.is_dir(follow_symlinks=False) and path.count("/") < MAXIMUM_DEPTH:
                inner = list(_walk(folder / entry.name, f"{path}/"))
                yield from inner or [(path, entry)]
            else:
                yield path, entry


def kind_problems(paths: Iterable[str]) -> list[Oddity]:
    """Return which of `paths` are of a kind that an artifact must not hold (invariant 8).

    Args:
        paths: relative POSIX paths.
    """
    problems = []
    for path in paths:
        name = PurePosixPath(path)
        if name.suffix.lower() in PICKLES:
            problems.append(Oddity(path, "may be a pickle; weights are stored as safetensors only"))
        elif name.suffix not in PLAIN_SUFFIXES and name.stem not in PLAIN_NAMES:
            kinds = ", ".join(PLAIN_SUFFIXES)
            problems.append(Oddity(path, f"not a kind of file that an artifact holds ({kinds})"))
    return problems


def strangers(folder: Path, listed: Iterable[str]) -> list[str]:
    """Return what is in an artifact's folder and is neither `adapter.json` nor among the `listed` paths.

    Args:
        folder: of the artifact.
        listed: the paths in its manifest.
    """
    paths, others = listed_paths(folder)
    return sorted(set(paths) - set(listed)) + [other.path for other in others]


def size_problems(files: Iterable[FileEntry]) -> list[str]:
    """Return which listed files are larger than an artifact's can be; those need not be read.

    Args:
        files: as a manifest lists them.
    """
    files = list(files)
    problems = [
        f"{entry.path}: lists {entry.size} bytes, at most {MAXIMUM_FILE} are allowed"
        for entry in files
        if entry.size > MAXIMUM_FILE
    ]
    total = sum(entry.size for entry in files)
    if total > MAXIMUM_TOTAL and not problems:
        problems.append(f"lists {total} bytes in all, at most {MAXIMUM_TOTAL} are allowed")
    return problems


def check_size(manifest: Manifest, size: int | None, where: str) -> None:
    """Refuse a version whose files are larger than an artifact's can be, or in all than `size` bytes.

    Args:
        manifest: of the version.
        size: bytes that a registry states for the version; None if none does.
        where: what messages call the version.

    Raises:
        IntegrityError: with what it lists; nothing has been fetched.
    """
    if problems := size_problems(manifest.files):
        raise IntegrityError(where, problems)
    total = sum(entry.size for entry in manifest.files)
    if size is not None and total > size:
        raise IntegrityError(f"{where}: lists {total} bytes, and {size} were expected from the registry")


def contents_problems(folder: Path, files: Iterable[FileEntry], *, kinds: bool = True) -> list[str]:
    """Return every difference between a folder and the list of its files; [] if there is none.

    Args:
        folder: of the artifact; it is not trusted.
        files: as its manifest lists them.
        kinds: say also which files are of a kind that an artifact must not hold.
    """
    wanted = {entry.path: entry for entry in files}
    if problems := size_problems(wanted.values()):
        return problems
    paths, found = listed_paths(folder)
    found += [Oddity(path, "not listed in the manifest") for path in paths if path not in wanted]
    odd = kind_problems(sorted({*paths, *wanted}))
    there, told = set(paths), {item.path for item in (*found, *odd)}
    problems = [str(item) for item in (*found, *(odd if kinds else ()))]
    for path in sorted(wanted):
        if path in there:
            problems += _difference(folder, wanted[path])
        elif path not in told:
            problems.append(f"{path}: missing")
    return problems


def _difference(folder: Path, wanted: FileEntry) -> list[str]:
    path = folder / wanted.path
    try:
        size = path.lstat().st_size
        if size != wanted.size:
            return [f"{wanted.path}: {size} bytes, expected {wanted.size}"]
        found = file_sha256(path, size, follow=False)
    except (FileNotFoundError, InvalidInputError):  # since it was listed
        return [f"{wanted.path}: changed while it was read"]
    return (
        []
        if found == wanted.sha256
        else [f"{wanted.path}: sha256 {found[:12]}…, expected {wanted.sha256[:12]}…"]
    )
