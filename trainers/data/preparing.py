"""From sources to training examples; every row that is not used is listed with the reason.

prepared = prepare([Source(dataset)], base, RowRules(language="da"))
prepared.dropped      # (DroppedRow("clip7.flac", "9.1 s of audio, …"), …)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import torch

from adapter_hub.data.dataset import Utterance, content_sha256
from adapter_hub.errors import AdapterHubError, IntegrityError, InvalidInputError
from adapter_hub.formats.canonical import canonical_bytes, sha256_hex
from adapter_hub.reporting import Progress
from adapter_hub.speech.audio import check_seconds
from adapter_hub.speech.features import chunk_seconds
from adapter_hub.trainers.data.examples import DroppedRow, Example, PreparedSplit, ProcessorAndModel
from adapter_hub.trainers.data.features import FeatureStore, MemoryFeatures, compute_features
from adapter_hub.trainers.data.mixture import choose_hours, domain_weights
from adapter_hub.trainers.data.rows import RowRules, TokenisedRow, row_processor
from adapter_hub.trainers.data.sources import Source

Row = TypeVar("Row")
Result = TypeVar("Result")


def prepare(
    sources: Sequence[Source],
    base: ProcessorAndModel,
    rules: RowRules,
    *,
    features: FeatureStore | None = None,
    progress: Progress | None = None,
) -> PreparedSplit:
    """Read, check and featurise the rows of all sources.

    Rows whose audio is longer than the base model's chunk or outside the recipe's lengths, whose text is
    longer than its decoder, or that cannot be read are dropped and listed; the others are kept in order.

    Args:
        sources: in the order of the recipe.
        base: the base model, for its chunk, tokenizer and decoder length.
        rules: of the recipe, for all rows.
        features: where features are kept; None for the memory of this process.
        progress: called with the rows that are done and their total.

    Raises:
        InvalidInputError: a row's language is not known or has no token, or a source has no usable row.
        IntegrityError: a cached data set is damaged.
    """
    reader = _SplitBuilder(base, rules, MemoryFeatures() if features is None else features)
    total, before = sum(len(source.dataset.rows) for source in sources), 0
    parts: list[PreparedSplit] = []
    for source in sources:

        def tell(done: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, total)

        parts.append(reader.source(source, tell))
        before += len(source.dataset.rows)
        tell(0, before)
    return combined(parts)


def resampled(split: PreparedSplit, exponent: float) -> PreparedSplit:
    """Return a split whose domains are visited as `domain_weights` says.

    Rows of which neither the data nor the recipe states a domain are one domain together.

    Args:
        split: of training.
        exponent: the recipe's `sampling_exponent`.
    """
    weights = domain_weights([example.domain for example in split.examples], exponent)
    examples = zip(split.examples, weights, strict=True)
    return replace(split, examples=tuple(replace(example, weight=weight) for example, weight in examples))


def combined(parts: Sequence[PreparedSplit]) -> PreparedSplit:
    """Return the examples of several sources as one split; a single part stays as it is."""
    if len(parts) == 1:
        return parts[0]
    return PreparedSplit(
        tuple(example for part in parts for example in part.examples),
        tuple(row for part in parts for row in part.dropped),
        tuple(source for part in parts for source in part.sources),
        sha256_hex(canonical_bytes([part.sha256 for part in parts])),
    )


class _SplitBuilder:
    """Makes the examples of one source after another."""

    def __init__(self, base: ProcessorAndModel, rules: RowRules, features: FeatureStore) -> None:
        self.rows, self.features = row_processor(base, rules), features

    def source(self, source: Source, tell: Callable[[int], None]) -> PreparedSplit:
        """Return the examples of one source.

        Args:
            source: with its rows.
            tell: called with the number of rows that are done.

        Raises:
            InvalidInputError: as `prepare`.
        """
        dropped = dict(source.dataset.unusable)
        tokenised = {item.row.id: item for item in self._tokenised(source, dropped)}
        rows = source.dataset.rows if source.hours is None else self._chosen(source, tokenised, dropped)
        contents: list[tuple[str, str]] = []
        usable: list[tuple[TokenisedRow, str]] = []
        for count, (row, sha256, problem) in enumerate(
            map_in_order(lambda row: self._ensure_features(row, row.id in tokenised), rows), 1
        ):
            contents += [(sha256, row.text)] if sha256 else []
            if problem is not None or (problem := self._misfit(tokenised.get(row.id), sha256)):
                dropped[row.id] = problem
            elif row.id in tokenised:
                usable.append((tokenised[row.id], sha256))
            tell(count)
        self.features.flush()
        if not usable:
            raise _no_usable_row(source, dropped)
        examples = tuple(self._example(item, sha256, source) for item, sha256 in usable)
        sha256 = content_sha256(contents)
        seconds = sum(example.seconds for example in examples)
        return PreparedSplit(
            examples,
            tuple(DroppedRow(*item) for item in dropped.items()),
            (source.record(hours=seconds / 3600, utterances=len(examples), sha256=sha256),),
            sha256,
        )

    def _tokenised(self, source: Source, dropped: dict[str, str]) -> Iterator[TokenisedRow]:
        """Yield the rows whose text fits the decoder, each with the prompt of its language."""
        for row in source.dataset.rows:
            self.rows.prompt(row, source)  # an unknown language is a mistake in the recipe
            try:
                yield self.rows.tokenise(row, source)
            except InvalidInputError as error:
                dropped[row.id] = str(error)

    def _chosen(
        self, source: Source, tokenised: dict[str, TokenisedRow], dropped: dict[str, str]
    ) -> list[Utterance]:
        """Return the rows that are used of a source with `hours`, chosen among the usable ones."""
        rows: list[Utterance] = []
        seconds: list[float] = []
        for item in tokenised.values():
            try:
                found = item.row.clip.seconds()
                self.rows.check(found, item.row.id)
            except AdapterHubError as error:
                dropped[item.row.id] = str(error)
            else:
                rows.append(item.row)
                seconds.append(found)
        hours = source.hours or 0.0
        chosen = choose_hours([row.id for row in rows], seconds, hours, self.rows.rules.random_seed)
        return [rows[i] for i in chosen]

    def _ensure_features(self, row: Utterance, wanted: bool) -> tuple[Utterance, str, str | None]:
        """Compute a row's features unless they are stored.

        Returns:
            The row; the sha256 of its audio, empty if that cannot be read; why it cannot be used, or None.
        """
        try:
            sha256 = row.clip.sha256()
        except (AdapterHubError, OSError) as error:
            return row, "", str(error)
        if not wanted:
            return row, sha256, None
        try:
            clip = self.features.get(sha256)
            if clip is None:
                audio = self.rows.read(row)
                check_seconds(audio.seconds, chunk_seconds(self.rows.extractor), row.id)
                if audio.sha256 != sha256:
                    raise InvalidInputError(
                        f"{row.path}: changed while it was read; do not change the data during training"
                    )
                clip = compute_features(self.rows.extractor, audio)
                self.features[sha256] = clip
            self.rows.check(clip.seconds, row.id)
            row.check_stated(clip.seconds)
        except IntegrityError:
            raise  # the cache is damaged, not the row
        except (AdapterHubError, OSError) as error:
            return row, sha256, str(error)
        return row, sha256, None

    def _misfit(self, item: TokenisedRow | None, sha256: str) -> str | None:
        """Return why a text does not fit its own audio, if the model's kind of alignment sets a limit."""
        clip = None if item is None else self.features.get(sha256)
        return None if item is None or clip is None else self.rows.misfit(item, clip.seconds)

    def _example(self, item: TokenisedRow, sha256: str, source: Source) -> Example:
        clip = self.features.get(sha256)
        assert clip is not None  # stored by _ensure_features a moment ago
        return Example(
            item.row.id,
            clip.features,
            clip.silence,
            item.tokens,
            clip.seconds,
            item.prompt,
            item.language,
            source.weight,
            item.row.domain or source.domain or "",
        )


def map_in_order(work: Callable[[Row], Result], rows: Iterable[Row]) -> Iterator[Result]:
    """Yield `work(row)` for every row, in order, computed by as many threads as torch uses.

    Decoding audio and computing features release Python's lock most of the time, so threads are enough.

    Args:
        work: called in one of the threads.
        rows: taken as they are needed.
    """
    threads = torch.get_num_threads()
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for row in rows:
            waiting.append(pool.submit(work, row))
            if len(waiting) > 4 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _no_usable_row(source: Source, dropped: dict[str, str]) -> InvalidInputError:
    where = f"{source.dataset.folder}: no row can be used"
    if not dropped:
        return InvalidInputError(f"{where}: the first row drawn is longer than hours = {source.hours:g}")
    first = next(dropped[row.id] for row in source.dataset.rows if row.id in dropped)
    return InvalidInputError(f"{where}, the first because of: {first}")
