"""Claims as files, the same in every store: where they are below a name, and what is in them.

evaluations/<function digest>/<sha256 of the file>.json      status.json
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from adapter_hub.errors import AdapterHubError, IntegrityError, InvalidInputError, NotFoundError
from adapter_hub.files.reading import read_bounded
from adapter_hub.formats.canonical import explain, hex_of, read_json, sha256_hex
from adapter_hub.formats.claims import EvaluationReport, StatusEntry
from adapter_hub.formats.times import is_ahead, utc_now
from adapter_hub.stores.contract import Claims, ReadableClaims

EVALUATIONS, STATUS_FILE, CARD_FILE = "evaluations", "status.json", "README.md"
MAXIMUM_STATUSES = 10_000  # entries of one name
MAXIMUM_CLAIM = 32 * 2**20  # bytes; a report of 60 000 utterances, which takes 350 MB of memory
_ENTRIES = TypeAdapter(tuple[StatusEntry, ...])


def parse_statuses(raw: bytes, where: str) -> tuple[StatusEntry, ...]:
    """Read a status file.

    Args:
        raw: the file's bytes.
        where: for messages.

    Raises:
        IntegrityError: damaged; it never counts as `active`.
    """
    try:
        entries = read_json(raw, where)
        if not isinstance(entries, list):
            raise InvalidInputError(f"{where}: expected a list of status entries")
        if len(entries) > MAXIMUM_STATUSES:
            raise InvalidInputError(f"{where}: {len(entries)} entries, at most {MAXIMUM_STATUSES} are read")
        return _ENTRIES.validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]["loc"][0]
        raise IntegrityError(_about_entry(entries, first, where) or f"{where}: {explain(error)}") from None
    except InvalidInputError as error:
        raise IntegrityError(str(error)) from None


def _about_entry(entries: list[object], number: int | str, where: str) -> str:
    """Return what is wrong with the first entry that cannot be read; of thousands only one is reported."""
    assert isinstance(number, int)
    try:
        StatusEntry.parse(json.dumps(entries[number]).encode(), f"{where}, entry {number + 1}")
    except InvalidInputError as error:
        return str(error)
    return ""


def statuses_with(entries: Sequence[StatusEntry], new: Sequence[StatusEntry]) -> bytes | None:
    """Return the status file with more entries, in order of time, or None if they say nothing new.

    Args:
        entries: of the file.
        new: to add.

    Raises:
        InvalidInputError: more entries than a status file may hold.
    """
    before = Claims(statuses=tuple(entries))
    after = before.with_statuses(new)
    if after is before:
        return None
    if len(after.statuses) > MAXIMUM_STATUSES:
        raise InvalidInputError(
            f"{STATUS_FILE}: {len(after.statuses)} entries with the new ones, at most {MAXIMUM_STATUSES} are "
            "kept for a name; publish further versions under another name"
        )
    values = [item.to_json() for item in after.statuses]
    data = (json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
    if len(data) > MAXIMUM_CLAIM:
        raise InvalidInputError(f"{STATUS_FILE}: {len(data)} bytes, at most {MAXIMUM_CLAIM} are read")
    return data


def report_path(report: EvaluationReport, known: Sequence[str], where: str) -> str:
    """Return where a report belongs below its adapter's name.

    Args:
        report: about a version.
        known: the `function_digest` of every version.
        where: the store and the name, for the message.

    Raises:
        NotFoundError: no version is what it is about.
    """
    function = report.subject.function_digest
    if function is None or function not in known:
        raise NotFoundError(
            f"{where}: no version of {report.subject.name} has the function digest of this report, {function}"
        )
    return f"{EVALUATIONS}/{hex_of(function)}/{sha256_hex(report.to_bytes())}.json"


def parse_report(raw: bytes, path: str, where: str) -> EvaluationReport:
    """Read a report and check that it is what its path says.

    Args:
        raw: the file.
        path: below the name, see `report_path`.
        where: for the message.

    Raises:
        InvalidInputError: no report. IntegrityError: not the bytes or the adapter that its path says.
    """
    report = EvaluationReport.parse(raw, where)  # its name pins the bytes, canonical or not
    _, function, name = path.split("/")
    if name != f"{sha256_hex(raw)}.json":
        raise IntegrityError(f"{where}: its sha256 is {sha256_hex(raw)}, and its name has to be that")
    if report.subject.function_digest is None or hex_of(report.subject.function_digest) != function:
        raise IntegrityError(f"{where}: is about another function digest than its folder says")
    return report


def check_about(name: str, entry: StatusEntry, digest: str) -> None:
    """Refuse a status of another digest than the version has, or one that is dated ahead of this clock.

    Args:
        name: of the adapter, `namespace/name`.
        entry: the status.
        digest: of the version's manifest.

    Raises:
        IntegrityError: with both digests. InvalidInputError: with both times.
    """
    if is_ahead(entry.time):
        raise InvalidInputError(
            f"status {entry.status} of {name}@{entry.version}: dated {entry.time}, this machine's clock says "
            f"{utc_now()}; set the clock that is wrong"
        )
    if digest != entry.digest:
        raise IntegrityError(f"{name}@{entry.version} has digest {digest}, the claim is about {entry.digest}")


def read_claims(files: Mapping[str, Path], where: str) -> ReadableClaims:
    """Read what claims can be read.

    Args:
        files: by their paths below the name, see above.
        where: for the messages.
    """
    reports: list[EvaluationReport] = []
    statuses: tuple[StatusEntry, ...] = ()
    problems, status_problem = [], ""
    for path, file in files.items():
        try:
            if path == STATUS_FILE:
                statuses = parse_statuses(read_bounded(file, MAXIMUM_CLAIM), f"{path} of {where}")
            else:
                reports.append(parse_report(read_bounded(file, MAXIMUM_CLAIM), path, f"{path} of {where}"))
        except (AdapterHubError, ValueError) as error:
            if path == STATUS_FILE:
                status_problem = str(error)
            else:
                problems.append(str(error))
    return ReadableClaims(Claims(tuple(reports), statuses), tuple(problems), status_problem)
