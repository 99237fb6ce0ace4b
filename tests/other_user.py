"""Doing something as another user of this machine, who owns nothing and is in no group of ours."""

from __future__ import annotations

import os
from collections.abc import Callable

import filelock  # noqa: F401 - libraries may lie where only this user can read them: loaded before
import pytest

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as somebody else")


def as_nobody(action: Callable[[], object]) -> str:
    """Return what `action` gives, or its error, in a forked process of the user `nobody`."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        text = "killed"
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            text = str(action())
        except BaseException as error:  # noqa: BLE001 - the parent judges it
            text = f"{type(error).__name__}: {error}"
        finally:
            os.write(write_end, text.encode())
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, encoding="utf-8") as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text
