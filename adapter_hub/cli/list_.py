"""`list`: the versions that the registries hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from adapter_hub.cli.terminal.arguments import json_option
from adapter_hub.cli.terminal.echo import echo_json, echo_note, echo_text
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.tables import counted, fitting_table, size_text

METHODS = ("lora", "warm-start", "expert-pair", "average", "imported")
STATUSES = ("active", "deprecated", "yanked", "quarantined", "withdrawn")


@click.command("list")
@click.option("--language", metavar="TAG", help="Only adapters for this language, like da or pt-BR.")
@click.option("--base-model", metavar="ID|DIGEST", help="Only adapters of this base model: its id or digest.")
@click.option("--method", type=click.Choice(METHODS), help="Only adapters made with this method.")
@click.option("--status", type=click.Choice(STATUSES), help="Only versions with this status.")
@click.option(
    "--sort",
    type=click.Choice(["wer", "cer"]),
    help="Lowest rate first, of those measured alike; needs --data.",
)
@click.option("--data", metavar="ID", help="Show, and sort by, the test score on this data set.")
@json_option
@click.pass_obj
def list_(
    options: GlobalOptions,
    language: str | None,
    base_model: str | None,
    method: str | None,
    status: str | None,
    sort: str | None,
    data: str | None,
    as_json: bool,
) -> None:
    """List all versions in the registry, then those of the embedded catalogue.

    On a narrow terminal columns are left out; --json has everything.
    """
    if sort and not data:
        raise click.UsageError("--sort needs --data ID: scores on different data are not comparable")
    from adapter_hub.exchange.listing import list_versions, those

    everything = list_versions(options)
    rows = those(everything, language=language, base_model=base_model, method=method, status=status)
    if sort:
        assert data is not None
        rows = _sorted(rows, sort, data)
    if as_json:
        echo_json(rows)
        return
    if not rows:
        echo_note("no adapter matches; `adapter-hub list` without options shows all")
        return
    names = {row.get("digest", ""): f"{row['name']}@{row['version']}" for row in everything}
    echo_text(
        fitting_table(
            ["adapter", "language", "method", "rank", "from", "score", "size", "status"],
            [_cells(row, names, data) for row in rows],
            ["size", "rank", "from", "method"],
        )
    )


def _sorted(rows: Sequence[dict[str, Any]], metric: str, data: str) -> list[dict[str, Any]]:
    """Return rows by their scores that were measured in one way, that of most; then the others, by name."""
    from adapter_hub.formats.registry_file import Score

    scores: dict[tuple[str, ...], dict[int, float]] = {}
    measured = set()
    for number, row in enumerate(rows):
        for score in map(Score.model_validate, row.get("scores", [])):
            if (score.metric, score.data) == (metric, data):
                measured.add(number)
                if score.way is not None:
                    scores.setdefault(score.way, {})[number] = score.value
    best = max(scores.values(), key=len, default={})
    if left := measured - best.keys():
        echo_note(
            f"{counted(len(left), 'version')} with a {metric.upper()} on {data} not sorted by it: measured "
            "in another way than the rest, on other recordings or another split, or on training data"
        )
    order = sorted(range(len(rows)), key=lambda number: (number not in best, best.get(number, 0.0)))
    return [rows[number] for number in order]


def _cells(row: dict[str, Any], names: dict[str, str], data: str | None) -> list[Any]:
    from adapter_hub.formats.registry_file import Score, unreadable_ref

    if "digest" not in row:  # an entry that cannot be read
        return [unreadable_ref(row["name"], row["version"]), *[None] * 6, row["status"]]
    scores = [score for score in row.get("scores", []) if data in (None, score["data"])]
    scores = [score for score in scores if Score.model_validate(score).way is not None]
    scores = [score for score in scores if score["split"] == "test"] or scores
    parents = [  # of a pair, seed and expert are often one
        *dict.fromkeys(
            names.get(parent["digest"], parent["digest"][7:19]) for parent in row.get("parents", [])
        )
    ]
    return [
        f"{row['name']}@{row['version']}",
        ",".join(row["languages"]),
        row["method"],
        row["rank"],
        ",".join(parents),
        _score_text(scores),
        size_text(row["size"]),
        row["status"],
    ]


def _score_text(scores: list[dict[str, Any]]) -> str | None:
    """Return the best score on one data set; of several sets, which do not compare, from best to worst."""
    sets: dict[str, list[float]] = {}
    for score in scores:
        sets.setdefault(score["data"], []).append(100 * float(score["value"]))
    if not sets:
        return None
    metrics = "/".join(sorted({score["metric"].upper() for score in scores}, reverse=True))
    best = [min(values) for values in sets.values()]
    if len(best) == 1:
        return f"{metrics} {best[0]:.1f} %"
    return f"{metrics} {min(best):.1f} to {max(best):.1f} % ({len(best)} sets)"
