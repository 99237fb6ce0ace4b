"""`evaluate`, and what it shares with `transcribe`: options, opening, writing.

adapter-hub evaluate mini/da --data danish --split test --out report.json
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

import click

from adapter_hub.cli.terminal.arguments import PATH, PLACE
from adapter_hub.cli.terminal.echo import echo_json, echo_note, echo_text, echo_warning
from adapter_hub.cli.terminal.progress import Bar
from adapter_hub.cli.terminal.settings import Settings
from adapter_hub.cli.terminal.tables import counted, table
from adapter_hub.escaping import shown

if TYPE_CHECKING:
    from adapter_hub.data.dataset import Dataset
    from adapter_hub.formats.claims import EvaluationReport
    from adapter_hub.transcription.transcriber import Transcriber

Command = TypeVar("Command", bound="Callable[..., Any]")


class Choices(TypedDict, total=False):
    """What `load` lets `auto` choose among."""

    threshold: float
    adapters: Sequence[str]
    languages: Sequence[str]
    fallback: str | None
    allow_quarantined: str | None


decode_language_option = click.option(
    "--decode-language", metavar="CODE", help="Whisper's language to decode in, where it has none for TAG."
)
base_model_option = click.option(
    "--base-model",
    metavar="ID",
    type=PLACE,
    help="Id or folder of the base model. Default: the adapter's own, else the embedded one.",
)
allow_quarantined_option = click.option(
    "--allow-quarantined", metavar="DIGEST", help="Take this quarantined version all the same."
)
beams_option = click.option(
    "--beams", type=click.IntRange(1), default=5, show_default=True, help="Width of the search; 1 is greedy."
)
batch_size_option = click.option(
    "--batch-size", type=click.IntRange(1), default=8, show_default=True, help="Audios decoded together."
)
timestamps_option = click.option("--timestamps", is_flag=True, help="Find when each segment starts and ends.")


def data_options(command: Command) -> Command:
    """Add the options that name a split of a data set, wherever it is."""
    for option in reversed(
        (
            click.option(
                "--data",
                required=True,
                metavar="PLACE",
                type=PLACE,
                help="Folder with metadata and audio, JSONL file, or hf://datasets/NAMESPACE/NAME@COMMIT.",
            ),
            click.option(
                "--split", help="Split of the data. Default: `test`, unless PLACE is one split itself."
            ),
            click.option("--config", help="Configuration of a data set on the Hub, such as da_dk."),
            click.option(
                "--text-column", default="transcription", show_default=True, help="Its column of references."
            ),
            click.option("--audio-column", default="audio", show_default=True, help="Its column of audio."),
        )
    ):
        command = option(command)
    return command


@click.command()
@click.argument("ref", metavar="REF", type=PLACE)
@data_options
@click.option("--language", metavar="TAG", help="BCP 47 tag of rows that name none. Default: the adapter's.")
@decode_language_option
@base_model_option
@allow_quarantined_option
@beams_option
@batch_size_option
@timestamps_option
@click.option(
    "--normaliser",
    metavar="NAME",
    default="basic/1",
    show_default=True,
    help="What counts as the same word: basic/1 ignores case and punctuation, none/1 nothing.",
)
@click.option("--out", type=PATH, help="Write the report with every utterance there.")
@click.option("--attach", is_flag=True, help="Publish the report beside the adapter it is about.")
@click.option(
    "--with-speakers",
    is_flag=True,
    help="Attach the names of speakers and files as they are, not numbers and digests.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_obj
def evaluate(
    settings: Settings,
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
    beams: int,
    batch_size: int,
    timestamps: bool,
    normaliser: str,
    out: Path | None,
    attach: bool,
    with_speakers: bool,
    as_json: bool,
) -> None:
    """Measure the error rates of the adapter REF, or of `base-model`, on a data set.

    The data set is a folder with metadata.jsonl or metadata.csv (file_name, text, optionally language and
    speaker) and audio, a JSONL file (audio_filepath, duration, text), or parquet on the Hub at a commit.
    Rates are pooled over all utterances, with a 95 % interval by resampling speakers. CER leads for
    languages written without word spaces; their spaces do not count as characters.
    """
    from adapter_hub.errors import InvalidInputError
    from adapter_hub.evaluation.evaluating import EvaluationOptions
    from adapter_hub.evaluation.evaluating import evaluate as run
    from adapter_hub.transcription.opening import AUTO, BASE_MODEL

    if ref == AUTO:
        raise InvalidInputError("evaluate: `auto` is no adapter; name one, or base-model")
    if with_speakers and not attach:
        raise InvalidInputError(
            "evaluate --with-speakers: goes with --attach; the file of --out has all names"
        )
    if attach and ref == BASE_MODEL:
        raise InvalidInputError("evaluate --attach: the base model has no place for reports; name an adapter")
    columns = {"config": config, "text_column": text_column, "audio_column": audio_column}
    dataset = open_data(settings, data, split, **columns)
    transcriber = open_transcriber(
        settings, ref, language, decode_language, base_model, allow_quarantined=allow_quarantined
    )
    options = EvaluationOptions(
        language=language,
        beams=beams,
        timestamps=timestamps,
        batch_size=batch_size,
        normaliser=normaliser,
    )
    bar = Bar("evaluating", len(dataset.rows))
    report = run(transcriber, dataset, options, lambda done, _, seconds: bar.at(done, seconds))
    bar.close()
    if out is not None:
        write_bytes(report.to_bytes(), out)
    if attach:
        from adapter_hub.exchange import attach as attach_report

        attach_report(
            report,
            registry=settings.own_registry(),
            store=settings.own_store(),
            with_speakers=with_speakers,
        )
    if as_json:
        echo_json(report.to_json())
    else:
        echo_text(summary(ref, report))


def open_data(settings: Settings, place: str, split: str | None, **options: Any) -> Dataset:
    """Return the rows of a split of a data set.

    Args:
        settings: of the command line, for the cache.
        place: a folder, a JSONL file, or `hf://datasets/namespace/name@commit`.
        split: None for `test`, where the place has splits.
        options: config, text_column and audio_column of a data set on the Hub.
    """
    from adapter_hub.data.dataset import METADATA, read_dataset
    from adapter_hub.data.hub_dataset import HubSplit, read_hub_dataset
    from adapter_hub.hub import is_hub

    if is_hub(place):
        wanted = HubSplit.parse(place, split=split or "test", **options)
        return read_hub_dataset(wanted, settings.open_cache().folder, tell=echo_note)
    folder = Path(place)
    if split is None and folder.is_dir() and not any((folder / name).is_file() for name in METADATA):
        split = "test"
    return read_dataset(folder, split)


def summary(ref: str, report: EvaluationReport) -> str:
    """Return a report as a table of its two rates, the primary one with its interval.

    Args:
        ref: what was evaluated, as the user named it.
        report: of an evaluation.
    """
    rows = []
    for name, counts in (("wer", report.words), ("cer", report.characters)):
        primary = name == report.primary
        interval = f"{100 * report.interval.low:.1f} - {100 * report.interval.high:.1f}" if primary else None
        rate = f"{100 * counts.rate:.1f}"
        cells = [counts.substitutions, counts.deletions, counts.insertions, counts.reference_length]
        rows.append([f"{name.upper()} %{' (primary)' if primary else ''}", rate, interval, *cells])
    headings = ["", "value", "95 % interval", "substituted", "deleted", "inserted", "of"]
    subject = report.subject
    what = f"{subject.name}@{subject.version}" if subject.name else ref
    speed = report.seconds / report.wall_seconds if report.wall_seconds else 0.0
    where = f"{what} on {report.data}/{report.split}"
    how = f"{report.seconds:.0f} s of {', '.join(report.languages)}, {report.normaliser}"
    return (
        f"{shown(where)}: {counted(len(report.rows), 'utterance')}, {shown(how)}, "
        f"beams {report.decoding.beams}, {speed:.1f} x real time\n{table(headings, rows)}"
    )


def open_transcriber(
    settings: Settings,
    ref: str,
    language: str | None,
    decode_language: str | None,
    base_model: str | None,
    **choices: Unpack[Choices],
) -> Transcriber:
    """Load what a command's options name; warnings go to stderr."""
    from adapter_hub.transcription.opening import load

    return load(
        ref,
        language=language,
        decode_language=decode_language,
        base_model=base_model,
        device=settings.device,
        dtype=settings.dtype,
        registry=settings.named_registry,
        cache=settings.cache,
        tell=echo_warning,
        **choices,
    )


def write_bytes(data: bytes, out: Path) -> None:
    """Write a file whole or not at all."""
    from adapter_hub.files.writing import write_atomically

    write_atomically(out, data)
