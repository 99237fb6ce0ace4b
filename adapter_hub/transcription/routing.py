"""Choosing the adapter for each stretch of speech: always the same one, or by the language that is spoken.

A `FixedRoute` knows the adapter (or none). A `LanguageRouter` takes the base model's language probabilities
and picks, for every stretch of speech, an active adapter for that language. Where no language reaches the
threshold, the stretch takes the route of the one before it; the first stretch, and a language that has no
adapter, take the fallback: the base model alone, or an adapter that was named.

An adapter is found by its own language. Where Whisper has no token for that, the adapter borrows one: speech
that is heard as that token's language goes to the adapters of that language, then to those that borrow it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from adapter_hub.errors import AdapterHubError, InvalidInputError, OutOfMemoryError, few
from adapter_hub.formats.manifest import Language
from adapter_hub.formats.reference import BASE_MODEL, AdapterRef
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import ResidentAdapter
from adapter_hub.reporting import Tell
from adapter_hub.speech.languages import closest_tags, nearest_languages, whisper_code

# the probability of each language, by Whisper's code for it
Probabilities = Mapping[str, float]
UNDETERMINED = "und"  # BCP 47, where nobody says the language and the base model need not be told
THRESHOLD = 0.5  # below it the base model is as likely wrong as right about the language


@dataclass(frozen=True)
class Route:
    """The adapter and language for a stretch of speech, and why.

    Attributes:
        adapter: None is the base model alone.
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
        """The adapter's name in results."""
        return self.adapter.name if self.adapter else BASE_MODEL

    @property
    def task(self) -> Literal["transcribe", "translate"]:
        """The task that the adapter was trained for."""
        return self.adapter.manifest.task if self.adapter and self.adapter.manifest else "transcribe"

    def same(self, other: Route) -> bool:
        """Tell whether speech of both routes can be transcribed in one window."""
        return (
            self.adapter is other.adapter
            and self.language == other.language
            and self.decode_language == other.decode_language
        )


def decode_language_of(base: BaseModel, adapter: ResidentAdapter | None, tag: str) -> str:
    """Return the decode language for a BCP 47 tag: the adapter's own choice, else Whisper's token.

    Args:
        base: whose tokens are used.
        adapter: None is the base model alone.
        tag: BCP 47, or one of the adapter's decode languages.

    Raises:
        InvalidInputError: neither knows the language.
    """
    languages = adapter.manifest.languages if adapter and adapter.manifest else ()
    for language in languages:
        if tag in (language.tag, language.decode_language):
            return language.decode_language
    if base.takes(code := whisper_code(tag)):
        return code
    ours = f"; {adapter.name} is for {', '.join(item.tag for item in languages)}" if adapter else ""
    raise InvalidInputError(
        f"language {tag!r}: {base.id} has no token for it{ours}; name the decode language too (nearest: "
        f"{nearest_languages(tag, base.decode_languages)})"
    )


