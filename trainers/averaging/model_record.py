"""An average of full models, or of adapters, as a full model with the record of where it comes from.

average_full_models(
    [ModelComponent(Path("out/a"), 0.5), ModelComponent(Path("out/b"), 0.5)],
    AdapterRef.parse("me/average@1.0.0"),
    Path("out/average"),
)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from adapter_hub.base_model.digest import base_model_digest
from adapter_hub.base_model.finding import find_base_model
from adapter_hub.errors import InvalidInputError
from adapter_hub.exchange.importing import base_model_pin
from adapter_hub.formats.canonical import canonical_bytes
from adapter_hub.formats.full_fine_tune import FULL_FINE_TUNE_FILE, SCHEMA, FullFineTune, ModelParent
from adapter_hub.formats.manifest import AverageSection, BaseModelPin, Manifest, joint_license
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.formats.times import utc_now
from adapter_hub.model.base_model import BaseModel
from adapter_hub.reporting import Progress
from adapter_hub.trainers.averaging.adapters import check_components
from adapter_hub.trainers.averaging.factors import Factors
from adapter_hub.trainers.averaging.full_models import (
    ModelAverageOptions,
    ModelComponent,
    average_models,
    write_changed,
)
from adapter_hub.trainers.averaging.methods import check_weights, method_named
from adapter_hub.trainers.averaging.recomputing import average_section
from adapter_hub.trainers.averaging.updates import AverageOptions, CombinedUpdate, Component, whole_updates

UNKNOWN_LICENSE = "NOASSERTION"  # SPDX's word where a component has no record


def average_full_models(
    components: Sequence[ModelComponent],
    ref: AdapterRef,
    out: Path,
    *,
    base_model: str | Path | None = None,
    options: ModelAverageOptions | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> FullFineTune:
    """Write the average of models, and its record with the digest and weight of every one.

    Args:
        components: folders of models, full fine-tunes or others.
        ref: what to call the average, with a version.
        out: a folder that does not exist yet.
        base_model: what they were fine-tuned from, as `find_base_model` takes it; see `average_models`.
        options: how they are combined.
        cache: the cache's folder, which knows base models of the Hub; the user's by default.
        progress: called with the tensors that are done and their number.

    Raises:
        InvalidInputError: models that cannot be averaged, or that were fine-tuned from different models.
        ConflictError: `out` exists. NotFoundError: no model in a folder.
    """
    options = options or ModelAverageOptions()
    if not ref.version:
        raise InvalidInputError(f"{ref}: expected a name with a version, like me/average@1.0.0")
    records = [record_of(component.folder) for component in components]
    known = [record for record in records if record is not None]
    fields = _fields(known, complete=len(known) == len(records)) | {
        "schema": SCHEMA,
        "name": ref.name,
        "version": ref.version,
        "parents": [
            _parent(component, record) for component, record in zip(components, records, strict=True)
        ],
        "average": _section(options).to_json(),
    }
    start = None if base_model is None else find_base_model(base_model, cache=cache)[0]
    own = None if base_model is None or start is None else base_model_pin(start, str(base_model), cache=cache)
    if (pin := _pin(components, records, own)) is not None:
        fields["base_model"] = pin.to_json()

    average_models(
        components,
        out=out,
        base_model=start,
        options=options,
        progress=progress,
        describe=_describer(fields),
    )
    return FullFineTune.read(out)


def average_as_full_model(
    base: BaseModel,
    components: Sequence[Component],
    out: Path,
    ref: AdapterRef,
    options: AverageOptions,
    *,
    dtype: str | None = None,
    progress: Progress | None = None,
) -> FullFineTune:
    """Write the base model with the average of adapters added to its weights, and the record of them.

    Nothing is truncated: it is the form for methods whose result has no low rank, like `ties`.

    Args:
        base: the components' base model, in float32.
        components: with their weights.
        out: a folder that does not exist yet.
        ref: what to call the model, with a version.
        options: how they are combined, without rank and energy; its dtype is that of adapters.
        dtype: of the weights that are written; None keeps the base model's.
        progress: called with the tensors that are done and their number.

    Raises:
        InvalidInputError: adapters that cannot be averaged, or a truncation. ConflictError: `out` exists.
    """
    options.check()
    if options.rank is not None or options.energy is not None:
        raise InvalidInputError("average: a full model holds the whole update; leave out --rank and --energy")
    check_components(base, components, ref)
    check_weights({component.artifact.manifest.ref: component.weight for component in components})
    manifests = [component.artifact.manifest for component in components]
    fields = _fields(manifests, complete=True) | {
        "schema": SCHEMA,
        "name": ref.name,
        "version": ref.version,
        "base_model": manifests[0].base_model.to_json(),
        "parents": [
            ModelParent(
                kind="adapter",
                name=component.artifact.manifest.name,
                version=component.artifact.manifest.version,
                digest=component.artifact.digest,
                weight=component.weight,
            ).to_json()
            for component in components
        ],
        "average": average_section(options, CombinedUpdate(())).to_json(),
    }
    wholes = whole_updates(base, components, options)
    changes = ((f"{path}.weight", w.dense() if isinstance(w, Factors) else w) for path, w, _ in wholes)
    write_changed(base.folder, changes, out, dtype=dtype, progress=progress, describe=_describer(fields))
    return FullFineTune.read(out)


def _describer(fields: dict[str, Any]) -> Callable[[Path], None]:
    """Return what writes a record beside a model that is whole."""

    def describe(folder: Path) -> None:
        made = {"created": utc_now(), "digest": base_model_digest(folder)}
        (folder / FULL_FINE_TUNE_FILE).write_bytes(canonical_bytes(fields | made))

    return describe


def record_of(folder: Path, digest: str | None = None) -> FullFineTune | None:
    """Return a model's record, unless it has none.

    Args:
        folder: of the model.
        digest: of the model in it, where it is known; computing it reads every weight.

    Raises:
        InvalidInputError: the record is not sound, or is of another model.
    """
    if not (folder / FULL_FINE_TUNE_FILE).is_file():
        return None
    record = FullFineTune.read(folder)
    if (digest or base_model_digest(folder)) != record.digest:
        raise InvalidInputError(
            f"{folder}: its files are not those that {FULL_FINE_TUNE_FILE} describes; remove that record to "
            "use the model anyway"
        )
    return record


def _pin(
    components: Sequence[ModelComponent], records: Sequence[FullFineTune | None], own: BaseModelPin | None
) -> BaseModelPin | None:
    """Return what the models were fine-tuned from, as their records or the user say."""
    pins = {
        str(component.folder): record.base_model
        for component, record in zip(components, records, strict=True)
        if record is not None and record.base_model is not None
    }
    if own is not None:
        # a later iteration starts from an average: its own start is not the model that shares are left to
        return next((pin for pin in pins.values() if pin.digest == own.digest), own)
    digests = {pin.digest for pin in pins.values()}
    if len(digests) > 1:
        starts = ", ".join(f"{folder} from {pin.id}" for folder, pin in pins.items())
        raise InvalidInputError(
            f"average: fine-tuned from different models ({starts}); name the common one with --base-model"
        )
    return next(iter(pins.values()), None)


def _parent(component: ModelComponent, record: FullFineTune | None) -> dict[str, Any]:
    named = {} if record is None else {"name": record.name, "version": record.version}
    digest = base_model_digest(component.folder) if record is None else record.digest
    return ModelParent.model_validate(named | {"digest": digest, "weight": component.weight}).to_json()


def _fields(records: Sequence[FullFineTune | Manifest], *, complete: bool) -> dict[str, Any]:
    """Return what an average has of its components' records."""
    licenses = {record.license for record in records} | (set() if complete else {UNKNOWN_LICENSE})
    tasks = {(record.task, record.timestamps) for record in records} or {("transcribe", False)}
    if len(tasks) > 1:
        raise InvalidInputError("average: components of different tasks; average those of one task")
    task, timestamps = tasks.pop()
    sources = {canonical_bytes(source.to_json()): source for record in records for source in record.data}
    return {
        "authors": list(dict.fromkeys(author for record in records for author in record.authors)),
        "license": joint_license(licenses),
        "task": task,
        "timestamps": timestamps,
        "decode_languages": sorted({code for record in records for code in _decoded(record)}),
        "data": [source.to_json() for source in sources.values()],
    }


def _decoded(record: FullFineTune | Manifest) -> Sequence[str]:
    if isinstance(record, FullFineTune):
        return record.decode_languages
    return [language.decode_language for language in record.languages]


def _section(options: ModelAverageOptions) -> AverageSection:
    given = {name: getattr(options.parameters, name) for name in method_named(options.method).options}
    return AverageSection(method=options.method, error=0.0, largest_error=0.0, **given)
