"""The pages of a report: README.md and results.json, Markdown tables, and how a run was made."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import stdev
from typing import Any

from adapter_hub.base_model.finding import public_base_model
from adapter_hub.base_model.naming import id_in
from adapter_hub.errors import MissingExtraError
from adapter_hub.files.writing import write_atomically
from adapter_hub.reporting import Tell
from adapter_hub.trainers.reproduction.comparing import System
from adapter_hub.trainers.reproduction.drawing import Plot, draw
from adapter_hub.trainers.reproduction.run import Run

GAP = "…"  # not finished in this run
Cells = Sequence[str]  # of a row


def write_pages(
    run: Run,
    numbers: Mapping[str, Any],
    plots: Mapping[str, Plot],
    render: Callable[[Sequence[Path]], str],
    tell: Tell,
) -> Path:
    """Write results.json, plots and README.md into a run's folder; return the last.

    Args:
        run: opened.
        numbers: for results.json.
        plots: that the numbers may be drawn as.
        render: returns the page, given the plots that were drawn.
        tell: told why there are no plots, if so.
    """
    content = json.dumps(numbers, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    write_atomically(run.folder / "results.json", content.encode())
    drawn: list[Path] = []
    try:
        drawn = draw(plots, numbers, run.folder)
    except MissingExtraError as error:
        tell(str(error))
    report = run.folder / "README.md"
    write_atomically(report, render(drawn).encode())
    return report


def base_model_name(words: str) -> str:
    """Return what a report calls the base model of its settings, which may be a folder.

    Args:
        words: of the settings: an id, a folder, or `ID=FOLDER`.
    """
    return id_in(words) or public_base_model(words, Path(words).expanduser())[0]


def markdown(headings: Cells, rows: Sequence[Cells]) -> str:
    """Return a Markdown table.

    Args:
        headings: of the columns.
        rows: the cells of each row.
    """
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def number(value: float | None, spread: float | None = None) -> str:
    """Return a fraction as per cent, with the standard deviation over seeds.

    Args:
        value: a fraction; None if it is not finished.
        spread: the standard deviation over seeds, a fraction.
    """
    if value is None:
        return GAP
    return f"{100 * value:.2f}" + ("" if spread is None else f" ± {100 * spread:.2f}")


def shown(system: System | None, language: str) -> str:
    """Return a system's mean over seeds and its spread on one test set.

    Args:
        system: None if nothing of it is finished.
        language: of the test set.
    """
    if system is None or not system.scores.get(language):
        return GAP
    values = system.values(language)
    text = number(system.value(language), stdev(values) if len(values) > 1 else None)
    return text if len(values) >= system.seeds else f"{text} ({len(values)} of {system.seeds} seeds{GAP})"


def with_paper(ours: str, theirs: float | None) -> str:
    """Return our number above the paper's.

    Args:
        ours: as shown.
        theirs: per cent; None if the paper has no such number.
    """
    return ours if theirs is None else f"{ours}<br>*{theirs:.2f}*"


def provenance(run: Run, paper: str) -> str:
    """Return how a run was made: its starts, packages and files.

    Args:
        run: opened.
        paper: its name on the command line.
    """
    lines = []
    for start in run.starts():
        revision = f"{start.get('code_revision') or 'unknown'}{' (changed)' if start.get('dirty') else ''}"
        lines.append(
            f"- {start['time']}: `{start['command']}`, {start['jobs']} workers of one thread, "
            f"{start['machine']}, Python {start['python']}, code {revision}\n"
        )
    packages = run.starts()[-1]["packages"] if run.starts() else {}
    versions = ", ".join(f"{name} {found}" for name, found in packages.items())
    return "".join(lines) + (
        f"\n{versions}\n\nSettings: `settings.toml`; every number: `results.json`; rebuilt from the "
        f"finished cells by `adapter-hub reproduce {paper} --report-only --out FOLDER`.\n"
    )
