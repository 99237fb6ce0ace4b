"""`transcribe`: speech to text, of any length, in as many languages as there are adapters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from adapter_hub.cli.terminal.arguments import (
    PATH,
    PLACE,
    allow_quarantined_option,
    base_model_option,
    decode_language_option,
)
from adapter_hub.cli.terminal.decoding_options import decoding_options
from adapter_hub.cli.terminal.echo import echo_error, echo_note, echo_transcript, json_text
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.progress import Bar
from adapter_hub.cli.terminal.routing_options import routing_options
from adapter_hub.errors import InvalidInputError
from adapter_hub.escaping import escaped, without_controls

if TYPE_CHECKING:
    from adapter_hub.transcription.options import OptionWords
    from adapter_hub.transcription.transcript import Segment, Transcript


FORMATS = ("text", "json", "srt", "vtt")
SUBTITLES = ("srt", "vtt")
LONG = 60.0  # seconds of audio; the speed is reported from there on


@click.command()
@click.argument("ref", metavar="REF", type=PLACE)
@click.argument("audio", metavar="AUDIO...", nargs=-1, required=True, type=PATH)
@click.option(
    "--language", metavar="TAG", help="BCP 47 tag of the speech. Default: the adapter's, else identified."
)
@decode_language_option
@base_model_option
@allow_quarantined_option
@routing_options
@decoding_options(
    "task",
    "beams",
    "temperatures",
    "batch_size",
    "timestamps",
    "words",
    "window_seconds",
    "skip_silence",
    "previous_text",
    "prompt",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="Format of the output.",
)
@click.option("--json", "as_json", is_flag=True, help="Same as --format json.")
@click.option(
    "--out",
    metavar="FILE|FOLDER",
    type=PATH,
    help="Write there instead of to stdout; subtitles of several recordings need a folder.",
)
@click.pass_obj
def transcribe(
    options: GlobalOptions,
    ref: str,
    audio: tuple[Path, ...],
    language: str | None,
    languages: tuple[str, ...],
    adapters: tuple[str, ...],
    threshold: float,
    fallback: str | None,
    decode_language: str | None,
    base_model: str | None,
    allow_quarantined: str | None,
    form: str,
    as_json: bool,
    out: Path | None,
    **decoding: Unpack[OptionWords],
) -> int:
    """Transcribe audio files, or all audio files in folders, with the adapter REF.

    REF may be `auto` (the base model identifies the language, and an adapter is chosen for each stretch of
    speech) or `base-model` (no adapter). Recordings may be of any length: they are cut at pauses.

    Text is one line per recording, which starts with the file's name if there are several. JSON has the
    fields of OpenAI's verbose_json. With `auto`, which adapter transcribed what is reported on stderr.
    """
    from adapter_hub.formats.reference import AUTO
    from adapter_hub.speech.audio import find_audio

    form = "json" if as_json else form
    files = [file for path in audio for file in find_audio(path)]
    if form in SUBTITLES and len(files) > 1:
        _check_folder_for_subtitles(files, out, form)
    if out is not None:
        _check_out(out, form)
    if absent := _absent(files):  # known before a model is loaded for nothing
        if form == "json":
            _write(_rendered(absent, form, timestamps=False), out)
        return _tell(absent, Bar("transcribing", 0), routed=False)
    transcriber = options.load(
        ref,
        language=language,
        decode_language=decode_language,
        base_model=base_model,
        languages=languages,
        adapters=adapters,
        allow_quarantined=allow_quarantined,
        threshold=threshold,
        fallback=fallback,
    )
    bar = Bar("transcribing", len(files), _seconds_of(files))
    timestamps = bool(decoding["timestamps"])
    decoding["timestamps"] = "trained" if timestamps or form != "text" else False
    transcripts = list(transcriber.transcribe_each(files, progress=bar.add, **decoding))
    bar.close()
    if form in SUBTITLES:
        _write_subtitles(transcripts, out, form)
    else:
        _write(_rendered(transcripts, form, timestamps), out)
    return _tell(transcripts, bar, routed=ref == AUTO and form != "json")


def _absent(files: Sequence[Path]) -> list[Transcript]:
    """Return the errors of recordings if none of them is there; one that is there is worth a model."""
    from adapter_hub.errors import AdapterHubError
    from adapter_hub.speech.audio import check_file
    from adapter_hub.transcription.transcript import Transcript

    failed = []
    for file in files:
        try:
            check_file(file)
            return []
        except (AdapterHubError, OSError) as error:
            failed.append(Transcript(str(file), error=str(error)))
    return failed


def _tell(transcripts: Sequence[Transcript], bar: Bar, *, routed: bool) -> int:
    """Report on stderr which adapter transcribed what, how fast, and what failed; return the exit code."""
    failed = [transcript for transcript in transcripts if transcript.error is not None]
    for transcript in transcripts if routed else ():
        for line in _routes(transcript):
            echo_note(line)
    if bar.seconds >= LONG:
        echo_note(f"{bar.seconds:.0f} s of audio, {bar.speed:.1f} s of audio per second")
    for transcript in failed:
        echo_error(transcript.error)
    return 1 if failed else 0


def _routes(transcript: Transcript) -> Iterator[str]:
    """Yield a line for every run of segments of one language."""

    def kind(segment: Segment) -> tuple[str, str]:
        return segment.language, segment.adapter

    for (language, adapter), run in groupby(transcript.segments, kind):
        segments = list(run)
        sure = [item.language_probability for item in segments if item.language_probability is not None]
        mean = f" {sum(sure) / len(sure):.2f}" if sure else ""
        times = f"{segments[0].start:.1f} - {segments[-1].end:.1f} s"
        yield f"{transcript.source}: {times}: {language}{mean}, {adapter}"


def _seconds_of(files: Sequence[Path]) -> float:
    """Return the seconds that the headers state; files that cannot be read have none."""
    from adapter_hub.errors import AdapterHubError
    from adapter_hub.speech.audio import audio_seconds

    total = 0.0
    for file in files:
        try:
            total += audio_seconds(file)
        except (AdapterHubError, OSError):
            continue  # reported when it is transcribed
    return total


def _rendered(transcripts: Sequence[Transcript], form: str, timestamps: bool) -> str:
    if form == "json":
        return json_text([item.to_json() for item in transcripts])
    lines = []
    for item in transcripts:
        if item.error is None or item.text:
            text = [f"[{s.start:.2f} - {s.end:.2f}] {s.text}" for s in item.segments]
            text = text if timestamps and text else [item.text]
            source = escaped(item.source)
            text = [without_controls(line) for line in text]
            lines += [f"{source}\t{line}" for line in text] if len(transcripts) > 1 else text
    return "".join(f"{line}\n" for line in lines)


def _check_folder_for_subtitles(files: Sequence[Path], out: Path | None, form: str) -> None:
    """Refuse several recordings without a folder to write to, or with names that are not distinct."""
    if out is None or out.is_file():
        raise click.UsageError(
            f"several recordings as {form} need --out FOLDER: one .{form} file is written for each"
        )
    names = [file.stem for file in files]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise click.UsageError(
            f"several recordings would be written to {twice[0]}.{form}; run the command once per folder"
        )


def _check_out(out: Path, form: str) -> None:
    """Refuse a place that cannot be written to, before hours of transcribing."""
    from adapter_hub.files.writing import check_writable

    if out.is_dir() and form not in SUBTITLES:
        raise InvalidInputError(f"--out {out}: is a folder; name a file in it, like {out / f'text.{form}'}")
    check_writable(out / "x" if out.is_dir() else out)


def _write_subtitles(transcripts: Sequence[Transcript], out: Path | None, form: str) -> None:
    from adapter_hub.transcription.subtitles import to_srt, to_vtt

    to_form = to_srt if form == "srt" else to_vtt
    for item in transcripts:
        if item.error is None or item.segments:
            to_folder = out is not None and (len(transcripts) > 1 or out.is_dir())
            place = out / f"{Path(item.source).stem}.{form}" if out is not None and to_folder else out
            _write(to_form(item.segments) + "\n", place)


def _write(text: str, out: Path | None) -> None:
    from adapter_hub.files.writing import write_atomically

    if out is None:
        echo_transcript(text)
    else:
        try:
            write_atomically(out, text.encode())
        except OSError:
            echo_transcript(text)  # the disk is full now: what took hours is not lost
            raise