@dataclass(frozen=True)
class FixedRoute:
    """One adapter, or the base model alone, for all speech.

    Attributes:
        base: the base model.
        adapter: None is the base model alone.
        language: BCP 47 tag of the speech; None is the adapter's only one, or else identified, among those
            that the adapter is for, or `und` where the base model need not be told.
        decode_language: Whisper's token to use instead of the one for `language`.
        languages: that the adapter is for, where no manifest says so.
    """

    base: BaseModel
    adapter: ResidentAdapter | None
    language: str | None = None
    decode_language: str | None = None
    languages: Sequence[Language] = ()

    @property
    def name(self) -> str:
        """The adapter's name in results."""
        return self.adapter.name if self.adapter else BASE_MODEL

    def identifies(self, tag: str | None) -> bool:
        """Tell whether `route` needs the probabilities of languages, for speech of the language `tag`."""
        return not (tag or self._language())

    @property
    def choices(self) -> Sequence[str]:
        """The decode languages among which speech is identified; empty is all."""
        return list(dict.fromkeys(item.decode_language for item in self._spoken()))

    def route(
        self, tag: str | None, probabilities: Probabilities | None = None, before: Route | None = None
    ) -> Route:
        """Return the route of a stretch of speech.

        Args:
            tag: its language, where that is known.
            probabilities: of every language, where `identifies` is true.
            before: the route of the speech before it in the same recording: taken again by an adapter for
                several languages where none of them is likely enough.

        Raises:
            InvalidInputError: there is no token for the language.
        """
        wanted = tag or self._language()
        if wanted is None:
            assert probabilities is not None
            return self._identified(probabilities, before)
        return Route(self.adapter, wanted, self.decode_language_for(wanted))

    def decode_language_for(self, tag: str) -> str:
        """Return Whisper's token for speech of a language.

        Args:
            tag: BCP 47.

        Raises:
            InvalidInputError: there is none.
        """
        own = (item.decode_language for item in self._spoken() if tag in (item.tag, item.decode_language))
        found = self.decode_language or next(own, None)
        return found or decode_language_of(self.base, self.adapter, tag)

    def _identified(self, probabilities: Probabilities, before: Route | None) -> Route:
        """Return the route in the most probable language, of those that the adapter is for."""
        tags = {item.decode_language: item.tag for item in reversed(self._spoken())}
        if tags:
            probabilities = _among(probabilities, list(tags))
        code = max(probabilities, key=lambda code: probabilities[code])
        if tags and before is not None and probabilities[code] < THRESHOLD:
            return replace(before, probabilities=probabilities)
        decode = self.decode_language or code
        return Route(self.adapter, tags.get(code, code), decode, probabilities[code], probabilities)

    def _language(self) -> str | None:
        spoken = self._spoken()
        if self.language is None and len(spoken) == 1:
            return spoken[0].tag
        if self.language is None and not self.base.multilingual:
            return self.base.decode_languages[0]
        told = self.language or self.decode_language
        return told or (None if self.base.needs_language else UNDETERMINED)

    def _spoken(self) -> Sequence[Language]:
        """Return the languages that the adapter is for; none for the base model alone."""
        own = self.adapter.manifest.languages if self.adapter and self.adapter.manifest else ()
        return self.languages or own


@dataclass(frozen=True)
class Candidate:
    """An adapter that the router may choose for a language.

    Attributes:
        ref: what to load.
        language: BCP 47 tag of its transcripts.
        next: the candidate to try if this one cannot be loaded.
        decode_language: Whisper's token that it is told; empty for the one of `language`.
    """

    ref: AdapterRef | str
    language: str
    next: Candidate | None = None
    decode_language: str = ""

    @property
    def token(self) -> str:
        """Whisper's code of the language that it is told, and that its speech is identified as."""
        return self.decode_language or whisper_code(self.language)

    @property
    def borrows(self) -> bool:
        """Whether that is another language than its own."""
        return self.token != whisper_code(self.language)


