"""Crash reports: a file with the traceback of an unexpected exception.

    place = write_crash_report(error, "list")      # ~/.local/state/adapter_hub/log/failure-….txt

It holds the traceback, the name of the command and the versions of packages; not the arguments, the
environment or values of variables. What looks like a secret is left out, and the user's home folder is
written `~`. Only the user can read it, and only the newest reports are kept.
"""

from __future__ import annotations

import os
import platform
import re
import secrets
import time
import traceback
from pathlib import Path

from platformdirs import user_log_path

from adapter_hub.escaping import escaped_lines
from adapter_hub.packages import PACKAGES, package_versions

MOST_FILES = 20
MOST_CHARACTERS = 200_000
_SECRETS = (
    (re.compile(r"\bhf_\w{8,}"), "hf_…"),
    (re.compile(r"(?<=://)[^\s/@]+@"), "…@"),
    (re.compile(r"(?i)\b(bearer|token|api[-_]?key|password|secret)(\W{1,4})[^\s'\",;]{6,}"), r"\1\2…"),
)
_SECRET_NAME = re.compile(r"(?i)token|key|secret|passw|credential")


def crash_reports_folder() -> Path:
    """Return the folder of crash reports, in the user's folder for logs."""
    return user_log_path("adapter_hub")


def message_of(error: BaseException) -> str:
    """Return the start of an exception's message, without secrets."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an exception that cannot even be printed
        text = "its message cannot be read"
    return without_secrets(text[:500])


def write_crash_report(error: BaseException, command: str) -> Path | None:
    """Write a crash report.

    Args:
        error: the unexpected exception.
        command: its name, without arguments.

    Returns:
        The path of the report; None if the folder cannot be written to.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = crash_reports_folder() / f"failure-{stamp}-{secrets.token_hex(3)}.txt"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(_record(error, command))
        _remove_old_reports(path.parent)
    except OSError:
        return None
    return path


def without_secrets(text: str) -> str:
    """Return text without what looks like a secret, and with `~` for the user's home folder."""
    for name, value in os.environ.items():
        if len(value) >= 6 and _SECRET_NAME.search(name):
            text = text.replace(value, "…")
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    home = str(Path.home()) if os.environ.get("HOME") else ""
    return text.replace(home, "~") if len(home) > 1 else text


def _record(error: BaseException, command: str) -> str:
    text = without_secrets("".join(traceback.format_exception(error)))
    if len(text) > MOST_CHARACTERS:
        text = f"{text[: MOST_CHARACTERS // 2]}\n[…]\n{text[-MOST_CHARACTERS // 2 :]}"
    versions = package_versions((*PACKAGES, "click", "huggingface-hub", "pydantic"))
    lines = [
        f"command: adapter-hub {command}",
        f"system: {platform.platform()}, Python {platform.python_version()}",
        f"packages: {', '.join(f'{name} {found}' for name, found in versions.items())}",
    ]
    return escaped_lines("\n".join([*lines, "", text]))


def _remove_old_reports(folder: Path) -> None:
    for path in sorted(folder.glob("failure-*.txt"))[:-MOST_FILES]:
        path.unlink(missing_ok=True)
