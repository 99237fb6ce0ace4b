"""Who can write where: what only this user can have written is trusted without a check.

if is_private(note.parent) and is_ours(note.lstat()): ...
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path

MAXIMUM_LINKS = 40  # in each other, as systems follow them


def is_private(folder: Path) -> bool:
    """Tell whether only this user (and root) can put anything into `folder`, or replace it.

    Only then its content must be this program's own, and is trusted without a check. Every
    folder and link on the way counts. Writing is the owner's, and the group's if that is the user's own;
    in a folder like `/tmp`, where people cannot move what is not theirs, being the owner is enough; and
    what is in a folder that no other user can enter is out of reach, whatever its own mode.

    Args:
        folder: need not be absolute.
    """
    if os.name != "posix":
        return True  # a user's folders there are the user's, and nothing tells otherwise
    closed, status = False, None
    try:
        for status, deeper in _way_to(folder):
            if not _is_owned(status):
                return False
            closed = closed and deeper
            if not closed and _others_write(status) and not status.st_mode & stat.S_ISVTX:
                return False
            closed = closed or (stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077)
    except (OSError, ValueError):  # not there, not to be looked at, links in a circle
        return False
    return status is not None and (closed or not _others_write(status))


def is_ours(status: os.stat_result, *, reached: bool = True) -> bool:
    """Tell whether a file or folder is this user's (or root's), and no other user can write to it.

    Args:
        status: of it.
        reached: False if others cannot get to it, so that its own mode does not matter.
    """
    return _is_owned(status) and not (reached and _others_write(status))


def _is_owned(status: os.stat_result) -> bool:
    return os.name != "posix" or status.st_uid in (0, os.geteuid())


def _others_write(status: os.stat_result) -> bool:
    if os.name != "posix" or stat.S_ISLNK(status.st_mode):
        return False
    by_group = status.st_mode & stat.S_IWGRP and status.st_gid != _own_group()
    return bool(by_group or status.st_mode & stat.S_IWOTH)


@cache
def _own_group() -> int | None:
    """Return the group that only this user is in, as many systems give to each; None where there is none."""
    import grp  # noqa: PLC0415 - no such thing elsewhere
    import pwd  # noqa: PLC0415

    try:
        user = pwd.getpwuid(os.geteuid())
        group = grp.getgrgid(user.pw_gid)
    except KeyError:
        return None
    alone = group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
    return group.gr_gid if alone else None


def _way_to(folder: Path) -> Iterator[tuple[os.stat_result, bool]]:
    """Yield every folder and link that leads to `folder`, and whether it is deeper than the one before."""
    absolute, links = folder.absolute(), 0
    place, waiting = absolute.anchor, list(reversed(absolute.parts[1:]))
    yield os.lstat(place), False
    while waiting:
        name = waiting.pop()
        step = os.path.dirname(place) if name == ".." else os.path.join(place, name)  # noqa: PTH118, PTH120
        status = os.lstat(step)
        yield status, name != ".."
        place = step
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > MAXIMUM_LINKS:
                raise OSError(f"{folder}: more than {MAXIMUM_LINKS} nested links")
            target = Path(step).parent / os.readlink(step)  # noqa: PTH115
            place = target.anchor
            waiting += reversed(target.parts[1:])
            yield os.lstat(place), False
