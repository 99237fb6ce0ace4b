"""Evaluation reports as files: those that are given to commands, and those that no command may lose.

    report = read_report(Path("report.json"))
    with never_lost(report, options.cache_folder, is_saved=True):
        ...  # print, save and publish it

An evaluation takes minutes to hours; what was measured is kept in the cache's folder unless it was saved.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adapter_hub.cli.terminal.echo import echo_note
from adapter_hub.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from adapter_hub.formats.claims import EvaluationReport

MOST_KEPT = 50  # reports; the oldest go first


def read_report(file: Path) -> EvaluationReport:
    """Read a report.

    Args:
        file: that `evaluate --out` has written.

    Raises:
        NotFoundError: no such file. InvalidInputError: it is not a sound report.
    """
    from adapter_hub.files.reading import read_bounded
    from adapter_hub.formats.claims import EvaluationReport
    from adapter_hub.stores.claim_files import MAXIMUM_CLAIM

    if not file.is_file():
        raise NotFoundError(f"{file}: no such file; expected a report that `evaluate --out` has written")
    return EvaluationReport.parse(read_bounded(file, MAXIMUM_CLAIM), str(file))


def check_report_place(file: Path) -> None:
    """Refuse a place for a report before hours of evaluation.

    Args:
        file: that `--out` names.

    Raises:
        InvalidInputError: a folder, a pipe or a device is there. OSError: nothing can be written there.
    """
    from adapter_hub.files.writing import check_writable

    if file.is_dir():
        raise InvalidInputError(f"--out {file}: is a folder; name a file in it, like {file / 'report.json'}")
    check_writable(file)


@contextmanager
def never_lost(report: EvaluationReport, cache: Path, *, is_saved: bool) -> Iterator[None]:
    """Keep a copy of a report if what is done with it fails, or if nothing else saves it.

    Args:
        report: that was measured.
        cache: the cache's folder.
        is_saved: whether the body saves it.
    """
    try:
        yield
    except BaseException:  # an interrupt, too
        _keep(report, cache)
        raise
    if not is_saved:
        _keep(report, cache)


def kept_reports(function_digest: str, cache: Path) -> list[Path]:
    """Return the kept reports on an adapter, the newest last.

    Args:
        function_digest: of the adapter.
        cache: the cache's folder.
    """
    from adapter_hub.formats.canonical import hex_of

    found = (cache / "reports").glob(f"{hex_of(function_digest)[:12]}-*.json")
    return sorted(found, key=lambda path: path.stat().st_mtime)


def _keep(report: EvaluationReport, cache: Path) -> None:
    """Write a report to the cache or, if that cannot be written to, the system's temporary folder."""
    from adapter_hub.files.writing import write_atomically
    from adapter_hub.formats.canonical import hex_of, sha256_hex

    about = hex_of(report.subject.function_digest or report.base_model_digest)[:12]
    which = [report.data_sha256, report.split, report.normaliser, report.decoding.to_json()]
    name = f"{about}-{sha256_hex(repr(which).encode())[:12]}.json"
    for folder in (cache / "reports", Path(tempfile.gettempdir())):
        try:
            write_atomically(folder / name, report.to_bytes())
        except OSError:
            continue
        if folder.name == "reports":
            for path in sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)[:-MOST_KEPT]:
                path.unlink(missing_ok=True)
        publish = f"; `adapter-hub attach {folder / name}` publishes it" if report.subject.name else ""
        echo_note(f"the report is kept in {folder / name}{publish}")
        return
