"""Choosing what each row carries: one adapter for all, or by the language that is heard.

A `FixedRoute` knows the adapter (or none). A `LanguageRouter` takes the base model's language
probabilities and picks, for every row, an active adapter of that language; below the threshold, or
where no adapter speaks the language, the base model alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from packaging.version import Version
from torch import Tensor

from adapter_hub.errors import InvalidInputError
from adapter_hub.reference import AdapterRef
from adapter_hub.registry import Registry, VersionBlock
from adapter_hub.runtime.base_model import BaseModel
from adapter_hub.runtime.language_identification import language_probabilities
from adapter_hub.runtime.loading import ResidentAdapter
from adapter_hub.speech.languages import primary_subtag
from adapter_hub.versions import sort_versions

THRESHOLD = 0.5  # below it the base model is as likely wrong as right about the language


@dataclass(frozen=True)
class Route:
    """What one row carries, and why.

    Attributes:
        adapter: None is the base model.
        language: BCP 47 tag of the transcript.
        decode_language: Whisper's token for it.
        probability: of the language, where it was identified.
    """

    adapter: ResidentAdapter | None
    language: str
    decode_language: str
    probability: float | None = None


def decode_language_of(base: BaseModel, adapter: ResidentAdapter | None, tag: str) -> str:
    """Return the decode language for a BCP 47 tag: the adapter's own choice, else Whisper's token.

    Raises:
        InvalidInputError: neither knows the language.
    """
    languages = adapter.manifest.languages if adapter and adapter.manifest else ()
    for language in languages:
        if tag in (language.tag, language.decode_language):
            return language.decode_language
    if primary_subtag(tag) in base.decode_languages:
        return primary_subtag(tag)
    ours = f"; {adapter.name} speaks {', '.join(item.tag for item in languages)}" if adapter else ""
    raise InvalidInputError(
        f"language {tag!r}: {base.id} has no token for it (it has {', '.join(base.decode_languages)}){ours}; "
        "name the decode language too"
    )


@dataclass(frozen=True)
class FixedRoute:
    """One adapter, or the base model alone, for every row."""

    base: BaseModel
    adapter: ResidentAdapter | None
    language: str | None = None
    decode_language: str | None = None

    def routes(self, features: Tensor, tags: Sequence[str | None]) -> list[Route]:
        """Return the route of every row; `tags` are the rows' own languages, where known.

        Raises:
            InvalidInputError: the language is not known and the adapter speaks several.
        """
        wanted = [tag or self._language() for tag in tags]
        if None not in wanted:
            return [self._route(tag) for tag in wanted if tag is not None]
        if self.adapter is not None:
            raise InvalidInputError(
                f"{self.adapter.name} speaks several languages; name the one to transcribe"
            )
        heard = identify(self.base, features)
        return [
            Route(None, language, language, probability) if tag is None else self._route(tag)
            for tag, (language, probability) in zip(wanted, heard, strict=True)
        ]

    def _language(self) -> str | None:
        if self.language or self.adapter is None or self.adapter.manifest is None:
            return self.language
        languages = self.adapter.manifest.languages
        return languages[0].tag if len(languages) == 1 else None

    def _route(self, tag: str) -> Route:
        decode = self.decode_language or decode_language_of(self.base, self.adapter, tag)
        return Route(self.adapter, tag, decode)


def identify(base: BaseModel, features: Tensor) -> list[tuple[str, float]]:
    """Return the most probable language of every row, with its probability."""
    values, places = language_probabilities(base, features).max(dim=1)
    pairs = zip(values.tolist(), places.tolist(), strict=True)
    return [(base.decode_languages[place], value) for value, place in pairs]


@dataclass(frozen=True)
class Candidate:
    """An adapter that the router may choose for a language."""

    ref: AdapterRef
    language: str


@dataclass
class LanguageRouter:
    """The adapter of the language that is heard; loaded when it is first needed.

    Attributes:
        base: the base model, which hears the language.
        candidates: by decode language.
        load: turns a candidate into a resident adapter: `Residents.get`.
        threshold: least probability of a language for its adapter to be used.
    """

    base: BaseModel
    candidates: Mapping[str, Candidate]
    load: Callable[[AdapterRef], ResidentAdapter]
    threshold: float = THRESHOLD

    def routes(self, features: Tensor, tags: Sequence[str | None]) -> list[Route]:
        """Return the route of every row; a row whose language is given is not identified."""
        heard = identify(self.base, features)
        routes = []
        for tag, (language, probability) in zip(tags, heard, strict=True):
            sure = tag is not None or probability >= self.threshold
            candidate = self.candidates.get(primary_subtag(tag) if tag else language) if sure else None
            adapter = self.load(candidate.ref) if candidate else None
            if tag is not None:
                routes.append(Route(adapter, tag, decode_language_of(self.base, adapter, tag)))
            else:
                name = candidate.language if candidate else language
                routes.append(Route(adapter, name, language, probability))
        return routes


def find_candidates(registries: Iterable[Registry], base: BaseModel) -> dict[str, Candidate]:
    """Return the adapter to use for each language: active, released, of this base model's digest.

    Of several for one language the one with the lowest recorded error rate is taken, those without a score
    last, then by name. An earlier registry counts before a later one.
    """
    found: dict[str, Candidate] = {}
    for registry in registries:
        offers = [
            (name, *offer) for name in registry.adapters if (offer := _offer(registry.adapters[name], base))
        ]
        offers.sort(
            key=lambda offer: (min((s.value for s in offer[2].scores), default=float("inf")), offer[0])
        )
        for name, version, block in offers:
            for tag in block.languages:
                if (language := primary_subtag(tag)) in base.decode_languages:
                    ref = AdapterRef(name, version=version, digest=block.digest)
                    found.setdefault(language, Candidate(ref, tag))
    return found


def _offer(versions: Mapping[str, VersionBlock], base: BaseModel) -> tuple[str, VersionBlock] | None:
    """Return the newest version of an adapter that may be chosen without being named."""
    for version in reversed(sort_versions(versions)):
        block = versions[version]
        usable = block.status == "active" and block.base_model.digest == base.digest
        if usable and not Version(version).is_prerelease:
            return version, block
    return None
