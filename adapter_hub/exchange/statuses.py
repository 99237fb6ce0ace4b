"""Statuses are never loosened on the way: what a rebuilt registry keeps, and what a mirror copies.

A store's status.json only grows. Where it was emptied, shortened or replaced, what a registry said, and this
machine remembers that it said, stays until an entry of a later time takes it back.

Whoever serves a mirror's source may write into it what they like, with whatever date. So the target ends with
the stricter of its own status and the source's; what would loosen it, or remove files, is left out, and a
warning names the command with which the target's owner can do it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adapter_hub.escaping import shown
from adapter_hub.formats.claims import Status, StatusEntry, strictness
from adapter_hub.formats.registry_file import Adapters, VersionBlock
from adapter_hub.formats.times import is_ahead, second_after, utc_now
from adapter_hub.registry.contract import Registry
from adapter_hub.registry.status_memory import StatusMemory
from adapter_hub.reporting import Tell
from adapter_hub.stores.contract import Claims


def keep_statuses(rebuilt: Adapters, registry: Registry) -> dict[str, str]:
    """Give blocks that were made from stores the status that the registry gave them, if that is stricter.

    Args:
        rebuilt: is changed in place.
        registry: as it was before.

    Returns:
        A line for every version that keeps its status, by `namespace/name@version`.
    """
    memory, lines = StatusMemory(registry.cache_folder), {}
    for name, versions in rebuilt.items():
        for version, block in versions.items():
            before = registry.adapters.get(name, {}).get(version)
            said = [_of(before)] if before and before.digest == block.digest else []
            said += [
                {"status": told.status, "reason": told.reason or None, "since": told.since}
                for told in memory.about(block.digest)
                if told.source == registry.label
            ]
            strictest = max(said, key=lambda item: strictness(item["status"]), default=None)
            if strictest and _loosens(block, strictest["status"], strictest["since"]):
                versions[version] = block.model_copy(update=strictest)
                reason = f" ({shown(strictest['reason'])})" if strictest["reason"] else ""
                lines[f"{name}@{version}"] = (
                    f"{name}@{version} stays {strictest['status']}{reason}: the registry said so, and no "
                    "later entry in the stores' status.json takes it back"
                )
    return lines


def _of(block: VersionBlock) -> dict[str, Any]:
    return {"status": block.status, "reason": block.reason, "since": block.since}


def _loosens(block: VersionBlock, status: Status, since: str | None) -> bool:
    if strictness(block.status) >= strictness(status):
        return False
    taken_back = block.since is not None and not is_ahead(block.since) and block.since > (since or "")
    return not taken_back


@dataclass(frozen=True)
class StatusCopy:
    """Copies the statuses of one version from a mirror's source to its target.

    Attributes:
        ref: `namespace/name@version`, for the messages.
        version: like `1.2.0`.
        withdraw: whether the user asked for withdrawals, which remove files.
        tell: called with one line for what is left out.
    """

    ref: str
    version: str
    withdraw: bool
    tell: Tell

    def entries(self, source: Claims, target: Claims) -> list[StatusEntry]:
        """Return the entries to add to the target's.

        Args:
            source: what the source claims.
            target: what the target has.
        """
        ours = target.by_version.get(self.version, ())
        theirs = self._admitted(source.by_version.get(self.version, ()))
        self._tell_withdrawal(source, target)
        have = set(ours)
        new = [entry for entry in theirs if entry not in have]
        here, there = target.status_of(self.version), Claims(statuses=tuple(theirs)).status_of(self.version)
        if here is None or there is None or not new:
            return new
        if strictness(there.status) < strictness(here.status):
            earlier = [entry for entry in new if entry.time < here.time]
            if len(earlier) < len(new):
                self.tell(
                    f"{self.ref}: the source says {there.status} and the target {here.status} "
                    f"({shown(here.reason)}), which stays; `adapter-hub retire {self.ref} --status "
                    f"{there.status} --reason …` with the target's registry changes it"
                )
            return earlier
        merged = target.with_statuses(new).status_of(self.version)
        if there in new and merged and strictness(there.status) > strictness(merged.status):
            now = max(utc_now(), second_after(here.time))  # it is new here, whenever the source had it
            new.append(there.model_copy(update={"time": now}))
        return new

    def _admitted(self, entries: Sequence[StatusEntry]) -> list[StatusEntry]:
        """Return the entries without those from the future and, unless asked for, withdrawals."""
        if ahead := [entry for entry in entries if is_ahead(entry.time)]:
            self.tell(
                f"{self.ref}: the source's {ahead[-1].status} is left out: its date {ahead[-1].time} is "
                f"ahead of this machine's clock{f', like {len(ahead) - 1} more' if len(ahead) > 1 else ''}"
            )
        return [
            entry
            for entry in entries
            if not is_ahead(entry.time) and (self.withdraw or entry.status != "withdrawn")
        ]

    def _tell_withdrawal(self, source: Claims, target: Claims) -> None:
        last, here = source.status_of(self.version), target.status_of(self.version)
        if self.withdraw or last is None or last.status != "withdrawn":
            return
        if here is None or here.status != "withdrawn":
            self.tell(
                f"{self.ref} was withdrawn at the source ({shown(last.reason)}): the target keeps its files; "
                "the same command with --withdraw removes them there too"
            )
