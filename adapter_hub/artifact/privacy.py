"""What is published stays for ever, so it must not reveal the machine and the people behind it.

    disclosures(manifest.to_json())      # [Disclosure("recipe", "a path on somebody's machine")]
    refuse_disclosures(artifact)         # before it is published
    without_names(report)                # numbers for speakers, digests for file names
    plain_name("whisper-da", "model")    # the same, or "model" if the user's name is in it

A path names a user, a token opens an account, a file name may name a patient. Publishing refuses the
first two, reports go without the last, and the audit looks for all of them in what others published.
"""

from __future__ import annotations

import getpass
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adapter_hub.artifact.folder import ANCESTORS, Artifact
from adapter_hub.artifact.safetensors_file import read_metadata
from adapter_hub.errors import IntegrityError
from adapter_hub.files.reading import read_bounded
from adapter_hub.formats.canonical import read_json
from adapter_hub.formats.claims import EvaluationReport, UtteranceRow

Kind = Literal["secret", "path"]
MAXIMUM_TEXT = 16 * 2**20  # bytes of a configuration or a licence
FOR_EVER = "a published version stays for ever: remove it there, then seal or import the adapter again"
# every repetition has a bound, so that no text takes more than linear time
_SECRETS = {
    "a token of the Hugging Face Hub": r"\b(?:hf|api_org)_[A-Za-z0-9]{20,200}",
    "a token of GitHub": r"\b(?:gh[oprsu]_[A-Za-z0-9]{30,255}|github_pat_[A-Za-z0-9_]{22,255})",
    "a token of GitLab": r"\bgl(?:pat|ptt|oas|rt)-[A-Za-z0-9_-]{20,255}",
    "a key of an API": r"\b(?:sk|pk|rk)[-_](?:[A-Za-z0-9]{1,20}[-_]){0,4}[A-Za-z0-9_-]{20,255}",
    "a key of AWS": r"\b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b",
    "a key of Google": r"\bAIza[0-9A-Za-z_-]{35}|\bya29\.[0-9A-Za-z_-]{20,500}",
    "a token of Slack": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,255}",
    "a token of a package index": r"\b(?:pypi-[A-Za-z0-9_-]{16,500}|npm_[A-Za-z0-9]{36})",
    "a signed token": r"\beyJ[A-Za-z0-9_-]{10,2000}\.[A-Za-z0-9_-]{10,2000}\.[A-Za-z0-9_-]{5,2000}",
    "a private key": r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY",
    "a password in an address": r"\b[A-Za-z][A-Za-z0-9+.-]{1,20}://[^/\s:@]{0,100}:[^/\s@]{1,200}@",
    "a password": (
        r"(?i)(?:password|passwd|secret|api[_-]?key|(?:access|auth|hf|bearer)[_-]?token)"
        r"[\"']?\s{0,3}[=:]\s{0,3}[\"']?[^\s\"']{8,200}"
    ),
}
_PATHS = {
    "a path on somebody's machine": (
        r"^/[^/\s]|(?<![\w.:/\\<>)\]])/[\w.+@-]{1,255}/[\w.+@-]"  # /data/ana/…
        r"|(?<![A-Za-z0-9])[A-Za-z]:[\\/]|\\\\[A-Za-z0-9]"  # D:\data\…, \\server\…
        r"|(?<![\w/])~[\w.-]{0,64}/|\bfile:/"
    ),
    "a path that leads outside": r"(?:^|[\s\"'=/\\])\.\.[/\\]",
}
_PATTERNS: tuple[tuple[Kind, str, re.Pattern[str]], ...] = (
    *(("secret", what, re.compile(pattern)) for what, pattern in _SECRETS.items()),
    *(("path", what, re.compile(pattern, re.MULTILINE)) for what, pattern in _PATHS.items()),
)
_SPOKEN = frozenset({"reference", "hypothesis"})  # what was said, which may be anything


@dataclass(frozen=True)
class Disclosure:
    """Something in a record that should not be published; the text itself is never repeated.

    Attributes:
        place: the field, like `recipe` or `data.0.id`.
        what: it looks like, for a message.
        kind: `secret` opens something, `path` is one on somebody's machine.
    """

    place: str
    what: str
    kind: Kind

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


