"""The adapters that `auto` chooses among, the best first, for each language.

    candidates = find_candidates(registries, base)
    candidates["da"].ref, candidates["da"].next
    candidates["mdw"].decode_language                # "sw": Whisper has no token for Mboshi

Only adapters of registries that the user named, and of the embedded catalogue, are candidates, and only those
that need no request: a registry file that lists a location on the Hub does not make `auto` ask there. The
order of those that are active, released, and made for the base model with this digest:

1. the adapter whose language is the one that it is decoded in, before one that borrows its token,
2. the adapter for fewer languages,
3. the earlier registry,
4. the name;

and then an adapter moves ahead of another if it has the lower error rate on the same data (by digest and
split, never `train`), measured the same way, on at least 100 utterances each. Scores on different data are
not comparable, and a report of one utterance says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from packaging.version import Version

from adapter_hub.formats.reference import AdapterRef, is_hub
from adapter_hub.formats.registry_file import VersionBlock
from adapter_hub.formats.versions import sort_versions
from adapter_hub.model.base_model import BaseModel
from adapter_hub.registry.contract import Registry
from adapter_hub.registry.namespaces import Namespaces
from adapter_hub.registry.standing import Standings
from adapter_hub.reporting import Tell
from adapter_hub.stores.cache import Cache
from adapter_hub.transcription.routing import Candidate

ENOUGH = 100  # utterances; with fewer, one speaker or sentence decides
_Scores = dict[tuple[str, ...], float]


@dataclass(frozen=True)
class _Offer:
    """A version that may be chosen; `place` is the number of its registry in the order of asking."""

    name: str
    version: str
    block: VersionBlock
    place: int

    @property
    def order(self) -> tuple[int, int, str]:
        return len(self.block.languages), self.place, self.name

    @property
    def ref(self) -> AdapterRef:
        return AdapterRef(self.name, version=self.version, digest=self.block.digest)

    @property
    def languages(self) -> Iterator[tuple[str, str]]:
        """The tags of its languages, each with Whisper's code of the one that it is decoded in."""
        return zip(self.block.languages, self.block.decode_languages, strict=False)


def find_candidates(
    registries: Sequence[Registry],
    base: BaseModel,
    cache: Cache | None = None,
    tell: Tell | None = None,
) -> dict[str, Candidate]:
    """Return the adapter to use for each language, with those to try after it: see this module's docstring.

    Args:
        registries: those that the user named, then the embedded catalogue.
        base: the base model.
        cache: of pulled adapters, which need no request.
        tell: called with one line if adapters are left out because they are only on the Hub.

    Returns:
        A candidate for each language that has one, by its BCP 47 tag; of those for one decode language, the
        best first.
    """
    offers: list[_Offer] = []
    away: list[_Offer] = []
    for offer in _offers(registries, base):
        reachable = _is_here(offer.block, registries[offer.place], cache)
        (offers if reachable else away).append(offer)
    if away and tell:
        more = f" and {len(away) - 1} more" if len(away) > 1 else ""
        tell(
            f"auto leaves out {away[0].name}{more}: on the Hub and not in the cache; pull it first with "
            f"`adapter-hub pull {away[0].name}`"
        )
    found: dict[str, list[_Offer]] = {}
    for offer in offers:
        for token in dict.fromkeys(token for _, token in offer.languages if base.takes(token)):
            found.setdefault(token, []).append(offer)
    candidates = [
        Candidate(offer.ref, tag, decode_language=token)
        for token, those in found.items()
        for offer in _ranked(those)
        for tag, own in offer.languages
        if own == token
    ]
    return by_language(sorted(candidates, key=lambda candidate: candidate.borrows))


def by_language(candidates: Iterable[Candidate]) -> dict[str, Candidate]:
    """Return candidates by the tag of their language, each linked to the next one for it.

    Args:
        candidates: the best first.
    """
    found: dict[str, Candidate] = {}
    for candidate in reversed(list(candidates)):
        found[candidate.language] = replace(candidate, next=found.pop(candidate.language, None))
    return dict(reversed(found.items()))


def _offers(registries: Sequence[Registry], base: BaseModel) -> Iterator[_Offer]:
    """Yield the newest version of each adapter that may be chosen without being named."""
    standings, namespaces = Standings(registries), Namespaces(registries)
    seen = set()
    for place, registry in enumerate(registries):
        for name, versions in registry.adapters.items():
            offer = _newest(versions, base, standings)
            if offer and registry in namespaces.foreign(name, offer[0].__eq__):
                continue
            if offer and offer[1].digest not in seen:
                seen.add(offer[1].digest)
                yield _Offer(name, *offer, place)


def _newest(
    versions: Mapping[str, VersionBlock], base: BaseModel, standings: Standings
) -> tuple[str, VersionBlock] | None:
    for version in reversed(sort_versions(versions)):
        block = versions[version]
        if block.status != "active" or block.base_model.digest != base.digest:
            continue
        own = standings.of(block.digest, block.function_digest)
        if (own is None or own.status == "active") and not Version(version).is_prerelease:
            return version, block
    return None


def _is_here(block: VersionBlock, registry: Registry, cache: Cache | None) -> bool:
    """Tell whether a version can be loaded without a request that the user did not ask for."""
    if registry.is_on_hub or not any(is_hub(location.store) for location in block.locations):
        return True
    return cache is not None and cache.place(block.digest).is_dir()


def _ranked(offers: Sequence[_Offer]) -> list[_Offer]:
    """Return the offers for one language, the best first: each after all that have better scores."""
    waiting = [(offer, _comparable(offer.block)) for offer in sorted(offers, key=lambda item: item.order)]
    ranked: list[_Offer] = []
    while waiting:
        place: int | None = 0
        passed: list[int] = []  # measurements on several data sets may go round in a circle
        while place is not None:
            passed.append(place)
            better = (
                number
                for number, (_, scores) in enumerate(waiting)
                if number not in passed and _is_better(scores, waiting[place][1])
            )
            place = next(better, None)
        ranked.append(waiting.pop(passed[-1])[0])
    return ranked


def _is_better(one: _Scores, other: _Scores) -> bool:
    """Tell whether `one` has a lower error rate than `other` on the same data, and a higher one on none."""
    pairs = [(one[way], other[way]) for way in one.keys() & other.keys()]
    return bool(pairs) and all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _comparable(block: VersionBlock) -> _Scores:
    """Return the scores that say something, by how they were measured."""
    return {way: score.value for score in block.scores if (way := score.way) and score.n >= ENOUGH}
