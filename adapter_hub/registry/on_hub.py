"""A registry that people share over the Hub: `registry.json` in a dataset repository.

    registry = HubRegistry("hf://datasets/alice/registry")
    registry.adapters["mini/da"]["1.0.0"].status
    registry.update(change)

Nobody can lock a file on the Hub. A writer puts its change on the newest state and commits it on top of
that commit, which the Hub refuses if another writer was faster; then it reads again and repeats. Readers ask
for the newest commit, and read the file only if it is another than that of this machine's copy, which
is also what they use while the Hub cannot be reached.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from adapter_hub.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    StaleParentError,
    UnreachableError,
)
from adapter_hub.formats.canonical import sha256_hex
from adapter_hub.formats.registry_file import (
    Adapters,
    LoadedRegistry,
    check_next_sequence,
    parse_registry,
)
from adapter_hub.hub import HubClient, RepoId
from adapter_hub.paths import cache_folder
from adapter_hub.registry.contract import FRESH_SECONDS, Listing, read_only_error
from adapter_hub.registry.copy import Known, RegistryCopy
from adapter_hub.registry.memory import Memory, another_registry
from adapter_hub.registry.repository import RegistryRepo
from adapter_hub.registry.states import new_registry, next_state, read_or_mend

LOOKS = 4  # how often a state that went back is looked at: a server may answer with an old one for a moment
WRITE_SECONDS = 600.0  # how long a writer tries to be the fastest
STUCK = 8  # commits refused as stale while the Hub still shows the same one as the newest
LOSSES = 2  # answers to commits that may be lost before it counts as out of reach
LONGEST_PAUSE = 4.0  # seconds between two attempts to commit


class HubRegistry(Listing):
    """A registry in a dataset repository.

    Attributes:
        client: how it is reached.
        path: this machine's copy of the file.
        read_only: whether `update` is refused.
    """

    is_on_hub, is_embedded, is_repository = True, False, False

    def __init__(
        self,
        repo: RepoId | str,
        *,
        client: HubClient | None = None,
        read_only: bool = False,
        cache: Path | None = None,
        private: bool | None = None,
    ) -> None:
        """Name a registry without asking for it.

        Args:
            repo: `hf://datasets/namespace/name`.
            client: by default for HF_ENDPOINT.
            read_only: refuse `update`.
            cache: folder for the copy and for what was seen; the user's by default.
            private: whether the repository is made as a private one; None leaves it to the Hub.

        Raises:
            InvalidInputError: not the name of a dataset repository.
        """
        self.client = client or HubClient()
        self._repo = RegistryRepo(repo if isinstance(repo, RepoId) else _dataset(repo), self.client)
        key = sha256_hex(f"{self.client.endpoint} {self._repo.id}".encode())[:32]
        self._copy = RegistryCopy((cache or cache_folder()) / "registries" / key)
        self.path, self.read_only = self._copy.path, read_only
        self._cache, self._private = cache, private
        self._settled = self._asked = self._mending = False
        self._loaded: LoadedRegistry | None = None
        self._renewal = ""
        self._copied_at: float | None = None  # as `time.time()`
        self._not_remembered = ""  # why what was seen could not be written down
        self._head: str | None = None  # the commit of what is loaded; None for a repository that is not there
        self._exists = False  # the file, in that commit
        self._out_of_reach = ""
        self._is_newest = False  # as far as was asked for a turn that has not written yet

    @property
    def label(self) -> str:
        """`hf://datasets/namespace/name`."""
        return str(self._repo.id)

    @property
    def default_store(self) -> str:
        """The adapters of the registry's namespace."""
        return f"hf://{self._repo.id.namespace}"

    @property
    def cache_folder(self) -> Path:
        """The folder that remembers what this machine saw of registries and statuses."""
        return self._cache or cache_folder()

    @property
    def memory(self) -> Memory:
        """What this machine saw of it before."""
        return Memory(self.cache_folder, f"{self.client.endpoint} {self._repo.id}", self.label)

    @property
    def is_copy(self) -> bool:
        """Whether a copy was settled for, and the Hub was not asked since."""
        return self._settled and not self._asked

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the Hub could not be asked, how old the copy is, and whether it could be kept."""
        self._state()
        found = [self._out_of_reach, self._not_remembered]
        age = 0.0 if self._copied_at is None or self._out_of_reach else time.time() - self._copied_at
        if age > FRESH_SECONDS:
            hours = f"{age / 3600:.0f} hours old"
            found.append(f"the copy of registry {self.label} is {hours}; statuses may have changed since")
        return tuple(filter(None, found))

    @property
    def renewal(self) -> str:
        """Why it starts over under a new id, once it may be mended; empty if it does not have to."""
        self._state()
        return self._renewal

    def mend(self) -> None:
        """From now on, let what cannot be read or written any more start over, with all that is readable."""
        self._mending, self._loaded, self._is_newest = True, None, False

    def settle_for_copy(self) -> None:
        """Use an existing copy, however old, without a request: enough for what never changes."""
        self._settled = True

    def refresh(self) -> None:
        """Read the newest state, or the copy with a warning if the Hub cannot be reached.

        Raises:
            UnreachableError: there is no copy either. NotFoundError: no such registry.
            InvalidInputError: damaged or newer than this program. IntegrityError: not the one seen before.
        """
        self._asked = True
        try:
            self._read_newest()
            if not self._exists:
                self._loaded = None
                raise NotFoundError(
                    f"registry {self.label}: there is none on {self.client.endpoint} (or it is private: log "
                    "in with `hf auth login`); check the name, the first publish makes it"
                )
        except UnreachableError as error:
            self._fall_back(error)

    def _state(self) -> LoadedRegistry:
        if self._loaded is None and not (self.is_copy and self._read_copy()):
            self.refresh()
        assert self._loaded is not None
        return self._loaded

    def _read_copy(self) -> bool:
        """Load the copy; return whether there is one that may be used."""
        copy = self._copy.read()
        if copy is None:
            return False
        loaded = parse_registry(copy.raw, self.label)
        if self._differences(loaded, None):
            return False
        self._loaded, self._copied_at, self._head, self._exists = loaded, copy.fetched, copy.commit, True
        return True

    def _fall_back(self, error: UnreachableError) -> None:
        reason = "HF_HUB_OFFLINE is set" if self.client.offline else str(error)
        if not self._read_copy() and self._loaded is None:
            raise UnreachableError(
                f"registry {self.label}: this machine has no copy of it that can be used, and {reason}"
            ) from error
        hours = (time.time() - (self._copied_at or 0.0)) / 3600
        age = f"{hours:.0f} hours" if hours >= 1.0 else f"{60 * hours:.0f} minutes"
        self._out_of_reach = (
            f"registry {self.label} could not be asked ({reason}); its copy is used, which is {age} old: "
            "statuses may have changed since"
        )

    def _read_newest(self) -> None:
        """Load what the Hub has now; nothing at all counts as a registry without versions.

        Raises:
            UnreachableError, InvalidInputError, IntegrityError.
        """
        for look in range(LOOKS):
            if look:
                time.sleep(self.client.retries.pause(look - 1))
            known = self._copy.known()
            head, raw, loaded = self._newest()
            problems = self._gone(known) if raw is None else self._differences(loaded, known)
            if not problems:
                break
        else:
            raise self.memory.refuse(problems, loaded.file.registry_id, self._copy.folder)
        self._loaded, self._head, self._exists = loaded, head, raw is not None
        if raw is not None and head is not None:
            self._keep(raw, head, loaded)

    def _newest(self) -> tuple[str | None, bytes | None, LoadedRegistry]:
        """Return the newest commit, the file in it, and what that says; None for what is not there."""
        head = self._repo.head()
        if head is None:
            return None, None, new_registry()
        copy = self._copy.read()
        if copy is not None and copy.commit == head:
            if self._loaded is not None and self._exists and self._head == head:
                return head, copy.raw, self._loaded
            return head, copy.raw, self._parse(copy.raw)
        raw = self._repo.read(head)
        return head, raw, new_registry() if raw is None else self._parse(raw)

    def _parse(self, raw: bytes) -> LoadedRegistry:
        loaded, self._renewal = read_or_mend(raw, self.label, mending=self._mending)
        return loaded

    def _gone(self, known: Known | None) -> list[str]:
        """Return what is wrong if nothing is there: what was seen is not taken for an empty registry."""
        if self._mending:
            return []
        if known is not None:
            return [f"it is gone; this machine saw it with sequence {known.sequence}"]
        return [problem] if (problem := self.memory.gone()) else []

    def _differences(self, loaded: LoadedRegistry, known: Known | None) -> list[str]:
        """Return how a state contradicts what this machine saw before."""
        if self._renewal:
            return []  # it starts over under a new id, and others are told
        if known is not None and known.registry_id != loaded.file.registry_id:
            return [another_registry(known.registry_id, loaded)]
        problems = self.memory.problems(loaded)
        if not problems and known is not None and loaded.file.sequence < known.sequence:
            problems = [f"its sequence went back from {known.sequence} to {loaded.file.sequence}"]
        return problems

    def _keep(self, raw: bytes, head: str, loaded: LoadedRegistry) -> None:
        self._copied_at, self._out_of_reach = time.time(), ""
        if self._renewal:
            return
        self._not_remembered = self.memory.keep(loaded)
        try:
            self._copy.keep(raw, head, loaded.file)
        except OSError as error:  # a full disk must not keep anyone from reading
            self._not_remembered = f"no copy of registry {self.label} could be kept for later: {error}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Read the newest state; others cannot be kept out, so `update` may find a later one.

        Raises:
            InvalidInputError: read-only. UnreachableError: the Hub cannot be asked.
        """
        if self.read_only:
            raise read_only_error(self.label)
        self._asked = True
        self._read_newest()
        check_next_sequence(self._state(), self.label)
        self._is_newest = True  # a commit on top of something else is refused, so this is asked once
        yield

    def update(self, change: Callable[[Adapters], None]) -> bool:
        """Change the blocks and write the file once, on top of the newest state.

        Args:
            change: see `Registry.update`; it is called again for every state that others wrote meanwhile.

        Returns:
            Whether it was written.

        Raises:
            IntegrityError: a published version would change its digest or vanish.
            ConflictError: others kept being faster. UnreachableError, AccessError.
        """
        if self.read_only:
            raise read_only_error(self.label)
        self._asked = True
        deadline = time.monotonic() + WRITE_SECONDS
        losses: list[UnreachableError] = []
        heads: Counter[str | None] = Counter()
        for attempt in count():
            self._pause(attempt)
            if not self._is_newest:
                self._read_newest_after(losses)
            self._is_newest = False
            anyway = not self._exists or bool(self._renewal)
            after = next_state(self._state(), change, self.label, anyway=anyway)
            if after is None:  # if an answer was lost, the commit was not
                return bool(losses)
            heads[self._head] += 1
            if len(losses) >= LOSSES:
                raise losses[-1]
            if heads[self._head] > STUCK or time.monotonic() > deadline:
                break
            if self._head is None:  # another writer may be making it, too: read what is there then
                self.client.create_repo(self._repo.id, self._private)
                continue
            try:
                self._commit(after, self._head)
                return True
            except StaleParentError:
                continue
            except UnreachableError as error:
                losses.append(error)
        raise ConflictError(f"registry {self.label}: other writers kept being faster; try again")

    def _pause(self, attempt: int) -> None:
        if attempt:  # by chance, so that the same two do not meet again
            longest = min(self.client.retries.first_wait * 2.0**attempt, LONGEST_PAUSE)
            time.sleep(random.uniform(0.0, longest))

    def _read_newest_after(self, losses: list[UnreachableError]) -> None:
        try:
            self._read_newest()
        except UnreachableError as error:
            if not losses:
                raise
            raise UnreachableError(
                f"registry {self.label}: the connection was lost while it was written, so it is not known "
                f"whether it was; run the command again to be sure ({error})"
            ) from error

    def _commit(self, after: LoadedRegistry, parent: str) -> None:
        """Commit a state on top of the one that it was made from, and read it back."""
        raw = after.raw
        message = f"Registry {after.file.registry_id}, sequence {after.file.sequence}"
        commit = self._repo.write(raw, parent=parent, message=message)
        self._loaded, self._head, self._exists, self._renewal = after, commit, True, ""
        self._keep(raw, commit, after)


def _dataset(text: str) -> RepoId:
    """Read `hf://datasets/namespace/name`."""
    try:
        repo = RepoId.parse(text)
    except InvalidInputError:
        repo = None
    if repo is None or repo.kind != "dataset":
        raise InvalidInputError(
            f"registry {text}: expected a file, or hf://datasets/namespace/name on the Hub (a dataset "
            "repository)"
        )
    return repo
