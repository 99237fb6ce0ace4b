"""A bulk job as plain data, which goes to workers as it is, and the transcriber that it needs.

    job = Job("auto", how={"languages": ("da", "pl")}, options={"beams": 1}, places={…})
    opened = job.begin(rows, tell)                # resolves and pins every adapter; nothing is written
    opened.transcriber, opened.plan
    job.go_on(plan, tell)                         # the same, with what the plan pins, in any process

Rows of any mixture of adapters share batches: where rows name adapters, the transcriber is one for `auto`,
and each recording is given its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from adapter_hub.bulk import SHARD_ROWS
from adapter_hub.bulk.plan import Form, Pin, PinnedCandidate, Plan
from adapter_hub.bulk.rows import Row, rows_sha256
from adapter_hub.errors import AdapterHubError, ConflictError, InvalidInputError
from adapter_hub.escaping import shown
from adapter_hub.exchange import Places, pull
from adapter_hub.formats.reference import AUTO, BASE_MODEL, AdapterRef, parse_blend, parse_source
from adapter_hub.reporting import Tell
from adapter_hub.transcription.candidates import by_language
from adapter_hub.transcription.opening import load
from adapter_hub.transcription.options import OptionWords
from adapter_hub.transcription.routing import Candidate, FixedRoute, LanguageRouter, Router
from adapter_hub.transcription.transcriber import Transcriber

NOT_COMPARED = ("base_model", "allow_quarantined")  # of the options of `load`: digests are compared
FOR_AUTO = ("languages", "adapters", "fallback")  # of the options of `load`


@dataclass(frozen=True)
class Job:
    """What is asked for.

    Attributes:
        model: the adapter of rows that name none: a reference, `auto` or `base-model`.
        how: arguments of `adapter_hub.load`, by name: language, languages, adapters, base_model, …
        options: how to transcribe, as `Transcriber.transcribe` takes them.
        places: registry, cache, device and dtype, as `adapter_hub.load` takes them.
        mixed: whether rows name adapters of their own.
        shard_rows: rows of a shard.
        form: of the shards.
        audio_column: of lists and parquet; None for the usual names.
    """

    model: str
    how: Mapping[str, Any] = field(default_factory=dict)
    options: OptionWords = field(default_factory=lambda: OptionWords())
    places: Mapping[str, str | None] = field(default_factory=dict)
    mixed: bool = False
    shard_rows: int = SHARD_ROWS
    form: Form = "jsonl"
    audio_column: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the results, as plain data; adapters and the base model are pinned by digest."""
        own = {"model": self.model, "shard_rows": self.shard_rows, "format": self.form}
        how = {name: value for name, value in self.how.items() if name not in NOT_COMPARED}
        every = {**own, **how, **self.options, "dtype": self.places.get("dtype")}
        plain = json.loads(json.dumps(every))
        return {name: value for name, value in plain.items() if value not in (None, [], "")}

    def begin(self, rows: Sequence[Row], tell: Tell) -> Opened:
        """Resolve every adapter, load what the job needs, and check that its rows can be transcribed.

        Args:
            rows: all.
            tell: called with warnings.

        Raises:
            AdapterHubError: as `adapter_hub.load`; a row's adapter or language that cannot be.
        """
        self._check()
        named = dict.fromkeys(row.model for row in rows if row.model)
        own = [self.model, *self.how.get("adapters", ()), self.how.get("fallback")]
        refs = [ref for ref in dict.fromkeys([*own, *named]) if ref and ref not in (AUTO, BASE_MODEL)]
        pins = {pin.asked: pin for ref in refs for pin in self._pins(ref, tell)}
        transcriber = self._load({asked: pin.ref for asked, pin in pins.items()}, named, tell)
        router, candidates = transcriber.router, None
        if self.model == AUTO and isinstance(router, LanguageRouter):
            candidates = tuple(_pinned(router))
        plan = Plan.model_validate(
            {
                "schema": "bulk/1",
                "rows": len(rows),
                "rows_sha256": rows_sha256(rows),
                "settings": self.settings,
                "base_model_id": transcriber.base.id,
                "base_model_digest": transcriber.base.digest,
                "adapters": tuple(pins.values()),
                "candidates": candidates,
            }
        )
        opened = Opened(self, plan, transcriber)
        opened.check(rows)
        return opened

    def go_on(self, plan: Plan, tell: Tell) -> Opened:
        """Load what a plan pins.

        Args:
            plan: of this job.
            tell: called with warnings.

        Raises:
            ConflictError: the base model is another one. AdapterHubError: as `adapter_hub.load`; what was
                pinned is not there any more.
        """
        self._check()
        job = self
        if self.model in (AUTO, BASE_MODEL) and not (plan.adapters or self.how.get("base_model")):
            job = replace(self, how={**self.how, "base_model": plan.base_model_id})
        refs = {pin.asked: pin.ref for pin in plan.adapters}
        transcriber = job._load(refs, refs, tell)
        if transcriber.base.digest != plan.base_model_digest:
            raise ConflictError(
                f"base model {transcriber.base.id}: not the one that the job was begun with "
                f"({plan.base_model_id}); name that with --base-model"
            )
        if plan.candidates is not None and isinstance(transcriber.router, LanguageRouter):
            chosen = by_language(
                Candidate(item.ref, item.language, decode_language=item.decode_language)
                for item in plan.candidates
            )
            transcriber = replace(transcriber, router=replace(transcriber.router, candidates=chosen))
        return Opened(self, plan, transcriber)

    def _check(self) -> None:
        """Refuse options that have no meaning where rows name adapters."""
        if not self.mixed or self.model == AUTO:
            return
        if given := [name for name in (*FOR_AUTO, "decode_language") if self.how.get(name)]:
            raise InvalidInputError(
                f"--{given[0].replace('_', '-')}: rows name their adapters, and {self.model} is for the "
                "others; leave it out, or let --model auto choose for the others"
            )

    def _pins(self, ref: str, tell: Tell) -> Iterator[Pin]:
        """Resolve a reference, or the parts of a blend."""
        places = Places(self.places.get("registry"), cache=self.places.get("cache"), tell=tell)
        for part, _ in parse_blend(ref) or ((ref, 1.0),):
            artifact = pull(part, places, allow_quarantined=self.how.get("allow_quarantined"))
            version, digest, source = artifact.manifest.version, artifact.digest, parse_source(part)
            if isinstance(source, AdapterRef):
                source = replace(source, version=version, compatible=None, digest=digest)
            else:
                source = source.absolute()  # workers are in other folders
            yield Pin(asked=part, ref=str(source), name=artifact.ref, digest=digest)

    def _load(self, refs: Mapping[str, str], named: Iterable[str], tell: Tell) -> Transcriber:
        """Return the transcriber with every reference replaced by the pinned one."""
        how: dict[str, Any] = dict(self.how)
        places: dict[str, Any] = {**self.places, "tell": tell}
        if self.mixed and self.model != AUTO:
            every = dict.fromkeys([self.model, *named])
            adapters = [refs[ref] for ref in every if ref in refs]
            base = how.get("base_model")
            if adapters:
                return load(AUTO, base_model=base, adapters=adapters, **places)
            return load(BASE_MODEL, base_model=base, **places)
        how["adapters"] = [refs.get(ref, ref) for ref in how.get("adapters", ())]
        how["fallback"] = refs.get(how.get("fallback") or "", how.get("fallback"))
        if self.model == AUTO:
            how.pop("language", None)  # each recording is given it
        return load(_replaced(self.model, refs), **how, **places)


