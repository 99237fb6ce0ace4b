"""Choosing what is transcribed with what: one adapter for all, or by the language that is probabilities.

A `FixedRoute` knows the adapter (or none). A `LanguageRouter` takes the base model's language
probabilities and picks, for every stretch of speech, an active adapter of that language. Where no language
is sure, the stretch goes where the one before it went; the first one, and a language that no adapter
speaks, go to the fallback: the base model alone, or an adapter that was named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from adapter_hub.decoding.language import language_probabilities
from adapter_hub.errors import AdapterHubError, InvalidInputError, OutOfMemoryError
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import ResidentAdapter
from adapter_hub.reporting import Tell
from adapter_hub.speech.languages import primary_subtag

# of a language by Whisper's code for it
Probabilities = Mapping[str, float]
THRESHOLD = 0.5  # below it the base model is as likely wrong as right about the language


@dataclass(frozen=True)
class Route:
    """What one row carries, and why.

    Attributes:
        adapter: None is the base model.
        language: BCP 47 tag of the transcript.
        decode_language: Whisper's token for it.
        probability: of the language, where it was identified.
        probabilities: of every language, where it was identified.
    """

    adapter: ResidentAdapter | None
    language: str
    decode_language: str
    probability: float | None = None
    probabilities: Probabilities = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        """What results call the adapter."""
        return self.adapter.name if self.adapter else "base-model"

    @property
    def task(self) -> Literal["transcribe", "translate"]:
        """What the adapter was trained for."""
        return self.adapter.manifest.task if self.adapter and self.adapter.manifest else "transcribe"

    def same(self, other: Route) -> bool:
        """Tell whether speech of both may be transcribed together."""
        return (
            self.adapter is other.adapter
            and self.language == other.language
            and self.decode_language == other.decode_language
        )


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

    def identifies(self, tag: str | None) -> bool:
        """Tell whether `route` needs to know what was probabilities, for speech of the language `tag`.

        Raises:
            InvalidInputError: the language is not known and the adapter speaks several.
        """
        if tag or self._language():
            return False
        if self.adapter is not None:
            raise InvalidInputError(
                f"{self.adapter.name} speaks several languages; name the one to transcribe"
            )
        return True

    def route(
        self, tag: str | None, probabilities: Probabilities | None = None, before: Route | None = None
    ) -> Route:
        """Return the route of a stretch of speech.

        Args:
            tag: its language, where that is known.
            probabilities: the probability of every language, where `identifies` says so.
            before: the route of the speech before it in the same recording; not needed here.

        Raises:
            InvalidInputError: there is no token for the language.
        """
        wanted = tag or self._language()
        if wanted is None:
            assert probabilities is not None
            language = max(probabilities, key=lambda code: probabilities[code])
            return Route(None, language, language, probabilities[language], probabilities)
        decode = self.decode_language or decode_language_of(self.base, self.adapter, wanted)
        return Route(self.adapter, wanted, decode)

    def _language(self) -> str | None:
        if self.language or self.adapter is None or self.adapter.manifest is None:
            return self.language
        languages = self.adapter.manifest.languages
        return languages[0].tag if len(languages) == 1 else None


def identify(base: BaseModel, features: Tensor) -> list[tuple[str, float]]:
    """Return the most probable language of every row, with its probability."""
    values, places = language_probabilities(base, features).max(dim=1)
    pairs = zip(values.tolist(), places.tolist(), strict=True)
    return [(base.decode_languages[place], value) for value, place in pairs]


@dataclass(frozen=True)
class Candidate:
    """An adapter that the router may choose for a language, and the one to try if it cannot be used."""

    ref: AdapterRef | str
    language: str
    next: Candidate | None = None


@dataclass
class LanguageRouter:
    """The adapter of the language that is heard; loaded when it is first needed.

    Attributes:
        base: the base model, which hears the language.
        candidates: by decode language.
        load: turns a candidate into a resident adapter: `Residents.get`.
        threshold: least probability of a language for its adapter to be used.
        languages: the only ones that may be heard; none stands for all.
        fallback: adapter for what no other is for; None is the base model alone.
        tell: called with one line for every candidate that cannot be used.
    """

    base: BaseModel
    candidates: Mapping[str, Candidate]
    load: Callable[[AdapterRef | str], ResidentAdapter]
    threshold: float = THRESHOLD
    languages: Sequence[str] = ()
    fallback: ResidentAdapter | None = None
    tell: Tell | None = None
    _unusable: set[AdapterRef | str] = field(default_factory=set, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise InvalidInputError(f"threshold {self.threshold}: expected a probability from 0 to 1")
        self.base.check_languages([primary_subtag(tag) for tag in self.languages])

    def identifies(self, tag: str | None) -> bool:
        """Tell whether `route` needs to know what was probabilities, for speech of the language `tag`."""
        return tag is None

    def route(
        self, tag: str | None, probabilities: Probabilities | None = None, before: Route | None = None
    ) -> Route:
        """Return the route of a stretch of speech.

        Args:
            tag: its language, where that is known; it is not identified then.
            probabilities: the probability of every language, where it is not.
            before: the route of the speech before it in the same recording: followed where no language
                is sure.
        """
        if tag is not None:
            _, adapter = self._usable(primary_subtag(tag))
            return Route(adapter, tag, decode_language_of(self.base, adapter, tag))
        assert probabilities is not None
        probabilities = self._allowed(probabilities)
        language = max(probabilities, key=lambda code: probabilities[code])
        probability = probabilities[language]
        sure = probability >= self.threshold
        if not sure and before is not None:
            return replace(
                before,
                probability=probabilities.get(before.decode_language, 0.0),
                probabilities=probabilities,
            )
        candidate, adapter = self._usable(language) if sure else (None, None)
        if candidate:
            return Route(adapter, candidate.language, language, probability, probabilities)
        if self.fallback is not None:
            return self._to_fallback(self.fallback, language, probabilities)
        return Route(None, language, language, probability, probabilities)

    def _usable(self, language: str) -> tuple[Candidate | None, ResidentAdapter | None]:
        """Return the first candidate for a language that can be loaded; those before it are told, once."""
        candidate = self.candidates.get(language)
        while candidate:
            if candidate.ref not in self._unusable:
                try:
                    return candidate, self.load(candidate.ref)
                except OutOfMemoryError:
                    raise  # says nothing of the adapter
                except AdapterHubError as error:
                    self._unusable.add(candidate.ref)
                    if self.tell:
                        then = candidate.next.ref if candidate.next else "the next choice"
                        self.tell(f"auto cannot use {candidate.ref} for {language}: {error}; trying {then}")
            candidate = candidate.next
        return None, None

    def _allowed(self, probabilities: Probabilities) -> Probabilities:
        """Return what was heard among the languages that are allowed."""
        if not self.languages:
            return probabilities
        codes = [primary_subtag(tag) for tag in self.languages]
        total = sum(probabilities[code] for code in codes)
        return {code: probabilities[code] / total if total else 1 / len(codes) for code in codes}

    def _to_fallback(self, adapter: ResidentAdapter, language: str, probabilities: Probabilities) -> Route:
        """Return the fallback's route: in the language heard if it speaks it, else in its first one."""
        spoken = adapter.manifest.languages if adapter.manifest else ()
        ours = next((item for item in spoken if item.decode_language == language), None)
        ours = ours or next(iter(spoken), None)
        tag, code = (ours.tag, ours.decode_language) if ours else (language, language)
        return Route(adapter, tag, code, probabilities.get(code, 0.0), probabilities)
