"""Which statuses a mirror brings from its source: they tighten, and never loosen and never delete.

Whoever serves a source may write into it what he likes, with whatever date. So the target ends with the
stricter of its own status and the source's; what would loosen it, or remove files, is left out and told
together with the command by which the target's owner does it himself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapter_hub.escaping import shown
from adapter_hub.formats.claims import StatusEntry, strictness
from adapter_hub.formats.times import is_ahead, second_after, utc_now
from adapter_hub.reporting import Tell
from adapter_hub.stores.contract import Claims


@dataclass(frozen=True)
class Bringing:
    """The statuses of one version on their way.

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

    def entries(self, said: Claims, known: Claims) -> list[StatusEntry]:
        """Return the entries to add to the target's.

        Args:
            said: what the source claims.
            known: what the target has.
        """
        ours = known.by_version.get(self.version, ())
        theirs = self._that_may_come(said.by_version.get(self.version, ()))
        self._tell_of_withdrawal(said, known)
        have = set(ours)
        new = [entry for entry in theirs if entry not in have]
        here, there = known.status_of(self.version), Claims(statuses=tuple(theirs)).status_of(self.version)
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
        merged = known.with_statuses(new).status_of(self.version)
        if there in new and merged and strictness(there.status) > strictness(merged.status):
            now = max(utc_now(), second_after(here.time))  # it is news here, whenever the source had it
            new.append(there.model_copy(update={"time": now}))
        return new

    def _that_may_come(self, entries: Sequence[StatusEntry]) -> list[StatusEntry]:
        """Return the entries but those from the future, and, unless asked for, withdrawals."""
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

    def _tell_of_withdrawal(self, said: Claims, known: Claims) -> None:
        last, here = said.status_of(self.version), known.status_of(self.version)
        if self.withdraw or last is None or last.status != "withdrawn":
            return
        if here is None or here.status != "withdrawn":
            self.tell(
                f"{self.ref} was withdrawn at the source ({shown(last.reason)}): the target keeps its files; "
                "the same command with --withdraw removes them there too"
            )
