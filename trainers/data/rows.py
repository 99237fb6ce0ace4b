"""Whether a row can be trained on, and as which tokens: its language, its text, its length.

reader = RowProcessor(base, RowRules(language="da"))
tokenised = reader.tokenise(row, source)       # or an error that says why not
reader.check(audio.seconds, row.id)
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from string import whitespace

from adapter_hub.base_model.families import PARAKEET, WHISPER
from adapter_hub.data.dataset import Utterance
from adapter_hub.errors import InvalidInputError, few
from adapter_hub.speech.audio import ROUNDING, Audio, check_seconds
from adapter_hub.speech.features import SHORTEST, chunk_seconds
from adapter_hub.speech.languages import whisper_code
from adapter_hub.trainers.data.examples import ProcessorAndModel, check_tokens, encode_text, prompt_ids
from adapter_hub.trainers.data.sources import Source
from adapter_hub.trainers.recipe_tables import Recipe


@dataclass(frozen=True)
class RowRules:
    """The settings of a recipe that hold for all rows.

    Attributes:
        language: BCP 47 tag of rows for which neither they nor their source name one.
        decode_language: the Whisper language whose token stands for `language`.
        task: `transcribe` or `translate`.
        shortest_seconds: shorter rows are dropped.
        longest_seconds: longer rows are dropped; None for the base model's chunk.
        random_seed: decides which rows of a source with `hours` are used.
        batch_size: rows that are padded to one length.
    """

    language: str | None = None
    decode_language: str | None = None
    task: str = "transcribe"
    shortest_seconds: float = 0.0
    longest_seconds: float | None = None
    random_seed: int = 1
    batch_size: int = 16

    @classmethod
    def of(cls, recipe: Recipe) -> RowRules:
        """Return the rules of a recipe."""
        return cls(
            language=recipe.adapter.language,
            decode_language=recipe.adapter.decode_language,
            task=recipe.adapter.task,
            shortest_seconds=recipe.data.shortest_seconds,
            longest_seconds=recipe.data.longest_seconds,
            random_seed=recipe.training.random_seed,
            batch_size=recipe.training.batch_size,
        )


@dataclass(frozen=True)
class TokenisedRow:
    """A row whose text fits the decoder.

    Attributes:
        row: with its audio.
        language: the decode language, whose token is in the prompt.
        tokens: the whole target sequence, start-of-transcript to end-of-text.
        prompt: how many tokens at its start are given, not predicted.
    """

    row: Utterance
    language: str
    tokens: tuple[int, ...]
    prompt: int


class RowProcessor:
    """Applies the rules of a recipe and the limits of a base model to rows.

    Args:
        base: the base model.
        rules: of the recipe.

    Attributes:
        chunk: seconds to which clips may be padded; None where padding is masked.
    """

    chunk: float | None

    def __init__(self, base: ProcessorAndModel, rules: RowRules) -> None:
        self.tokenizer, self.extractor = base.processor.tokenizer, base.processor.feature_extractor
        self.chunk = chunk_seconds(self.extractor)
        self.multilingual = bool(getattr(base.model.generation_config, "is_multilingual", True))
        self.positions = int(base.model.config.max_target_positions)  # of the decoder, one per token
        self.rules = rules
        self._prompts: dict[str, list[int]] = {}

    def prompt(self, row: Utterance, source: Source) -> tuple[str, list[int]]:
        """Return the decode language of a row and the tokens that its transcript starts with.

        Args:
            row: of the source.
            source: may name the language of its rows.

        Raises:
            InvalidInputError: the language is not stated, or the base model has no token for it.
        """
        language = row_language(row, source, self.rules)
        if language not in self._prompts:
            try:
                self._prompts[language] = prompt_ids(
                    self.tokenizer, language, self.rules.task, multilingual=self.multilingual
                )
            except InvalidInputError as error:
                raise InvalidInputError(f"{source.dataset.folder}: {row.id}: {error}") from None
        return language, self._prompts[language]

    def tokenise(self, row: Utterance, source: Source) -> TokenisedRow:
        """Return the row with the tokens of its text.

        Args:
            row: of the source.
            source: may name the language of its rows.

        Raises:
            InvalidInputError: as `prompt`, or more tokens than the decoder has positions.
        """
        language, prompt = self.prompt(row, source)
        tokens = encode_text(self.tokenizer, row.text, prompt)
        check_tokens(len(tokens), self.positions)
        return TokenisedRow(row, language, tokens, len(prompt))

    def misfit(self, item: TokenisedRow, seconds: float) -> str | None:
        """Return why a text does not fit its own audio: a Whisper's may be of any length.

        Args:
            item: the row with its tokens.
            seconds: of its audio.
        """
        return None

    def read(self, row: Utterance) -> Audio:
        """Return a row's audio; a file whose header states too long a duration is not decoded.

        Raises:
            InvalidInputError, NotFoundError: as `check`, and as `Clip.read`.
        """
        self.check(row.clip.seconds(), row.id)
        return row.clip.read(chunk_seconds(self.extractor) + ROUNDING)

    def check(self, seconds: float, where: str) -> None:
        """Refuse audio that is longer than the base model's chunk or outside the recipe's lengths.

        Args:
            seconds: of audio.
            where: its name in the error.

        Raises:
            InvalidInputError: with the limit.
        """
        check_seconds(seconds, chunk_seconds(self.extractor), where)
        shortest, longest = self.rules.shortest_seconds, self.rules.longest_seconds
        if seconds < shortest:
            raise InvalidInputError(
                f"{where}: {seconds:.2f} s of audio; data.shortest_seconds is {shortest:g}"
            )
        if longest is not None and seconds > longest:
            raise InvalidInputError(f"{where}: {seconds:.2f} s of audio; data.longest_seconds is {longest:g}")


class CtcRowProcessor(RowProcessor):
    """The same for a Parakeet CTC: there is no prompt, and each token needs a frame of its own.

    Args:
        base: the base model.
        rules: of the recipe.
    """

    def __init__(self, base: ProcessorAndModel, rules: RowRules) -> None:
        self.tokenizer, self.extractor = base.processor.tokenizer, base.processor.feature_extractor
        self.chunk = None
        self.factor = int(base.model.config.encoder_config.subsampling_factor)
        self.rules = rules

    def prompt(self, row: Utterance, source: Source) -> tuple[str, list[int]]:
        """Return the language of a row, and no tokens.

        Args:
            row: of the source.
            source: may name the language of its rows.

        Raises:
            InvalidInputError: the language is not stated.
        """
        return row_language(row, source, self.rules), []

    def tokenise(self, row: Utterance, source: Source) -> TokenisedRow:
        """Return the row with the tokens of its text.

        Args:
            row: of the source.
            source: may name the language of its rows.

        Raises:
            InvalidInputError: as `prompt`, or characters that the tokenizer has no token for.
        """
        language, _ = self.prompt(row, source)
        text = row.text.strip()
        if strange := sorted(c for c in {*text} - {*whitespace} if not self._can_write(c)):
            raise InvalidInputError(
                f"text with {few(list(map(repr, strange)), separator=', ')}, which the tokenizer "
                "does not know; is it written in another case?"
            )
        return TokenisedRow(row, language, self._encoded(text), 0)

    def misfit(self, item: TokenisedRow, seconds: float) -> str | None:
        """Return why a text has no alignment to its audio: too many tokens, and blanks between equal ones.

        Args:
            item: the row with its tokens.
            seconds: of its audio.
        """
        needed = len(item.tokens) + sum(a == b for a, b in pairwise(item.tokens))
        frames = self.frames(seconds)
        if needed <= frames:
            return None
        return f"text of {needed} tokens for {frames} frames of audio; is it the right text?"

    def frames(self, seconds: float) -> int:
        """Return the frames that the encoder makes of audio: whole ones of features, each halving rounded up.

        Args:
            seconds: of the audio.
        """
        samples = max(SHORTEST, round(seconds * self.extractor.sampling_rate))
        return math.ceil(samples // self.extractor.hop_length / self.factor)

    def _can_write(self, character: str) -> bool:
        """Tell whether a character is one again after it was tokens; its case may be the tokenizer's."""
        again = self.tokenizer.decode(list(self._encoded(character)), group_tokens=False)
        return bool(_folded(again) == _folded(character))

    def _encoded(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().strip()


ROWS: Mapping[str, type[RowProcessor]] = {WHISPER: RowProcessor, PARAKEET: CtcRowProcessor}


def row_processor(base: ProcessorAndModel, rules: RowRules) -> RowProcessor:
    """Return what applies the rules of a recipe to rows, for a base model of any family.

    Args:
        base: the base model.
        rules: of the recipe.
    """
    return ROWS[base.model.config.model_type](base, rules)


def row_language(row: Utterance, source: Source, rules: RowRules) -> str:
    """Return the decode language of a row: of its own tag, else its source's, else the recipe's.

    Where source or recipe borrow the token of another language, rows in their language use that token.

    Args:
        row: may carry a tag of its own.
        source: may name the language of its rows.
        rules: name the adapter's language.

    Raises:
        InvalidInputError: the language is not stated anywhere.
    """
    tag = row.language or source.language or rules.language
    if tag is None:
        raise InvalidInputError(
            f"{source.dataset.folder}: the language of {row.id} is not known; name it in the recipe "
            '(adapter.language, or language = "…" of the source), or add a column `language`'
        )
    if tag == (source.language or rules.language) and source.decode_language:
        return source.decode_language
    if tag == rules.language and rules.decode_language:
        return rules.decode_language
    return whisper_code(tag)
