"""What a check found, as `audit` and `registry check` print it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from adapter_hub.cli.terminal.echo import echo_line

if TYPE_CHECKING:
    from adapter_hub.formats.claims import Finding


def echo_findings(findings: Iterable[Finding]) -> None:
    """Print each finding on a line, and below it what to do about it.

    Args:
        findings: of an audit, or of a comparison of registry and stores.
    """
    for finding in findings:
        echo_line(f"{finding.severity}: {finding.ref}: {finding.message} [{finding.code}]")
        if finding.hint and finding.severity != "info":
            echo_line(f"  {finding.hint}")
