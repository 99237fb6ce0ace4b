"""Evaluates a transcriber on a data set and reports the error rates.

    report = evaluate(load("mini/da"), read_dataset(Path("danish"), "test"))

No row is left out silently: audio that cannot be read, an empty reference or an unknown language is an error
that names the rows, found before hours of decoding wherever possible.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from adapter_hub.base_model.families import FAMILIES
from adapter_hub.data.dataset import Dataset, Utterance, content_sha256, listed
from adapter_hub.decoding.options import DecodingOptions
from adapter_hub.errors import AdapterHubError, InvalidInputError
from adapter_hub.evaluation.intervals import interval_of
from adapter_hub.evaluation.scoring import count_errors, pooled
from adapter_hub.evaluation.workers import Opening, Workers
from adapter_hub.formats.claims import Decoding, EvaluationReport, Subject, UtteranceRow
from adapter_hub.formats.times import utc_now
from adapter_hub.packages import package_versions
from adapter_hub.speech.audio import Audio, check_seconds
from adapter_hub.speech.languages import language_tag, primary_metric
from adapter_hub.speech.limits import check_duration, longest_seconds
from adapter_hub.speech.normalisers import DEFAULT, check_normaliser, normalise
from adapter_hub.transcription.options import TranscriptionOptions
from adapter_hub.transcription.routing import FixedRoute, LanguageRouter, decode_language_of
from adapter_hub.transcription.transcriber import BatchProgress, Transcriber
from adapter_hub.transcription.transcript import Transcript


@dataclass(frozen=True)
class EvaluationOptions:
    """How to evaluate.

    Attributes:
        language: BCP 47 tag of rows without one of their own; by default the adapter's only language.
        beams: of the beam search; 1 is greedy; None is what the base model's family is used with.
        timestamps: decode with timestamp tokens, if the adapter was trained with them.
        temperatures: 0 alone is the search alone, whose texts do not depend on chance; more are tried in
            order while a text repeats itself or is improbable, as `transcribe` does.
        batch_size: utterances decoded together.
        normaliser: decides what counts as the same word, see `adapter_hub.speech.normalisers`.
    """

    language: str | None = None
    beams: int | None = None
    timestamps: bool = False
    temperatures: tuple[float, ...] = DecodingOptions.temperatures
    batch_size: int = TranscriptionOptions.batch_size
    normaliser: str = DEFAULT


def evaluate(
    transcriber: Transcriber,
    dataset: Dataset,
    options: EvaluationOptions | None = None,
    progress: BatchProgress | None = None,
    workers: Workers | None = None,
) -> EvaluationReport:
    """Transcribe every utterance and count the errors.

    Args:
        transcriber: for one adapter, or for the base model alone.
        dataset: the rows; a row's own language takes precedence over `options.language`.
        options: how to evaluate; None for the defaults.
        progress: called after every batch with its number of utterances and their seconds of audio.
        workers: processes that transcribe; None for this one. The report is the same.

    Raises:
        InvalidInputError: rows that cannot be evaluated, each named; or a transcriber that a report cannot
            name: `auto`, or an adapter without a manifest.
    """
    options = options or EvaluationOptions()
    started = time.monotonic()
    _check_subject(transcriber)
    rows = scored_rows(transcriber, dataset, options, progress, workers)
    return _report(transcriber, dataset, rows, options, time.monotonic() - started)


def scored_rows(
    transcriber: Transcriber,
    dataset: Dataset,
    options: EvaluationOptions,
    progress: BatchProgress | None = None,
    workers: Workers | None = None,
) -> list[UtteranceRow]:
    """Transcribe every utterance and count its errors, also with an adapter that has no name yet.

    Args, errors are those of `evaluate`; only reports need a name.
    """
    plan = _plan(transcriber, dataset, options)
    results: dict[str, UtteranceRow] = {}
    problems: list[str] = []
    batches = list(_batches(plan, options.batch_size))
    score = partial(_run, options=options)
    answers = workers.map(score, batches) if workers else (score(transcriber, batch) for batch in batches)
    for batch, answer in zip(batches, answers, strict=True):
        seconds = 0.0
        for row in answer:
            if isinstance(row, str):
                problems.append(row)
            else:
                results[row.id] = row
                seconds += row.seconds
        if progress:
            progress(len(batch), seconds)
    if problems:
        raise InvalidInputError(f"{dataset.folder}: {listed(problems)}; repair or remove these rows")
    return [results[row.id] for row in dataset.rows]


@dataclass(frozen=True)
class _Planned:
    """An utterance that passed the checks, with the language to decode it in."""

    row: Utterance
    tag: str
    seconds: float


def _batches(plan: Sequence[_Planned], size: int) -> Iterator[Sequence[_Planned]]:
    """Yield up to `size` utterances at a time, with no more audio than may be decoded at once."""
    batch: list[_Planned] = []
    for planned in plan:
        full = sum(item.seconds for item in batch) + planned.seconds > longest_seconds()
        if batch and (full or len(batch) == size):
            yield batch
            batch = []
        batch.append(planned)
    if batch:
        yield batch


def subject_of(transcriber: Transcriber) -> Subject:
    """Return what a report on a transcriber is about.

    Args:
        transcriber: for one adapter, or for the base model alone.
    """
    manifest = transcriber.adapter.manifest if transcriber.adapter else None
    if manifest is None:
        return Subject()
    return Subject(name=manifest.name, version=manifest.version, function_digest=manifest.function_digest)


def base_model_of(transcriber: Transcriber) -> Transcriber:
    """Return the same base model without the adapter, decoding every language as the adapter does.

    Args:
        transcriber: for one adapter.
    """
    route, adapter = transcriber.router, transcriber.adapter
    assert isinstance(route, FixedRoute)
    languages = adapter.manifest.languages if adapter and adapter.manifest else route.languages
    return replace(transcriber, router=replace(route, adapter=None, languages=languages))


def opened_base_model_of(opening: Opening) -> Transcriber:
    """Return `base_model_of` a transcriber that is opened now, in another process.

    Args:
        opening: of one for one adapter.
    """
    return base_model_of(opening())


def _check_subject(transcriber: Transcriber) -> None:
    """Refuse what a report cannot name; a report without an adapter is of the base model alone."""
    router, adapter = transcriber.router, transcriber.adapter
    if isinstance(router, LanguageRouter) and (router.candidates or router.fallback is not None):
        raise InvalidInputError("evaluate: `auto` is not an adapter; name one, or base-model")
    if adapter is not None and adapter.manifest is None:
        raise InvalidInputError(
            f"evaluate: {adapter.name} has no manifest, so no report can name it; use "
            "`adapter-hub import` first"
        )


def _plan(transcriber: Transcriber, dataset: Dataset, options: EvaluationOptions) -> list[_Planned]:
    """Return the rows by duration, after checking their headers and texts."""
    check_normaliser(options.normaliser)
    if options.batch_size < 1 or (options.beams is not None and options.beams < 1):
        raise InvalidInputError(
            f"batch size {options.batch_size}, beams {options.beams}: expected 1 or more of each"
        )
    tags = _tags(transcriber, dataset, options.language)
    for tag in sorted(set(tags)):
        _decode_language(transcriber, tag)
    plan, problems = [], [f"{row_id}: {reason}" for row_id, reason in dataset.unusable]
    for row, tag in zip(dataset.rows, tags, strict=True):
        try:
            seconds = row.clip.seconds()
            check_seconds(seconds, float("inf"), row.id)
            check_duration(row.id, seconds, None)
            row.check_stated(seconds)
            plan.append(_Planned(row, tag, seconds))
        except (AdapterHubError, OSError) as error:
            problems.append(f"line {row.line}: {error}")
        if not normalise(options.normaliser, row.text, tag).strip():
            name = options.normaliser
            problems.append(f"line {row.line}: {row.id}: reference {row.text!r} is empty after {name}")
    if problems:
        raise InvalidInputError(f"{dataset.folder}: {listed(problems)}")
    return sorted(plan, key=lambda planned: planned.seconds)


def _tags(transcriber: Transcriber, dataset: Dataset, language: str | None) -> list[str]:
    """Return the language of every row."""
    adapter = transcriber.adapter
    told = transcriber.router.languages if isinstance(transcriber.router, FixedRoute) else ()
    own = [item.tag for item in (adapter.manifest.languages if adapter and adapter.manifest else told)]
    fallback = language or (own[0] if len(own) == 1 else None)
    unknown = [row for row in dataset.rows if not (row.language or fallback)]
    if unknown:
        raise InvalidInputError(
            f"{dataset.folder}: the language of {len(unknown)} of {len(dataset.rows)} rows is not known "
            f"(the first is {unknown[0].id}); name it with --language, or add a column `language`"
        )
    return [language_tag(row.language or str(fallback)) for row in dataset.rows]


def _decode_language(transcriber: Transcriber, tag: str) -> str:
    router = transcriber.router
    if isinstance(router, FixedRoute):
        return router.decode_language_for(tag)
    return decode_language_of(transcriber.base, transcriber.adapter, tag)


def _run(
    transcriber: Transcriber, batch: Sequence[_Planned], options: EvaluationOptions
) -> list[UtteranceRow | str]:
    """Return the report's row of every utterance, or why there is none."""
    rows: list[UtteranceRow | str] = []
    readable: list[tuple[_Planned, Audio]] = []
    for planned in batch:
        try:
            readable.append((planned, planned.row.clip.read()))
        except (AdapterHubError, OSError) as error:
            rows.append(f"line {planned.row.line}: {error}")
    if not readable:
        return rows
    transcripts = transcriber.transcribe(
        [audio for _, audio in readable],
        beams=options.beams,
        timestamps=options.timestamps,
        temperatures=options.temperatures,
        languages=[planned.tag for planned, _ in readable],
        batch_size=len(readable),
        window_seconds=transcriber.base.chunk_seconds,  # an utterance is not cut where it fits
        no_speech=None,
    )
    for (planned, audio), transcript in zip(readable, transcripts, strict=True):
        rows.append(_row(planned, audio, transcript, options.normaliser))
    return rows