def disclosures(value: Any, place: str = "") -> Iterator[Disclosure]:
    """Yield what plain JSON data or a text gives away, each kind once for every field.

    Args:
        value: a text, or plain JSON data; what was said (`reference`, `hypothesis`) is left out.
        place: what the findings call it, like `recipe`.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key not in _SPOKEN:
                yield from _in_text(str(key), place or "record")
                yield from disclosures(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from disclosures(item, f"{place}.{number}")
    elif isinstance(value, str):
        yield from _in_text(value, place)


def _in_text(text: str, place: str) -> Iterator[Disclosure]:
    return (Disclosure(place, what, kind) for kind, what, pattern in _PATTERNS if pattern.search(text))


def artifact_disclosures(artifact: Artifact) -> Iterator[Disclosure]:
    """Yield what an artifact gives away in its manifest, its small files and the notes in its weights.

    Its ancestors' manifests are others' and published already; their own audit reports on them.

    Args:
        artifact: its files are read.

    Raises:
        AdapterHubError, OSError: a file cannot be read.
    """
    yield from disclosures(artifact.manifest.to_json(), "adapter.json")
    for entry in artifact.manifest.files:
        path = artifact.path / entry.path
        if entry.path.startswith(f"{ANCESTORS}/"):
            continue
        if entry.path.endswith(".safetensors"):
            yield from disclosures(read_metadata(path), entry.path)
            continue
        raw = read_bounded(path, MAXIMUM_TEXT, follow=False)
        if entry.path.endswith(".json"):
            yield from disclosures(read_json(raw, entry.path), entry.path)
        else:
            yield from disclosures(raw.decode("utf-8", "replace"), entry.path)


def refuse_disclosures(artifact: Artifact) -> None:
    """Refuse to publish an artifact that holds a token, a password or a path of a machine.

    Args:
        artifact: to be published.

    Raises:
        IntegrityError: with every field that does; what it holds is not repeated.
    """
    if found := list(dict.fromkeys(map(str, artifact_disclosures(artifact)))):
        raise IntegrityError(f"{artifact.ref} in {artifact.path}", found, FOR_EVER)


def refuse_report(report: EvaluationReport) -> None:
    """Refuse a report that holds such a thing anywhere but in what was said.

    Args:
        report: to be attached.

    Raises:
        IntegrityError: as `refuse_disclosures`.
    """
    if found := list(dict.fromkeys(map(str, disclosures(report.to_json(), "report")))):
        hint = "attach it without --with-speakers, or evaluate again on data that goes by another name"
        raise IntegrityError(f"report on {report.subject.name}", found, hint)


def without_names(report: EvaluationReport) -> EvaluationReport:
    """Return a report with numbers for speakers and content digests for the names of files.

    Numbers, not hashes: whoever can guess a name can hash it. They follow the digests of the speakers'
    audio, so that every report on the same data numbers them alike. The interval is the report's own.

    Args:
        report: as the evaluation wrote it.
    """
    numbers = _numbered(report.rows)
    seen: dict[str, int] = {}
    rows = []
    for row in report.rows:
        seen[row.audio_sha256] = count = seen.get(row.audio_sha256, 0) + 1
        changes: dict[str, str] = {"id": row.audio_sha256 if count == 1 else f"{row.audio_sha256}-{count}"}
        if row.speaker is not None:
            changes["speaker"] = numbers[row.speaker]
        rows.append(row.model_copy(update=changes))
    return report.model_copy(update={"rows": tuple(rows)})


def _numbered(rows: Iterable[UtteranceRow]) -> dict[str, str]:
    first: dict[str, str] = {}
    for row in rows:
        if row.speaker is not None:
            first[row.speaker] = min(row.audio_sha256, first.get(row.speaker, row.audio_sha256))
    ordered = sorted(first, key=lambda speaker: first[speaker])
    return {speaker: f"speaker-{number}" for number, speaker in enumerate(ordered, 1)}


def names_people(report: EvaluationReport) -> bool:
    """Tell whether a report holds speakers' or files' names, as one that `without_names` made does not."""
    return any(
        not row.id.startswith(row.audio_sha256)
        or (row.speaker is not None and not re.fullmatch(r"speaker-[1-9]\d*", row.speaker))
        for row in report.rows
    )


def plain_name(name: str, instead: str) -> str:
    """Return the name of a folder or file unless it is, or holds, that of the user or the home folder.

    Args:
        name: the last part of its path.
        instead: what to publish where that is not to be.
    """
    return instead if not name or _reveals_the_user(name) else name


def _reveals_the_user(text: str) -> bool:
    names: set[str] = set()
    with suppress(OSError, KeyError, RuntimeError, ImportError):  # no such user, no home
        names |= {getpass.getuser(), Path.home().name}
    return any(
        re.search(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", text, re.IGNORECASE) for name in names - {""}
    )
