"""`evaluate`: error rates on a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapter_hub.cli.terminal.arguments import (
    PATH,
    PLACE,
    allow_quarantined_option,
    base_model_option,
    decode_language_option,
)
from adapter_hub.cli.terminal.data_options import data_options, open_data
from adapter_hub.cli.terminal.decoding_options import decoding_options
from adapter_hub.cli.terminal.echo import echo_json, echo_text, echo_warning
from adapter_hub.cli.terminal.global_options import GlobalOptions, LoadOptions
from adapter_hub.cli.terminal.progress import Bar
from adapter_hub.cli.terminal.reports import check_report_place, never_lost, read_report
from adapter_hub.cli.terminal.tables import counted, table
from adapter_hub.decoding.options import DecodingOptions
from adapter_hub.errors import InvalidInputError
from adapter_hub.escaping import shown

if TYPE_CHECKING:
    from adapter_hub.data.dataset import Dataset
    from adapter_hub.evaluation.evaluating import EvaluationOptions
    from adapter_hub.evaluation.workers import Workers
    from adapter_hub.formats.claims import EvaluationReport
    from adapter_hub.transcription.transcriber import Transcriber


@click.command()
@click.argument("ref", metavar="REF", type=PLACE)
@data_options(required=True)
@click.option(
    "--language",
    metavar="TAG",
    help="BCP 47 tag of rows without a language of their own. Default: the adapter's.",
)
@decode_language_option
@base_model_option
@allow_quarantined_option
@decoding_options(
    "beams", "temperatures", "batch_size", "timestamps", temperatures=DecodingOptions.temperatures
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    metavar="N",
    default=1,
    show_default=True,
    help="Processes, each with a base model of its own; the report is the same.",
)
@click.option(
    "--normaliser",
    metavar="NAME",
    default="basic/2",
    show_default=True,
    help="How texts are compared: basic/2 ignores case, punctuation and widths (basic/1 in older reports not "
    "widths), none/1 ignores nothing, "
    "whisper/1 is that of Whisper's paper, for comparison with published rates.",
)
@click.option(
    "--script",
    type=click.Choice(["simplified"]),
    help="Compare Chinese in simplified characters, whichever reference and transcript are written in; the "
    "report names it.",
)
@click.option(
    "--out", metavar="FILE", type=PATH, help="Write the report, with every utterance, to this file."
)
@click.option("--attach", is_flag=True, help="Publish the report with the adapter.")
@click.option(
    "--beside",
    metavar="REPORT",
    type=PLACE,
    multiple=True,
    help="A report on another model on the same data, or base-model, which is evaluated now: its rates are "
    "shown beside. Can be given several times.",
)
@click.option(
    "--with-speakers",
    is_flag=True,
    help="Publish the names of speakers and files, which are numbers and digests otherwise.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the report as JSON, as --out writes it; `compare` reads it.",
)
@click.pass_obj
def evaluate(
    options: GlobalOptions,
    /,
    ref: str,
    data: str,
    split: str | None,
    config: str | None,
    text_column: str,
    audio_column: str,
    language: str | None,
    decode_language: str | None,
    base_model: str | None,
    allow_quarantined: str | None,
    workers: int,
    normaliser: str,
    script: str | None,
    out: Path | None,
    attach: bool,
    beside: tuple[str, ...],
    with_speakers: bool,
    as_json: bool,
    **decoding: Any,
) -> None:
    """Measure the word and character error rates of the adapter REF, or of `base-model`, on a data set.

    The data set is a folder with metadata.jsonl or metadata.csv (file_name, text, optionally language,
    speaker and domain) and audio, a JSONL file (audio_filepath, duration, text), or parquet on the Hub at
    a commit.

    Rates are pooled over all utterances, with a 95 % interval over speakers, or over utterances where fewer
    than three speakers are named. CER is the primary rate for languages written without spaces between
    words; their spaces are not counted. Where rows name a domain, the rates by domain are shown, too.
    """
    from adapter_hub.evaluation.evaluating import EvaluationOptions, subject_of
    from adapter_hub.formats.claims import few_speakers
    from adapter_hub.formats.reference import BASE_MODEL

    _check_words(ref, attach=attach, with_speakers=with_speakers, beside=beside)
    if out is not None:
        check_report_place(out)
    columns = {"config": config, "text_column": text_column, "audio_column": audio_column}
    others = [read_report(Path(file)) for file in beside if file != BASE_MODEL]
    dataset = open_data(options, data, split, **columns)
    _check_data(others, dataset)
    how: LoadOptions = {
        "language": language,
        "decode_language": decode_language,
        "base_model": base_model,
        "allow_quarantined": allow_quarantined,
    }
    transcriber = options.load(ref, **how)
    if attach:
        from adapter_hub.exchange.claiming import check_attachable

        check_attachable(subject_of(transcriber), transcriber.base.digest, options)
    normaliser += f"+{script}" if script else ""
    wanted = EvaluationOptions(language=language, normaliser=normaliser, **decoding)
    others_too = _workers(workers, ref, options, how, transcriber)
    report = _measured(transcriber, dataset, wanted, others, others_too, is_base_beside=BASE_MODEL in beside)
    with never_lost(report, options.cache_folder, is_saved=out is not None or attach):
        if as_json:
            echo_json(report.to_json())
        else:
            echo_text(_summary(ref, report))
        if warning := few_speakers(report.speakers):
            echo_warning(warning)
        _save(report, options, out, attach=attach, with_speakers=with_speakers)


def _check_words(ref: str, *, attach: bool, with_speakers: bool, beside: Sequence[str]) -> None:
    """Refuse options that do not go together."""
    from adapter_hub.formats.reference import AUTO, BASE_MODEL

    if ref == AUTO:
        raise InvalidInputError("evaluate: `auto` is not an adapter; name one, or base-model")
    if with_speakers and not attach:
        raise InvalidInputError(
            "evaluate --with-speakers: needs --attach; the file that --out writes has all names anyway"
        )
    if attach and ref == BASE_MODEL:
        raise InvalidInputError(
            "evaluate --attach: a report on the base model alone cannot be published; name an adapter"
        )
    if ref == BASE_MODEL and BASE_MODEL in beside:
        raise InvalidInputError("evaluate base-model --beside base-model: the same model twice")


def _measured(
    transcriber: Transcriber,
    dataset: Dataset,
    wanted: EvaluationOptions,
    others: Sequence[EvaluationReport],
    workers: Workers | None,
    *,
    is_base_beside: bool,
) -> EvaluationReport:
    """Evaluate an adapter and, if that is asked for, its base model after it."""
    from adapter_hub.evaluation.besides import with_others
    from adapter_hub.evaluation.evaluating import base_model_of, evaluate, opened_base_model_of

    bar = Bar("evaluating", len(dataset.rows) * (1 + is_base_beside))
    report = evaluate(transcriber, dataset, wanted, bar.add, workers)
    base: list[EvaluationReport] = []
    if is_base_beside:
        alone = base_model_of(transcriber)
        if workers is not None:
            workers = replace(workers, opening=partial(opened_base_model_of, workers.opening), like=alone)
        base = [evaluate(alone, dataset, wanted, bar.add, workers)]
    bar.close()
    return with_others(report, [*base, *others])


def _workers(
    count: int, ref: str, options: GlobalOptions, how: LoadOptions, like: Transcriber
) -> Workers | None:
    """Return the processes that transcribe; None for this one alone. Warnings were told when it loaded."""
    from adapter_hub.evaluation.workers import Workers, untold
    from adapter_hub.transcription.opening import load

    if count == 1:
        return None
    opening = partial(
        load,
        ref,
        device=options.device,
        dtype=options.dtype,
        registry=options.named_registry,
        cache=str(options.cache_folder),
        tell=untold,
        **how,
    )
    return Workers(count, opening, like)


def _save(
    report: EvaluationReport,
    options: GlobalOptions,
    out: Path | None,
    *,
    attach: bool,
    with_speakers: bool,
) -> None:
    """Write a report to a file and publish it; it was printed before."""
    from adapter_hub.exchange import attach as attach_report
    from adapter_hub.files.writing import write_atomically

    if out is not None:
        write_atomically(out, report.to_bytes())
    if attach:
        attach_report(report, options, with_speakers=with_speakers)


def _check_data(others: Sequence[EvaluationReport], dataset: Dataset) -> None:
    """Refuse reports on other data before hours are spent on this."""
    from adapter_hub.data.dataset import data_sha256

    if others and any(other.data_sha256 != data_sha256(dataset) for other in others):
        raise InvalidInputError(
            f"evaluate --beside: a report is not on {dataset.name}/{dataset.split}; evaluate that model on it"
        )


def _summary(ref: str, report: EvaluationReport) -> str:
    """Return a report as a table of its two rates, the primary one with its interval."""
    from adapter_hub.formats.claims import sample_of

    rows = []
    for name, counts in (("wer", report.words), ("cer", report.characters)):
        primary = name == report.primary
        interval = f"{100 * report.interval.low:.1f} - {100 * report.interval.high:.1f}" if primary else None
        rate = f"{100 * counts.rate:.1f}"
        cells = [counts.substitutions, counts.deletions, counts.insertions, counts.reference_length]
        rows.append([f"{name.upper()} %{' (primary)' if primary else ''}", rate, interval, *cells])
    over = sample_of(report.interval.unit, len(report.rows), report.speakers)
    headings = ["", "value", "95 % interval", "substituted", "deleted", "inserted", "of"]
    subject = report.subject
    what = f"{subject.name}@{subject.version}" if subject.name else ref
    speed = report.seconds / report.wall_seconds if report.wall_seconds else 0.0
    where = f"{what} on {report.data}/{report.split}"
    how = f"{report.seconds:.0f} s of {', '.join(report.languages)}, {report.normaliser}"
    return (
        f"{shown(where)}: {counted(len(report.rows), 'utterance')}, {shown(how)}, "
        f"beams {report.decoding.beams}, {_temperatures(report)}, {speed:.1f} x real time; "
        f"interval over {over}\n"
        f"{table(headings, rows)}{_domains(report)}{_others(report)}"
    )


def _temperatures(report: EvaluationReport) -> str:
    values = report.decoding.temperatures or DecodingOptions.temperatures
    return f"temperature{'s' if len(values) > 1 else ''} {','.join(f'{value:g}' for value in values)}"


def _others(report: EvaluationReport) -> str:
    """Return the rates of the other models as a table; empty where there are none."""
    rows = [
        [
            shown(f"{item.subject.name}@{item.subject.version}") if item.subject.name else "base model",
            f"{100 * item.rate(report.primary):.1f}",
            f"{100 * (report.value - item.rate(report.primary)):+.1f}",
            f"{100 * item.low:+.1f} to {100 * item.high:+.1f}",
        ]
        for item in report.beside or ()
    ]
    headings = ["beside", f"{report.primary.upper()} %", "difference", "95 % interval"]
    return f"\n\n{table(headings, rows)}" if rows else ""


def _domains(report: EvaluationReport) -> str:
    """Return the primary rate by domain as a second table; empty where rows name no domain."""
    from adapter_hub.evaluation.domains import by_domain

    rows = [
        [
            shown(name),
            f"{100 * score.counts.rate:.1f}",
            f"{100 * score.interval.low:.1f} - {100 * score.interval.high:.1f}",
            score.utterances,
        ]
        for name, score in by_domain(report).items()
    ]
    headings = ["domain", f"{report.primary.upper()} %", "95 % interval", "utterances"]
    return f"\n\n{table(headings, rows)}" if rows else ""