def _row(planned: _Planned, audio: Audio, transcript: Transcript, normaliser: str) -> UtteranceRow | str:
    row = planned.row
    if transcript.error is not None:
        return f"line {row.line}: {row.id}: {transcript.error}"
    words, characters = count_errors(row.text, transcript.text, normaliser, planned.tag)
    return UtteranceRow(
        id=row.id,
        audio_sha256=audio.sha256,
        seconds=round(audio.seconds, 4),
        language=planned.tag,
        speaker=row.speaker,
        domain=row.domain,
        reference=row.text,
        hypothesis=transcript.text,
        words=words,
        characters=characters,
    )


def _report(
    transcriber: Transcriber,
    dataset: Dataset,
    rows: Sequence[UtteranceRow],
    options: EvaluationOptions,
    wall_seconds: float,
) -> EvaluationReport:
    languages = tuple(sorted({row.language for row in rows}))
    primary = primary_metric(languages)
    counts = [row.words if primary == "wer" else row.characters for row in rows]
    decoded = sorted({_decode_language(transcriber, tag) for tag in languages})
    interval = interval_of(counts, [row.speaker for row in rows])
    return EvaluationReport.model_validate(
        {
            "schema": "evaluation/1",
            "created": utc_now(),
            "subject": subject_of(transcriber),
            "base_model_digest": transcriber.base.digest,
            "data": dataset.name,
            "data_sha256": content_sha256((row.audio_sha256, row.reference) for row in rows),
            "split": dataset.split,
            "languages": languages,
            "normaliser": options.normaliser,
            "decoding": Decoding(
                beams=options.beams or FAMILIES[transcriber.base.family].beams,
                timestamps=options.timestamps,
                language=",".join(decoded),
                temperatures=options.temperatures if len(options.temperatures) > 1 else None,
            ),
            "primary": primary,
            "words": pooled([row.words for row in rows]),
            "characters": pooled([row.characters for row in rows]),
            "interval": interval,
            "seconds": round(sum(row.seconds for row in rows), 3),
            "wall_seconds": round(wall_seconds, 3),
            "packages": package_versions(),
            "rows": tuple(rows),
        }
    )
