"""`audit`: every promise checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapter_hub.cli.terminal.arguments import PATH, PLACE, json_option
from adapter_hub.cli.terminal.echo import echo_json, echo_line, echo_note, echo_warning, json_text
from adapter_hub.cli.terminal.findings import echo_findings
from adapter_hub.cli.terminal.global_options import GlobalOptions
from adapter_hub.cli.terminal.tables import counted
from adapter_hub.cli.terminal.version_lookup import open_ref

if TYPE_CHECKING:
    from adapter_hub.artifact.folder import Artifact
    from adapter_hub.audit import AuditRecord
    from adapter_hub.exchange import Places
    from adapter_hub.formats.claims import EvaluationReport, Finding
    from adapter_hub.formats.manifest import BaseModelPin
    from adapter_hub.model.base_model import BaseModel

    Load = Callable[[BaseModelPin], BaseModel]

REPORT_FORMS = (".html", ".md", ".json")


@click.command()
@click.argument("refs", metavar="[REF]...", type=PLACE, nargs=-1)
@click.option("--explain", metavar="CODE", help="Print what the code of a finding means, and exit.")
@click.option(
    "--probe",
    is_flag=True,
    help="Also run the models, compare the outputs with the published ones, and compute averages and the "
    "errors of extracted adapters again.",
)
@click.option(
    "--base-model",
    "base_models",
    metavar="ID|FOLDER",
    type=PLACE,
    multiple=True,
    help="A base model to check against, besides the embedded one; may be repeated.",
)
@click.option(
    "--report",
    metavar="FILE",
    type=PATH,
    help="Also write all that was checked, with evidence, lineage, licences and scores: .html, .md or .json.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings, too.")
@json_option
@click.pass_obj
def audit(
    options: GlobalOptions,
    refs: tuple[str, ...],
    explain: str | None,
    probe: bool,
    base_models: tuple[str, ...],
    report: Path | None,
    strict: bool,
    as_json: bool,
) -> int:
    """Check adapters: digests, files, weights, lineage, base model, scores and licences.

    Without REF, everything in the registries is checked; of the adapters on the Hub, those that were pulled.
    One that is named is fetched first. Exits with 1 if there is an error. The file of --report stands alone:
    it loads nothing, and says of every check whether it passed, what it found, or why it was not made.
    """
    from adapter_hub.audit import AuditRecord
    from adapter_hub.audit import audit as find
    from adapter_hub.base_model.finding import find_base_model
    from adapter_hub.base_model.naming import id_in

    if explain:
        _explain(explain, as_json)
        return 0
    record = AuditRecord() if _check_report_place(report) else None
    folders = {
        id_in(name) or name: find_base_model(name, cache=options.cache_folder)[0] for name in base_models
    }
    plain, places = _fetched(options, refs)
    base_model_of = _loader(options, folders)
    findings = find(
        plain,
        places,
        base_models=folders,
        probe=partial(_probed, base_model_of) if probe else None,
        recount=_recount if find_spec("jiwer") else None,
        recompute=partial(_recomputed, base_model_of) if probe else None,
        record=record,
    )
    if record is not None and report is not None:
        _write_report(report, record)
    if as_json:
        echo_json([finding.to_json() for finding in findings])
    else:
        _print(findings)
    grave = {"error", "warning"} if strict else {"error"}
    return 1 if any(finding.severity in grave for finding in findings) else 0


def _fetched(options: GlobalOptions, refs: tuple[str, ...]) -> tuple[list[str], Places]:
    """Fetch what is named and on the Hub into the cache; return references and the places that know them.

    What cannot be fetched (withdrawn, quarantined) is left to the checks; what cannot be reached is said.
    """
    from adapter_hub.errors import AccessError, AdapterHubError, UnreachableError
    from adapter_hub.formats.reference import AdapterRef, is_hub, parse_source
    from adapter_hub.registry.resolution import look_up

    places, plain = options.opened(), []
    for text in refs:
        source = parse_source(text)
        if isinstance(source, Path):
            plain.append(text)
            continue
        ref, places = open_ref(source, places)
        plain.append(str(ref))
        found = look_up(ref, places.registries())
        if any(is_hub(location.store) for location in found.block.locations):
            from adapter_hub.exchange import pull

            exact = AdapterRef(found.name, found.version)
            try:
                pull(exact, replace(places, tell=None), allow_quarantined=found.block.digest)
            except (UnreachableError, AccessError) as error:
                echo_warning(f"{exact}: not reachable, not checked from the bytes up: {error}")
            except AdapterHubError:
                continue
    return plain, places


def _check_report_place(report: Path | None) -> bool:
    """Tell whether a report is wanted, and refuse a place that it cannot be written to.

    Args:
        report: the file; None for none.

    Raises:
        InvalidInputError: its name does not say in which form.
    """
    from adapter_hub.errors import InvalidInputError
    from adapter_hub.files.writing import check_writable

    if report is None:
        return False
    if report.suffix.lower() not in REPORT_FORMS:
        raise InvalidInputError(f"--report {report}: expected a name that ends in {', '.join(REPORT_FORMS)}")
    check_writable(report)
    return True


def _write_report(report: Path, record: AuditRecord) -> None:
    from adapter_hub.cards.audit_report import render_audit
    from adapter_hub.files.writing import write_atomically

    known, form = record.to_json(), report.suffix.lower()
    text = json_text(known) if form == ".json" else render_audit(known, "html" if form == ".html" else "md")
    write_atomically(report, text.encode())
    echo_note(f"report in {report}")


def _print(findings: list[Finding]) -> None:
    echo_findings(findings)
    counts = Counter(finding.severity for finding in findings)
    numbers = [f"{n} info" if kind == "info" else counted(n, kind) for kind, n in counts.items()]
    echo_note(f"audit: {', '.join(numbers) or 'nothing found'}")


def _explain(code: str, as_json: bool) -> None:
    from adapter_hub.audit import EXPLANATIONS
    from adapter_hub.errors import NotFoundError

    if code not in EXPLANATIONS:
        raise NotFoundError(
            f"no check has the code {code!r}; the codes are {', '.join(sorted(EXPLANATIONS))}"
        )
    if as_json:
        echo_json({"code": code, "explanation": EXPLANATIONS[code]})
    else:
        echo_line(f"{code}: {EXPLANATIONS[code]}")


def _recount(report: EvaluationReport) -> Iterator[str]:
    from adapter_hub.evaluation.scoring import recount

    return recount(report)


def _loader(options: GlobalOptions, folders: dict[str, Path]) -> Load:
    """Return a function that loads the base model of a pin, each once."""
    loaded: dict[str, BaseModel] = {}

    def load(pin: BaseModelPin) -> BaseModel:
        from adapter_hub.base_model.digest import stamped_digest
        from adapter_hub.model.base_model import load_base_model, load_pinned_base_model

        if pin.digest not in loaded:
            cache = options.cache_folder
            named = {stamped_digest(folder, cache): folder for folder in folders.values()}
            loaded[pin.digest] = (
                load_base_model(named[pin.digest], device=options.device, cache=cache)
                if pin.digest in named
                else load_pinned_base_model(pin, device=options.device, cache=cache)
            )
        return loaded[pin.digest]

    return load


def _probed(load: Load, artifact: Artifact) -> Iterator[str]:
    """Run base model and adapter on the manifest's probe, and yield how they differ from it."""
    from adapter_hub.decoding.probe import check_probe
    from adapter_hub.errors import AdapterHubError, OutOfMemoryError
    from adapter_hub.model.loading import load_adapter
    from adapter_hub.model.memory import memory_guard

    probe = artifact.manifest.probe
    if probe is None:
        return
    try:
        base = load(artifact.manifest.base_model)
        with memory_guard(f"{artifact.ref} on {base.device}"):
            check_probe(base, load_adapter(base, artifact), probe)
    except OutOfMemoryError:
        raise  # says nothing about the artifact
    except AdapterHubError as error:
        yield str(error)


def _recomputed(load: Load, artifact: Artifact, sources: Sequence[Artifact | Path]) -> Iterator[str]:
    """Compute an average from its components, or measure an extracted adapter's errors; yield differences."""
    from adapter_hub.errors import AdapterHubError, OutOfMemoryError
    from adapter_hub.model.memory import memory_guard
    from adapter_hub.trainers.averaging.extracting import extraction_differences
    from adapter_hub.trainers.averaging.recomputing import differences
    from adapter_hub.trainers.averaging.updates import Component

    parents = [source for source in sources if not isinstance(source, Path)]
    weights = [parent.weight or 0.0 for parent in artifact.manifest.parents]
    components = [Component(parent, weight) for parent, weight in zip(parents, weights, strict=True)]
    try:
        base = load(artifact.manifest.base_model)
        with memory_guard(f"{artifact.ref} on {base.device}"):
            for folder in sources:
                if isinstance(folder, Path):
                    yield from extraction_differences(base, artifact, folder)
            if components:
                yield from differences(base, artifact, components)
    except OutOfMemoryError:
        raise  # says nothing about the artifact
    except AdapterHubError as error:
        yield str(error)
