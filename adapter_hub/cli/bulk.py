"""`bulk`: thousands of hours of speech to text, in one process or on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from adapter_hub.bulk import SHARD_ROWS
from adapter_hub.cli.terminal.arguments import (
    PATH,
    PLACE,
    allow_quarantined_option,
    base_model_option,
    decode_language_option,
)
from adapter_hub.cli.terminal.decoding_options import decoding_options
from adapter_hub.cli.terminal.echo import echo_error, echo_json, echo_line, echo_warning
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.progress import Teller
from adapter_hub.cli.terminal.routing_options import routing_options
from adapter_hub.cli.terminal.tables import counted
from adapter_hub.reporting import PassingLine

if TYPE_CHECKING:
    from adapter_hub.bulk.plan import Form
    from adapter_hub.bulk.running import Engine, Progress, Summary
    from adapter_hub.transcription.options import OptionWords

HOUR = 3600.0


@click.command()
@click.argument("place", metavar="INPUT", type=PATH)
@click.option(
    "--model",
    required=True,
    metavar="REF",
    type=PLACE,
    help="The adapter of rows that name none: a reference, auto or base-model.",
)
@click.option("--out", required=True, metavar="FOLDER", type=PATH, help="Write the shards there.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    metavar="N",
    default=1,
    show_default=True,
    help="Processes, each with a base model of its own; several need the extra `ray`.",
)
@click.option(
    "--address",
    metavar="ADDRESS",
    help="The cluster of Ray to work on, like ray://head:10001 or auto; local starts one on this machine. "
    "Default: no Ray for one worker, local for several.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "parquet"]),
    default="jsonl",
    show_default=True,
    help="Format of the shards.",
)
@click.option(
    "--shard-rows",
    type=click.IntRange(1),
    metavar="N",
    default=SHARD_ROWS,
    show_default=True,
    help="Rows of a shard, the unit of work that is lost if a worker is; fewer for long recordings.",
)
@click.option(
    "--audio-column",
    metavar="NAME",
    help="Column of INPUT with the recordings. Default: audio, audio_filepath, file_name or path.",
)
@click.option(
    "--language",
    metavar="TAG",
    help="BCP 47 tag of rows without a language of their own. Default: the adapter's, else identified.",
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
    "words",
    "window_seconds",
    "skip_silence",
    "previous_text",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.pass_obj
def bulk(
    options: GlobalOptions,
    place: Path,
    model: str,
    out: Path,
    workers: int,
    address: str | None,
    form: Form,
    shard_rows: int,
    audio_column: str | None,
    language: str | None,
    decode_language: str | None,
    base_model: str | None,
    allow_quarantined: str | None,
    languages: tuple[str, ...],
    adapters: tuple[str, ...],
    threshold: float,
    fallback: str | None,
    as_json: bool,
    **decoding: Unpack[OptionWords],
) -> int:
    """Transcribe all recordings of INPUT into shards, and go on where an earlier run was stopped.

    INPUT is a folder of recordings, a list (JSONL, CSV or tab-separated: `audio`, a path relative to the
    list, and optionally `id`, `language` and `model`, the adapter of that row), or parquet with names or
    bytes of recordings; other columns are carried through.

    Every shard in the folder of --out is whole. Started again with the same words, the command makes those
    that are missing. A recording that cannot be read is a row with `error`. `summary.json` is written last.
    """
    from adapter_hub.bulk.job import Job
    from adapter_hub.bulk.rows import read_rows
    from adapter_hub.bulk.running import in_this_process, run
    from adapter_hub.speech.languages import language_tag

    rows = read_rows(place, audio_column)
    decoding["timestamps"] = "trained"
    job = Job(
        model,
        how={
            "language": language and language_tag(language),
            "decode_language": decode_language,
            "base_model": base_model,
            "allow_quarantined": allow_quarantined,
            "languages": languages,
            "adapters": adapters,
            "threshold": threshold,
            "fallback": fallback,
        },
        options=decoding,
        places={
            "registry": _everywhere(options.named_registry),
            "cache": str(options.cache_folder),
            "device": options.device,
            "dtype": options.dtype,
        },
        mixed=any(row.model for row in rows),
        shard_rows=shard_rows,
        form=form,
        audio_column=audio_column,
    )
    shown = _Shown()
    engine = _engine(workers, address)
    summary = run(
        job,
        rows,
        out,
        engine or in_this_process,
        tell=shown.warn,
        progress=shown.progress,
        elsewhere=engine is not None,
    )
    shown.close()
    _tell(summary, out, shown.speed, as_json=as_json)
    return _failures(summary, out)


def _engine(workers: int, address: str | None) -> Engine | None:
    """Return the cluster of Ray that transcribes; None for this process."""
    if workers == 1 and address is None:
        return None
    from adapter_hub.bulk.on_ray import OnRay

    return OnRay(workers, address or "local")


def _everywhere(registry: str) -> str:
    """Return a registry that is found from every folder."""
    from adapter_hub.formats.reference import is_address
    from adapter_hub.paths import registry_path

    return registry if is_address(registry) else str(registry_path(registry))


class _Shown:
    """Progress on stderr."""

    def __init__(self) -> None:
        self._teller, self.speed = Teller(), 0.0

    def progress(self, now: Progress) -> None:
        """Show how far the job is."""
        self.speed = now.speed
        failed = f"{now.failed} failed, " if now.failed else ""
        left = f", {_clock(now.left)} left" if now.left is not None else ""
        line = (
            f"{now.rows} of {now.of} recordings, {failed}{now.seconds / HOUR:.2f} hours of audio, "
            f"{now.speed:.1f} hours per hour{left}"
        )
        self._teller(PassingLine(line, now.rows / max(now.of, 1)))

    def warn(self, line: str) -> None:
        """Print a warning."""
        self._teller.close()
        echo_warning(line)

    def close(self) -> None:
        """Clear the line."""
        self._teller.close()


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"


def _tell(summary: Summary, out: Path, speed: float, *, as_json: bool) -> None:
    """Print what there is now."""
    if as_json:
        echo_json({"out": str(out), **summary.to_json(), "hours_per_hour": round(speed, 3)})
        return
    made = f", {speed:.1f} hours per hour" if speed else ""
    damaged = f", {summary.truncated} damaged" if summary.truncated else ""
    echo_line(
        f"{counted(summary.plan.rows, 'recording')} of {summary.seconds / HOUR:.2f} hours{made}{damaged}; "
        f"{counted(len(summary.shards), 'shard')} in {out}"
    )


def _failures(summary: Summary, out: Path) -> int:
    """Report the recordings that failed in one line; return the exit code."""
    if not summary.failed:
        return 0
    shard, row, error = summary.failed[0]
    echo_error(
        f"{len(summary.failed)} of {counted(summary.plan.rows, 'recording')} failed; their rows in {out} "
        f"have `error`, and summary.json lists them; the first is {row} in {shard}: {error}"
    )
    return 1
