"""`average`: adapters of one base model, or full models, combined into one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapter_hub.cli.terminal.arguments import PATH, PLACE, json_option
from adapter_hub.cli.terminal.echo import echo_json, echo_line, echo_note, echo_text
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.progress import Bar
from adapter_hub.cli.terminal.tables import table
from adapter_hub.cli.terminal.training_options import out_artifact_option

if TYPE_CHECKING:
    from adapter_hub.artifact.folder import Artifact
    from adapter_hub.formats.full_fine_tune import FullFineTune
    from adapter_hub.formats.manifest import AverageSection, Selection
    from adapter_hub.formats.reference import AdapterRef
    from adapter_hub.model.base_model import BaseModel
    from adapter_hub.trainers.averaging.updates import CombinedUpdate, Component

METHODS = (  # written out, so that --help starts without torch; a test compares them with the table
    "mean",
    "greedy",
    "task-arithmetic",
    "ties",
    "dare-linear",
    "dare-ties",
    "most-extreme",
    "least-extreme",
    "tsv",
)
WORST = 5  # modules with the largest error that are listed


@click.command()
@click.argument("refs", metavar="REF...", type=PLACE, nargs=-1, required=True)
@click.option(
    "--weights",
    metavar="W,W,...",
    help="Relative weights in the order of REF..., like 4,1,1,1. Default: equal.",
)
@click.option(
    "--with-base-model",
    type=float,
    is_flag=False,
    flag_value=1.0,
    metavar="[W]",
    help="Give the base model itself a relative weight, 1 if none is named.",
)
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="mean",
    show_default=True,
    help="How updates are combined; greedy averages those that lower the error on --data.",
)
@click.option(
    "--data",
    metavar="FOLDER",
    type=PATH,
    multiple=True,
    help="For greedy: dev data, its split dev or the folder itself. Of several the mean error counts.",
)
@click.option("--language", metavar="TAG", help="For greedy: language of rows that name none.")
@click.option(
    "--density", type=float, default=1.0, show_default=True, help="Share of values that ties and dare keep."
)
@click.option("--scale", type=float, default=1.0, show_default=True, help="Factor of the combined update.")
@click.option(
    "--random-seed", type=int, default=0, show_default=True, help="Decides which values dare drops."
)
@click.option(
    "--rank", type=int, help="Truncate every module to this rank. Default: the sum of the ranks, exact."
)
@click.option(
    "--energy", type=float, metavar="SHARE", help="Keep this share of each module's energy, like 0.99."
)
@click.option(
    "--as-full-model",
    is_flag=True,
    help="Write the base model with the whole update added, whatever its rank, instead of a LoRA.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    help="Precision of the weights that are written. Default: float32; of models, their own.",
)
@click.option("--as", "as_ref", metavar="NAME@VERSION", required=True, help="What to call the average.")
@out_artifact_option
@click.option(
    "--base-model",
    metavar="ID|FOLDER",
    type=PLACE,
    help="A copy of the base model; ID=FOLDER names it. Default: the adapters' own; models need it for its "
    "share.",
)
@json_option
@click.pass_obj
def average(
    options: GlobalOptions, /, refs: tuple[str, ...], out: Path, as_ref: str, as_json: bool, **given: Any
) -> None:
    """Average adapters of one base model into one ordinary LoRA, or full models into one model.

    REF... are adapters, or all of them folders of models: full fine-tunes of one model, averaged tensor by
    tensor.

    Updates are averaged, never the factors A and B: the result is exactly the average of the merged models,
    with the sum of the components' ranks unless --rank or --energy truncates it. The relative error of a
    truncation is printed and recorded.

    With --method greedy, components are tried in the order of their own error on dev data, and each is kept
    only if the average has a lower error with it; the record says which were kept. With --as-full-model the
    outcome is a model folder with its record, as of averaged models.
    """
    from adapter_hub.formats.reference import AdapterRef

    if bool(given["data"]) != (given["method"] == "greedy"):
        raise click.UsageError("--method greedy chooses by the error on --data FOLDER: name both or neither")
    ref, folders = AdapterRef.parse(as_ref), [Path(text) for text in refs if _is_model(Path(text))]
    if folders and len(folders) < len(refs):
        other = next(text for text in refs if Path(text) not in folders)
        raise click.UsageError(f"{folders[0]} is a model and {other} is not; average one kind at a time")
    if folders:
        _average_models(options, folders, ref, out, as_json, given)
    else:
        _average_adapters(options, refs, ref, out, as_json, given)


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() and not (folder / "adapter.json").is_file()


def _average_models(
    options: GlobalOptions,
    folders: Sequence[Path],
    ref: AdapterRef,
    out: Path,
    as_json: bool,
    given: dict[str, Any],
) -> None:
    from adapter_hub.trainers.averaging.full_models import ModelAverageOptions, ModelComponent
    from adapter_hub.trainers.averaging.methods import MethodOptions, shares
    from adapter_hub.trainers.averaging.model_record import average_full_models

    if given["method"] == "greedy":
        raise click.UsageError("--method greedy chooses among adapters, not among full models")
    if given["as_full_model"]:
        raise click.UsageError("--as-full-model is for adapters; the average of models is a model anyway")
    _refuse_truncation(given)
    weights = shares(given["weights"], len(folders), given["with_base_model"] or 0.0)
    bar = Bar("averaging", 0)

    def progress(done: int, of: int) -> None:
        bar.total = of
        bar.at(done)

    made = average_full_models(
        [ModelComponent(folder, weight) for folder, weight in zip(folders, weights, strict=True)],
        ref,
        out,
        base_model=given["base_model"],
        cache=options.cache_folder,
        options=ModelAverageOptions(
            given["method"],
            MethodOptions(given["density"], given["scale"], given["random_seed"]),
            given["precision"],
        ),
        progress=progress,
    )
    bar.close()
    _show_model(made, list(zip(map(str, folders), weights, strict=True)), out, as_json)


def _show_model(
    made: FullFineTune, components: Sequence[tuple[str, float]], out: Path, as_json: bool
) -> None:
    """Print what a full model was averaged from."""
    if as_json:
        echo_json(made.to_json())
    else:
        echo_line(f"{made.ref} {made.digest} in {out}")
        rows = [[name, f"{weight:.4g}"] for name, weight in components]
        if (rest := 1.0 - sum(weight for _, weight in components)) > 1e-9:
            rows.append(["base model", f"{rest:.4g}"])
        echo_text(table(["component", "weight"], rows))
        if made.average is not None:
            _show_selection(made.average)
    echo_note(f"next: adapter-hub evaluate base-model --data FOLDER --base-model {out}")


def _refuse_truncation(given: dict[str, Any]) -> None:
    for option in ("rank", "energy"):
        if given[option] is not None:
            raise click.UsageError(f"--{option} truncates adapters; a model keeps every weight")


def _average_adapters(
    options: GlobalOptions,
    refs: Sequence[str],
    ref: AdapterRef,
    out: Path,
    as_json: bool,
    given: dict[str, Any],
) -> None:
    from adapter_hub.exchange import pull
    from adapter_hub.model.base_model import load_base_model, load_pinned_base_model
    from adapter_hub.trainers.averaging.adapters import average as run
    from adapter_hub.trainers.averaging.methods import MethodOptions, shares
    from adapter_hub.trainers.averaging.model_record import average_as_full_model
    from adapter_hub.trainers.averaging.updates import AverageOptions, Component

    if given["as_full_model"]:
        _refuse_truncation(given)
    artifacts, cache = [pull(ref, options) for ref in refs], options.cache_folder
    weights = shares(given["weights"], len(refs), given["with_base_model"] or 0.0)
    wanted = AverageOptions(
        method=given["method"],
        parameters=MethodOptions(given["density"], given["scale"], given["random_seed"]),
        rank=given["rank"],
        energy=given["energy"],
        dtype=given["precision"] or "float32",
    )
    base = (
        load_base_model(given["base_model"], device=options.device, cache=cache)
        if given["base_model"]
        else load_pinned_base_model(artifacts[0].manifest.base_model, device=options.device, cache=cache)
    )
    components = [Component(artifact, weight) for artifact, weight in zip(artifacts, weights, strict=True)]
    if wanted.method == "greedy":
        components, selection = _chosen(base, components, ref, out, given)
        wanted = replace(wanted, selection=selection)
    bar = Bar("averaging", 0)

    def progress(done: int, of: int) -> None:
        bar.total = of
        bar.at(done)

    if given["as_full_model"]:
        model = average_as_full_model(
            base, components, out, ref, wanted, dtype=given["precision"], progress=progress
        )
        bar.close()
        _show_model(model, [(c.artifact.manifest.ref, c.weight) for c in components], out, as_json)
        return
    made, update = run(base, components, out, ref, wanted, progress)
    bar.close()
    if as_json:
        echo_json(made.manifest.to_json())
    else:
        _show(made, update, out)
    echo_note(f"next: adapter-hub publish {out}")


def _chosen(
    base: BaseModel, components: Sequence[Component], ref: AdapterRef, out: Path, given: dict[str, Any]
) -> tuple[list[Component], Selection]:
    """Return the components that dev data choose, and the record of it."""
    from adapter_hub.data.dataset import holds_rows, read_dataset
    from adapter_hub.errors import ConflictError
    from adapter_hub.trainers.averaging.greedy import choose

    if out.exists():  # before the minutes that it takes
        raise ConflictError(f"{out}: already exists; choose another --out or remove it")
    single = [folder.is_file() or holds_rows(folder) for folder in given["data"]]
    dev = [
        read_dataset(folder, None if alone else "dev")
        for folder, alone in zip(given["data"], single, strict=True)
    ]
    rest = max(0.0, 1.0 - math.fsum(component.weight for component in components))
    return choose(base, components, dev, ref, language=given["language"], base_model=rest, tell=echo_note)


def _show(made: Artifact, update: CombinedUpdate, out: Path) -> None:
    echo_line(f"{made.ref} {made.digest} in {out}")
    rows: list[list[str | None]] = [
        [parent.name, parent.version, f"{parent.weight:.4g}"]
        for parent in made.manifest.parents
        if parent.weight
    ]
    rest = 1.0 - sum(parent.weight or 0.0 for parent in made.manifest.parents)
    if rest > 1e-9:
        rows.append(["base model", None, f"{rest:.4g}"])
    echo_text(table(["component", "version", "weight"], rows))
    if made.manifest.average is not None:
        _show_selection(made.manifest.average)
    if update.error:
        echo_line(
            f"truncated to rank {made.manifest.rank}: relative error {update.error:.4f}, "
            f"largest {update.largest_error:.4f}"
        )
        worst = sorted(update.modules, key=lambda module: -module.error)[:WORST]
        echo_text(
            table(
                ["module", "rank", "error"], [[m.path, str(m.factors.rank), f"{m.error:.4f}"] for m in worst]
            )
        )


def _show_selection(section: AverageSection) -> None:
    """Print which components a greedy average kept and dropped, with their errors."""
    if section.selection is None:
        return
    rows: list[list[str | None]] = [
        [
            f"{item.name}@{item.version}",
            f"{100 * item.error:.2f}",
            None if item.error_with is None else f"{100 * item.error_with:.2f}",
            "kept" if item.kept else "dropped",
        ]
        for item in section.selection.tried
    ]
    echo_text(table(["tried", "own error %", "error with it %", ""], rows))
