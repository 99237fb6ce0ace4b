"""Which registries this user trusts without naming them: asked once, remembered in the user's data folder.

    registry_here(tell=print, ask=None)     # ./registry.json if it is trusted, else None, and a line about it

A folder that was cloned or unpacked may hold a `registry.json` of its maker, and its locations would
decide where adapters come from. So it counts only where it is named (`--registry registry.json`), or trusted
by its path and its id; another file in its place has to be trusted again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from platformdirs import user_data_path
from pydantic import Field

from adapter_hub import embedded
from adapter_hub.errors import AdapterHubError, InvalidInputError
from adapter_hub.escaping import shown
from adapter_hub.files.reading import read_bounded
from adapter_hub.formats.canonical import Record, Text, read_json
from adapter_hub.registry.record_file import RecordFile
from adapter_hub.reporting import Ask, Tell

MAXIMUM_SIZE = 4 * 2**20  # bytes
MAXIMUM_REGISTRY = 256 * 2**20  # bytes of a registry whose id is looked at
MAXIMUM_NAMESPACES = 10_000


class TrustedRegistry(Record):
    """A registry file that counts in its folder without being named."""

    path: Text
    registry_id: Text


class Trust(Record):
    """What the user trusts.

    Attributes:
        registries: files that count in their folders.
        namespaces: the ids of the registries that may list names in a namespace.
    """

    schema_: Annotated[Literal["trust/1"], Field(alias="schema")]
    registries: tuple[TrustedRegistry, ...] = ()
    namespaces: dict[str, tuple[str, ...]] = {}


def trust_file() -> Path:
    """Return the file that remembers what the user trusts."""
    return user_data_path("adapter_hub") / "trust.json"


def _file() -> RecordFile[Trust]:
    path = trust_file()

    def refuse(problem: str) -> InvalidInputError:
        return InvalidInputError(f"{problem}; correct {path}, or move it away to trust from scratch")

    return RecordFile(path, Trust, refuse, most=MAXIMUM_SIZE, lock=f"{path.name}.lock")


def read_trust() -> Trust:
    """Return what the user trusts; nothing if nothing was said yet.

    Raises:
        InvalidInputError: the file is damaged.
    """
    return _file().read() or Trust.model_validate({"schema": "trust/1"})


def change_trust(change: Callable[[Trust], Trust]) -> None:
    """Write down what the user trusts from now on.

    Args:
        change: makes it from what was trusted before.

    Raises:
        InvalidInputError: the file is damaged. ConflictError: another process keeps it locked.
        OSError: the folder cannot be written.
    """
    file = _file()
    with file.locked():
        before = read_trust()
        after = change(before)
        if after != before:
            file.write(after)


def trust_registry(path: Path, registry_id: str) -> None:
    """Let a registry file count in its folder; see `change_trust` for what may be raised.

    Args:
        path: of the file.
        registry_id: the id in it.
    """
    new = TrustedRegistry(path=str(path.resolve()), registry_id=registry_id)

    def change(trust: Trust) -> Trust:
        others = tuple(item for item in trust.registries if item.path != new.path)
        return trust.model_copy(update={"registries": (*others, new)})

    change_trust(change)


def registry_here(tell: Tell, ask: Ask | None = None) -> Path | None:
    """Return the `registry.json` of the current folder if it counts, else None.

    Args:
        tell: called with one line where there is one that does not count; a checkout's catalogue is none.
        ask: puts a question to the user; None if there is nobody to answer.
    """
    here = Path.cwd() / "registry.json"
    if not here.is_file():
        return None
    if is_catalogue(here):
        return None  # it is asked last anyway, and written to by those who make it alone
    ignored = (
        f"{here} is not used: a registry in the current folder counts once it is named (--registry "
        "registry.json) or trusted (`adapter-hub registry trust registry.json`)"
    )
    try:
        if _is_trusted(here):
            return here
        question = f"{here} is a registry that you have not used here yet. Trust it, here and from now on?"
        if ask and ask(question):
            trust_registry(here, registry_id_of(here))
            return here
    except (AdapterHubError, OSError) as error:
        ignored = f"{ignored}: {error}"
    tell(ignored)
    return None


def is_catalogue(path: Path) -> bool:
    """Tell whether a registry file is the embedded catalogue, or that of another checkout of the project.

    Args:
        path: of a file.
    """
    shipped = embedded.registry_path()
    if path.resolve() == shipped.resolve():
        return True
    with suppress(AdapterHubError, OSError):
        return registry_id_of(path) == registry_id_of(shipped)
    return False


def _is_trusted(path: Path) -> bool:
    wanted = str(path.resolve())
    trusted = next((item for item in read_trust().registries if item.path == wanted), None)
    return trusted is not None and trusted.registry_id == registry_id_of(path)


def registry_id_of(path: Path) -> str:
    """Return the id in a registry file.

    Args:
        path: of the file.

    Raises:
        InvalidInputError: not a registry. OSError: it is not there, or may not be read.
    """
    tree = read_json(read_bounded(path, MAXIMUM_REGISTRY), str(path))
    found = tree.get("registry_id") if isinstance(tree, dict) else None
    if not isinstance(found, str) or not found:
        raise InvalidInputError(
            f"{path}: not a registry; expected an object with a registry_id, got {shown(found)}"
        )
    return found