@dataclass(frozen=True, eq=False)
class Opened:
    """A job with its transcriber.

    Attributes:
        job: that is asked for.
        plan: what it is, to the byte.
        transcriber: with every adapter of the job, or able to load it.
    """

    job: Job
    plan: Plan
    transcriber: Transcriber

    @property
    def digests(self) -> dict[str, str]:
        """The digests of adapters, by the names that results call them."""
        found = {pin.name: pin.digest for pin in self.plan.adapters}
        for item in self.plan.candidates or ():
            ref = parse_source(item.ref)
            if isinstance(ref, AdapterRef) and ref.digest:
                found[f"{ref.name}@{ref.version}"] = ref.digest
        return found

    def adapter_of(self, row: Row) -> str | None:
        """Return the reference of the adapter that a row is given; None where the transcriber decides.

        Args:
            row: of the job.
        """
        asked = row.model or (self.job.model if self.job.mixed and self.job.model != AUTO else None)
        if asked is None or asked == AUTO:
            return None
        return next((pin.ref for pin in self.plan.adapters if pin.asked == asked), asked)

    def language_of(self, row: Row) -> str | None:
        """Return the language that a row is in, where that is known.

        Args:
            row: of the job.
        """
        return row.language or self.job.how.get("language")

    def check(self, rows: Sequence[Row]) -> None:
        """Refuse options and languages that cannot be, before hours of work.

        Args:
            rows: all.

        Raises:
            AdapterHubError: one line; of a row, with its id.
        """
        list(self.transcriber.transcribe_each([], **self.job.options))
        pairs: dict[tuple[str | None, str | None], Row] = {}
        for row in rows:
            pairs.setdefault((self.adapter_of(row), self.language_of(row)), row)
        for (adapter, language), row in pairs.items():
            try:
                router = self._router(adapter)
                if language is not None:
                    router.route(language)
            except AdapterHubError as error:
                error.args = (f"row {shown(row.id, 200)}: {error}",)
                raise

    def _router(self, adapter: str | None) -> Router:
        """Return the router of recordings with an adapter of their own; it is loaded now."""
        router = self.transcriber.router
        if adapter is None or isinstance(router, FixedRoute):
            return router
        if adapter == BASE_MODEL:
            return replace(router, candidates={}, fallback=None)
        return FixedRoute(router.base, router.load(adapter))


def _pinned(router: LanguageRouter) -> Iterator[PinnedCandidate]:
    """Yield the adapters among which a router chooses, in its order."""
    for language, first in router.candidates.items():
        candidate: Candidate | None = first
        while candidate is not None:
            yield PinnedCandidate(
                language=language, decode_language=candidate.decode_language, ref=str(candidate.ref)
            )
            candidate = candidate.next


def _replaced(model: str, refs: Mapping[str, str]) -> str:
    """Return a reference, or a blend of several, with every reference replaced."""
    parts = parse_blend(model)
    if parts is None:
        return refs.get(model, model)
    return "+".join(f"{refs.get(ref, ref)}*{weight!r}" for ref, weight in parts)
