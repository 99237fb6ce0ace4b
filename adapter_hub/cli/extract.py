"""`extract`: a full fine-tune made an adapter."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapter_hub.cli.terminal.arguments import PLACE, json_option
from adapter_hub.cli.terminal.data_options import data_options, open_data
from adapter_hub.cli.terminal.decoding_options import decoding_options
from adapter_hub.cli.terminal.echo import echo_json, echo_line, echo_note, echo_text
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.progress import Bar, DownloadBar
from adapter_hub.cli.terminal.tables import table
from adapter_hub.cli.terminal.training_options import out_artifact_option, trained_for_options
from adapter_hub.errors import InvalidInputError
from adapter_hub.files.writing import write_atomically

if TYPE_CHECKING:
    from adapter_hub.data.dataset import Dataset
    from adapter_hub.formats.claims import EvaluationReport
    from adapter_hub.reporting import Progress
    from adapter_hub.trainers.averaging.extracting import Extraction

WORST = 5  # tensors with the largest change that is lost


@click.command()
@click.argument("source", metavar="SOURCE", type=PLACE)
@click.option(
    "--base-model",
    metavar="ID|FOLDER",
    type=PLACE,
    required=True,
    help="What it was trained from; ID=FOLDER says which model a folder holds.",
)
@click.option("--rank", type=int, help="Rank of every module at most.")
@click.option("--energy", type=float, metavar="SHARE", help="Keep this share of each change, like 0.9.")
@click.option("--as", "as_ref", metavar="NAME@VERSION", required=True, help="What to call the adapter.")
@click.option(
    "--language",
    "languages",
    metavar="TAG",
    multiple=True,
    required=True,
    help="BCP 47 tag of what it transcribes; may be repeated.",
)
@click.option("--license", "licence", metavar="SPDX", required=True, help="SPDX identifier of its licence.")
@trained_for_options
@out_artifact_option
@data_options(required=False, meaning="Evaluate the full model and the adapter on this data, see `evaluate`.")
@decoding_options("beams", "batch_size")
@json_option
@click.pass_obj
def extract(
    options: GlobalOptions,
    /,
    source: str,
    base_model: str,
    rank: int | None,
    energy: float | None,
    as_ref: str,
    languages: tuple[str, ...],
    licence: str,
    authors: tuple[str, ...],
    task: str,
    timestamps: bool,
    out: Path,
    data: str | None,
    split: str | None,
    config: str | None,
    text_column: str,
    audio_column: str,
    as_json: bool,
    **decoding: Any,
) -> None:
    """Turn a full fine-tune into an adapter, as near as a LoRA can be.

    SOURCE is a folder, or hf://namespace/name@revision. Give --rank or --energy. The change of every linear
    is cut to its largest singular values; the change of norms, biases, embeddings and convolutions is
    lost. Both losses are printed and recorded, and the error of the logits on the probe.

    With --data the error rates of both are printed, and their reports are written beside the adapter:
    OUT-reports/full-model.json and OUT-reports/adapter.json, for `compare`.
    """
    from adapter_hub.base_model.finding import find_base_model
    from adapter_hub.exchange.importing import Identity, decode_languages_of, languages_of
    from adapter_hub.formats.reference import BASE_MODEL, AdapterRef
    from adapter_hub.trainers.averaging.extracting import ExtractionOptions
    from adapter_hub.trainers.averaging.extracting import extract as run

    ref = AdapterRef.parse(as_ref)
    if ref.version is None:
        raise InvalidInputError(f"--as {as_ref}: expected NAME@VERSION, like {ref.name}@1.0.0")
    columns = {"config": config, "text_column": text_column, "audio_column": audio_column}
    dataset = None if data is None else open_data(options, data, split, **columns)
    folder, origin = _found(source, options)
    identity = Identity(
        name=ref.name,
        version=ref.version,
        languages=languages_of(
            languages, known=decode_languages_of(find_base_model(base_model, cache=options.cache_folder)[0])
        ),
        license=licence,
        authors=authors,
        task=task,
        timestamps=timestamps,
        source=origin,
    )
    wanted = ExtractionOptions(rank, energy, options.device, options.cache_folder)
    made, found = run(base_model, folder, out, identity, wanted, _progress())
    if not as_json:
        echo_line(f"{made.ref} {made.digest} in {out}")
        _show(found)
    told: dict[str, Any] = {"ref": made.ref, "digest": made.digest, "path": str(made.path)}
    section = found.section.to_json()
    told["full_model"] = {key: section.pop(key) for key in ("name", "version", "digest") if key in section}
    told |= section | {"other_generation": found.other_generation}
    if dataset is not None:
        language = languages[0] if len(languages) == 1 else None
        models = {"full-model": (BASE_MODEL, str(folder)), "adapter": (str(out.resolve()), base_model)}
        reports = {
            name: _evaluated(options, (*model, language), dataset, decoding) for name, model in models.items()
        }
        for name, report in reports.items():
            write_atomically(out.with_name(f"{out.name}-reports") / f"{name}.json", report.to_bytes())
        told["evaluations"] = _compared(reports, as_json=as_json)
    if as_json:
        echo_json(told)
    if found.other_generation:
        echo_note(f"{source} generates by other settings; the adapter runs by the base model's")
    echo_note(f"next: adapter-hub publish {out}")


def _evaluated(
    options: GlobalOptions, model: tuple[str, str, str | None], dataset: Dataset, decoding: dict[str, Any]
) -> EvaluationReport:
    """Return the report on a model, which is named by its reference, its base model and its language."""
    from adapter_hub.evaluation.evaluating import EvaluationOptions, evaluate

    ref, base, language = model
    transcriber = options.load(ref, base_model=base, language=language)
    bar = Bar("evaluating", len(dataset.rows))
    report = evaluate(transcriber, dataset, EvaluationOptions(language=language, **decoding), bar.add)
    bar.close()
    return report


def _compared(reports: dict[str, EvaluationReport], *, as_json: bool) -> dict[str, Any]:
    """Print the error rates of full model and adapter, and return them as JSON data."""
    from adapter_hub.evaluation.side_by_side import side_by_side

    both = side_by_side(reports["full-model"], reports["adapter"])
    if not as_json:
        echo_line(
            f"{both.metric.upper()} on {both.data}, {both.utterances} utterances: full model "
            f"{100 * both.before:.1f} %, adapter {100 * both.after:.1f} %, difference "
            f"{100 * (both.after - both.before):+.1f} ({100 * both.low:+.1f} to {100 * both.high:+.1f})"
        )
    return asdict(both)


def _progress() -> Progress:
    bar = Bar("extracting", 0)

    def progress(done: int, of: int) -> None:
        bar.total = of
        bar.at(done)
        if done == of:
            bar.close()

    return progress


def _found(source: str, options: GlobalOptions) -> tuple[Path, str | None]:
    """Return the full model's folder, and its address where it came from the Hub."""
    from adapter_hub.base_model.fetching import fetch_base_model
    from adapter_hub.formats.reference import is_hub
    from adapter_hub.hub import RepoId

    if not is_hub(source):
        return Path(source), None
    address, _, revision = source.partition("@")
    repo = RepoId.parse(address)
    with DownloadBar() as arriving:
        folder, commit = fetch_base_model(
            repo.id, revision or None, cache=options.cache_folder, progress=arriving.add
        )
    return folder, f"{repo}@{commit}"


def _show(found: Extraction) -> None:
    section = found.section
    logits = "" if section.logits_error is None else f", {section.logits_error:.4f} of the probe's logits"
    echo_line(
        f"relative error: {section.error:.4f} of the linears' change, {section.largest_error:.4f} of the "
        f"worst one's{logits}"
    )
    if section.left_out:
        worst = sorted(section.left_out.items(), key=lambda item: -item[1])[:WORST]
        echo_line(f"left out: the change of {len(section.left_out)} tensors that no LoRA holds, the largest")
        echo_text(table(["tensor", "relative norm"], [[name, f"{norm:.2e}"] for name, norm in worst]))
