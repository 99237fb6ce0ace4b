"""Evaluation reports that `evaluate --out` has written, as arguments of commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from adapter_hub.errors import NotFoundError

if TYPE_CHECKING:
    from adapter_hub.formats.claims import EvaluationReport


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
