"""What is not known about an adapter, and who may use it."""

from __future__ import annotations

from collections.abc import Iterator

from adapter_hub.audit.checks import Subject, check, no_probe
from adapter_hub.formats.canonical import hex_of
from adapter_hub.formats.licences import NO_LICENCE


@check("provenance-unknown", "info", hint="train it here from a recipe to know")
def provenance_unknown(subject: Subject) -> Iterator[str]:
    """The adapter was trained elsewhere and imported: parents, data and training are unknown."""
    if subject.manifest.method == "imported":
        section = subject.manifest.extraction
        origin = "imported"
        if section is not None:
            own = f" {section.name}@{section.version}" if section.name else ""
            origin = f"taken out of a full model{own} ({hex_of(section.digest)[:12]}…)"
        origin += f" from {subject.manifest.source}" if subject.manifest.source else ""
        if named := subject.manifest.named_base_model:
            origin += f" for {subject.manifest.base_model.id}, while its own config names {named}"
        yield f"{origin}: its data, its parents and its training are unknown"


@check("licence-missing", "warning", hint="ask the author; publish a MINOR version that states it")
def licence_missing(subject: Subject) -> Iterator[str]:
    """The manifest names no licence, so it is not known whether the adapter may be used."""
    if subject.manifest.license in NO_LICENCE:
        yield f"licence {subject.manifest.license}"


@check("data-licence-missing", "info", hint="state `license` in the recipe's data section")
def data_licence_missing(subject: Subject) -> Iterator[str]:
    """A data set that the adapter was trained on is recorded without its licence."""
    for source in subject.manifest.data:
        if source.license is None:
            yield f"data set {source.id} ({source.split}) without a licence"


@check("code-changed", "info", hint="commit, then train again, if it has to be reproducible")
def code_changed(subject: Subject) -> Iterator[str]:
    """The adapter was trained by code with uncommitted changes, so the revision does not name the code."""
    training = subject.manifest.training
    if training and training.dirty:
        yield f"trained on {training.code_revision or 'an unknown revision'} with uncommitted changes"


@check(
    "probe-differs",
    "error",
    needs="bytes",
    hint="base model or weights are not those that were published",
    idle=no_probe,
)
def probe_differs(subject: Subject) -> Iterator[str]:
    """Base model and adapter do not answer the fixed input as the manifest records.

    Runs the model, so only with --probe. It is the proof that the adapter has an effect, and which.
    """
    if subject.artifact is not None and subject.probe is not None:
        yield from subject.probe(subject.artifact)


@check("probe-missing", "info", hint="artifacts made by `train` hold one", idle=no_probe)
def probe_missing(subject: Subject) -> Iterator[str]:
    """--probe was asked for and the manifest records no probe, so there is nothing to compare with."""
    if subject.probe is not None and subject.manifest.probe is None:
        yield "the manifest records no probe"