@dataclass
class LanguageRouter:
    """The adapter for the language that is spoken, loaded when it is first needed.

    Attributes:
        base: the base model, which identifies the language.
        candidates: by the BCP 47 tag of their language; of several for one decode language, the first counts.
        load: turns a candidate into a resident adapter: `Residents.get`.
        threshold: least probability of a language for its adapter to be used.
        languages: BCP 47 tags of the only ones to choose among; empty is all.
        fallback: adapter for languages that have none; None is the base model alone.
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
    _told: set[str] = field(default_factory=set, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise InvalidInputError(f"threshold {self.threshold}: expected a probability from 0 to 1")
        self.base.check_languages(self.choices)

    def identifies(self, tag: str | None) -> bool:
        """Tell whether `route` needs the probabilities of languages, for speech of the language `tag`."""
        return tag is None

    def route(
        self, tag: str | None, probabilities: Probabilities | None = None, before: Route | None = None
    ) -> Route:
        """Return the route of a stretch of speech.

        Args:
            tag: its language, where that is known; it is not identified then.
            probabilities: of every language, where it is not known.
            before: the route of the speech before it in the same recording: taken again where no language
                reaches the threshold.
        """
        if tag is not None:
            candidate, adapter = self._usable(self._of(tag), tag)
            if candidate is None:
                self._tell_of_borrowers(tag)
                return Route(None, tag, decode_language_of(self.base, None, tag))
            return Route(adapter, tag, candidate.token)
        assert probabilities is not None
        if self.languages:
            probabilities = _among(probabilities, self.choices)
        language = max(probabilities, key=lambda code: probabilities[code])
        probability = probabilities[language]
        sure = probability >= self.threshold
        if not sure and before is not None:
            return replace(
                before,
                probability=probabilities.get(before.decode_language, 0.0),
                probabilities=probabilities,
            )
        candidate, adapter = self._usable(self._heard_as(language), language) if sure else (None, None)
        if candidate:
            return Route(adapter, candidate.language, candidate.token, probability, probabilities)
        if self.fallback is not None:
            return self._to_fallback(self.fallback, language, probabilities)
        return Route(None, language, language, probability, probabilities)

    @property
    def choices(self) -> Sequence[str]:
        """The decode languages among which speech is identified; empty is all."""
        found: list[str] = []
        for tag in self.languages:
            own, tokens = whisper_code(tag), [candidate.token for candidate in self._of(tag)]
            found += [own, *tokens] if self.base.takes(own) or not tokens else tokens
        return list(dict.fromkeys(found))

    def _of(self, *tags: str) -> list[Candidate]:
        """Return the candidates for languages, those for the same script and region first."""
        found = dict.fromkeys(own for tag in tags for own in closest_tags(tag, self.candidates))
        return [item for own in found for item in _chained(self.candidates[own])]

    def _all(self) -> list[Candidate]:
        return [item for first in self.candidates.values() for item in _chained(first)]

    def _heard_as(self, token: str) -> list[Candidate]:
        """Return the candidates for speech heard as a language: its own, then those that borrow its token."""
        every = self._of(*self.languages) if self.languages else self._all()
        fits = [item for item in every if token in (item.token, whisper_code(item.language))]
        found = sorted(fits, key=lambda item: whisper_code(item.language) != token)
        several = list(dict.fromkeys(whisper_code(item.language) for item in found))
        if len(several) > 1:
            self._tell_once(
                f"auto hears {few(several, separator=', ')} as {token} and takes {found[0].ref}, for "
                f"{found[0].language}; narrow the languages, or say which one a recording is in"
            )
        return found

    def _tell_of_borrowers(self, tag: str) -> None:
        """Say which languages borrow the token of one that has no adapter, in case those were meant."""
        borrowers = [item.language for item in self._all() if item.token == whisper_code(tag)]
        if borrowers:
            names = few(borrowers, separator=", ")
            self._tell_once(f"auto has no adapter for {tag}; say {names} where that is spoken")

    def _tell_once(self, line: str) -> None:
        if self.tell and line not in self._told:
            self._told.add(line)
            self.tell(line)

    def _usable(
        self, candidates: Sequence[Candidate], language: str
    ) -> tuple[Candidate | None, ResidentAdapter | None]:
        """Return the first candidate that can be loaded; warns once about each that cannot."""
        for candidate, then in zip(candidates, [*candidates[1:], None], strict=False):
            if candidate.ref not in self._unusable:
                try:
                    return candidate, self.load(candidate.ref)
                except OutOfMemoryError:
                    raise  # not the adapter's fault
                except AdapterHubError as error:
                    self._unusable.add(candidate.ref)
                    if self.tell:
                        trying = then.ref if then else "the next choice"
                        self.tell(f"auto cannot use {candidate.ref} for {language}: {error}; trying {trying}")
        return None, None

    def _to_fallback(self, adapter: ResidentAdapter, language: str, probabilities: Probabilities) -> Route:
        """Return the fallback's route, in the identified language if it is for that, else its first."""
        spoken = adapter.manifest.languages if adapter.manifest else ()
        ours = next((item for item in spoken if item.decode_language == language), None)
        ours = ours or next(iter(spoken), None)
        tag, code = (ours.tag, ours.decode_language) if ours else (language, language)
        return Route(adapter, tag, code, probabilities.get(code, 0.0), probabilities)


# of one recording, or of all
Router = FixedRoute | LanguageRouter


def _chained(candidate: Candidate | None) -> Iterator[Candidate]:
    """Yield a candidate and those to try after it."""
    while candidate:
        yield candidate
        candidate = candidate.next


def _among(probabilities: Probabilities, codes: Sequence[str]) -> Probabilities:
    """Return the probabilities of some languages, scaled to a sum of 1."""
    likely = {code: probabilities.get(code, 0.0) for code in codes}
    total = sum(likely.values())
    return {code: value / total if total else 1 / len(likely) for code, value in likely.items()}
