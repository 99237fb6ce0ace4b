"""`compare`: the error rates of models on the same data, and what was forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapter_hub.cli.terminal.arguments import PATH, json_option
from adapter_hub.cli.terminal.echo import echo_error, echo_json, echo_line, echo_text, echo_warning
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.reports import read_report
from adapter_hub.cli.terminal.tables import counted, table
from adapter_hub.errors import AdapterHubError, InvalidInputError

if TYPE_CHECKING:
    from adapter_hub.evaluation.side_by_side import SideBySide
    from adapter_hub.formats.claims import EvaluationReport


@click.command()
@click.argument("files", metavar="REPORT...", type=PATH, nargs=-1, required=True)
@click.option(
    "--attach",
    is_flag=True,
    help="Publish the reports with their adapters, the first model's rates beside and what was forgotten.",
)
@json_option
@click.pass_obj
def compare(options: GlobalOptions, files: tuple[Path, ...], attach: bool, as_json: bool) -> int:
    """Compare models on the same data, from the reports that `evaluate --out` has written.

    All are compared with the model of the first REPORT, usually `base-model`: the difference of their error
    rates on each test set, with a paired 95 % interval. Where a model has a report on every test set of the
    first, its forgetting is shown: the relative increase of the sum of error rates; of an adapter only if
    the first model is its base model. With --attach the card of a published adapter shows both.
    """
    from adapter_hub.formats.claims import few_speakers
    from adapter_hub.isolation import isolated

    failures: list[AdapterHubError] = []
    models: dict[str, list[EvaluationReport]] = {}
    for file in files:
        with isolated(str(file), failures.append):
            report = read_report(file)
            models.setdefault(_model(report), []).append(report)
    found: list[dict[str, Any]] = []
    if len(models) < 2 and not failures:  # a file that cannot be read says why by itself
        failures.append(
            InvalidInputError(
                f"compare: readable reports on {counted(len(models), 'model')}, expected two or more; "
                "give those on the model to compare with first"
            )
        )
    elif len(models) > 1:
        (first, before), *others = models.items()
        for name, after in others:
            known = len(failures)
            with isolated(name, failures.append):
                found.append(_compared(name, before, after, failures))
                if attach and len(failures) == known:
                    _attach(options, before, after)
        for warning in sorted(
            {few_speakers(item["speakers"]) for model in found for item in model["sets"]} - {""}
        ):
            echo_warning(warning)
        if as_json:
            echo_json({"compared_with": first, "models": found})
        else:
            _print(first, found)
    for failure in failures:
        echo_error(failure)
    return 1 if failures else 0


def _model(report: EvaluationReport) -> str:
    subject, base = report.subject, report.base_model_digest
    if subject.name is None:
        return f"base model {base[:19]}"
    return f"{subject.name}@{subject.version}"


def _compared(
    name: str,
    before: Sequence[EvaluationReport],
    after: Sequence[EvaluationReport],
    failures: list[AdapterHubError],
) -> dict[str, Any]:
    """Return what is told about one model; a test set that cannot be compared is a failure of its own."""
    from adapter_hub.evaluation.forgetting import forgetting, is_start_of
    from adapter_hub.evaluation.pairing import name_of
    from adapter_hub.evaluation.side_by_side import side_by_side
    from adapter_hub.isolation import isolated

    start = {report.data_sha256: report for report in before}
    sets: list[SideBySide] = []
    for report in after:
        with isolated(name, failures.append):
            if report.data_sha256 not in start:
                raise InvalidInputError(
                    f"{name}: {name_of(report)} ({report.data_sha256[:12]}) has no report on the "
                    "first model; evaluate that, too"
                )
            sets.append(side_by_side(start[report.data_sha256], report))
    told: dict[str, Any] = {"model": name, "sets": [asdict(item) for item in sets], "forgetting": None}
    common = [report for report in after if report.data_sha256 in start]
    started = is_start_of(before[0], after[0])
    if started and len(sets) == len(common) and start.keys() == {report.data_sha256 for report in common}:
        with isolated(name, failures.append):
            lost = forgetting(before, common)
            told["forgetting"] = lost.to_json() | {"text": str(lost)}
    return told


def _attach(
    options: GlobalOptions, before: Sequence[EvaluationReport], after: Sequence[EvaluationReport]
) -> None:
    """Publish the reports on an adapter with the first model beside, and what was forgotten in each."""
    from adapter_hub.evaluation.besides import with_others
    from adapter_hub.evaluation.forgetting import forgetting, is_start_of, section_of
    from adapter_hub.exchange import attach

    if after[0].subject.name is None:
        raise InvalidInputError(
            f"compare --attach: {_model(after[0])} is no adapter; nothing to publish it with"
        )
    start = {report.data_sha256: report for report in before}
    common = [report for report in after if report.data_sha256 in start]
    update = {}
    if before[0].subject.name is None and is_start_of(before[0], after[0]):
        measured = [start[report.data_sha256] for report in common]
        update["forgetting"] = section_of(forgetting(measured, common), measured, common)
    for report in common:
        attach(with_others(report, [start[report.data_sha256]]).model_copy(update=update), options)


def _print(first: str, found: Sequence[dict[str, Any]]) -> None:
    from adapter_hub.formats.claims import sample_of

    rows = [
        [
            item["data"],
            model["model"],
            f"{item['metric'].upper()} %",
            f"{100 * item['before']:.1f}",
            f"{100 * item['after']:.1f}",
            f"{100 * (item['after'] - item['before']):+.1f}",
            f"{100 * item['low']:+.1f} to {100 * item['high']:+.1f}",
            sample_of(item["unit"], item["utterances"], item["speakers"]),
        ]
        for model in found
        for item in model["sets"]
    ]
    echo_line(f"compared with {first}")
    if rows:
        headings = ["data", "model", "rate", "before", "after", "difference", "95 % interval", "over"]
        echo_text(table(headings, rows))
    for model in found:
        if lost := model["forgetting"]:
            echo_line(f"forgetting of {model['model']} on {', '.join(lost['data'])}: {lost['text']}")
