"""The adapters that `auto` chooses among, the best first, for each language.

    candidates = find_candidates(registries, base)
    candidates["da"].ref, candidates["da"].next

Only adapters of registries that the user named, and of the embedded catalogue, are candidates, and only those
that need no request: a registry file that lists a location on the Hub does not make `auto` ask there. The
order of those that are active, released, and made for the base model with this digest:

1. the adapter for fewer languages,
2. the earlier registry,
3. the one with a score that says something (at least 100 utterances),
4. the name;

and then an adapter moves ahead of another if it has the lower error rate on the same data (by digest),
measured the same way, on at least 100 utterances each. Scores on different data are not comparable, and a
report of one utterance says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.version import Version

from adapter_hub.formats.reference import AdapterRef, is_hub
from adapter_hub.formats.registry_file import Score, VersionBlock
from adapter_hub.formats.versions import sort_versions
from adapter_hub.model.base_model import BaseModel
from adapter_hub.registry.contract import Registry
from adapter_hub.registry.namespaces import Namespaces
from adapter_hub.registry.standing import Standings
from adapter_hub.reporting import Tell
from adapter_hub.speech.languages import whisper_code
from adapter_hub.stores.cache import Cache
from adapter_hub.transcription.routing import Candidate

ENOUGH = 100  # utterances; with fewer, one speaker or sentence decides


@dataclass(frozen=True)
class _Offer:
    """A version that may be chosen; `place` is the number of its registry in the order of asking."""

    name: str
    version: str
    block: VersionBlock
    place: int

    @property
    def order(self) -> tuple[int, int, bool, str]:
        scored = any(score.n >= ENOUGH for score in self.block.scores)
        return len(self.block.languages), self.place, not scored, self.name


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
        A candidate for each decode language that has one.
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
        for language in dict.fromkeys(whisper_code(tag) for tag in offer.block.languages):
            if base.takes(language):
                found.setdefault(language, []).append(offer)
    return {language: _chain(language, _ranked(those)) for language, those in found.items()}


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
    """Return the offers for one language, the best first."""
    ranked: list[_Offer] = []
    for offer in sorted(offers, key=lambda item: item.order):
        place = len(ranked)
        while place and _is_better(offer.block, ranked[place - 1].block):
            place -= 1
        ranked.insert(place, offer)
    return ranked


def _is_better(one: VersionBlock, other: VersionBlock) -> bool:
    """Tell whether `one` has a lower error rate than `other` on the same data, and a higher one on none."""
    theirs = {_way(score): score.value for score in other.scores if score.n >= ENOUGH}
    pairs = [
        (score.value, theirs[_way(score)])
        for score in one.scores
        if score.n >= ENOUGH and _way(score) in theirs
    ]
    return bool(pairs) and all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _way(score: Score) -> tuple[str, ...]:
    return score.data_sha256, score.split, score.normaliser, score.decoding, score.metric


def _chain(language: str, offers: Sequence[_Offer]) -> Candidate:
    """Return the offers as a linked list of candidates."""
    candidate: Candidate | None = None
    for offer in reversed(offers):
        tag = next(tag for tag in offer.block.languages if whisper_code(tag) == language)
        ref = AdapterRef(offer.name, version=offer.version, digest=offer.block.digest)
        candidate = Candidate(ref, tag, candidate)
    assert candidate is not None
    return candidate
