"""Calling transformers without its progress bars and its advice about arguments."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging

_lock = threading.Lock()
_users = 0
_before = (logging.WARNING, True)


@contextmanager
def quiet() -> Iterator[None]:
    """Let transformers log errors only; restored when the last of several threads is done."""
    global _users, _before  # transformers' verbosity is global itself
    with _lock:
        if _users == 0:
            _before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
            logging.set_verbosity_error()
            logging.disable_progress_bar()
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                logging.set_verbosity(_before[0])
                if _before[1]:
                    logging.enable_progress_bar()
