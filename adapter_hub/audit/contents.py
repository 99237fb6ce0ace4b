"""Is the folder exactly what the manifest lists, and do the weights do what it says? (invariants 2, 5, 8)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from adapter_hub.artifact.contents import contents_problems, kind_problems, listed_paths
from adapter_hub.artifact.effects import NO_EFFECT, Effect, effect_of
from adapter_hub.artifact.peft import WEIGHTS_FILE, read_peft, section_differences, shape_differences
from adapter_hub.artifact.safetensors_file import weights_digest
from adapter_hub.artifact.weights import (
    ROLE_FOLDERS,
    expert_problems,
    gate_problems,
    layout_problems,
    tensor_files,
    value_problems,
)
from adapter_hub.audit.checks import Subject, check, no_base_model
from adapter_hub.errors import AdapterHubError


def _no_pair(subject: Subject) -> str:
    return "" if subject.manifest.method == "expert-pair" else "it is not an expert pair"


def _none_of_its_name(subject: Subject) -> str:
    name = subject.manifest.base_model.id
    return "" if name in subject.base_models else f"no base model that is called {name} was given"


@check("files-differ", "error", needs="files", hint="pull it again; if it stays, the store was tampered with")
def files_differ(subject: Subject) -> Iterator[str]:
    """A listed file is missing or has another size or sha256, or the folder holds a file that is not listed.

    Every file is read and hashed again (invariant 2). Links and special files count as differences:
    they could lead out of the folder.
    """
    yield from contents_problems(subject.folder, subject.manifest.files, kinds=False)


@check("unsafe-file", "error", needs="files", hint="remove the file, never open it")
def unsafe_file(subject: Subject) -> Iterator[str]:
    """The folder holds a file of a kind that an artifact must not have: a pickle, a script, an archive.

    Weights are safetensors, everything else is JSON or text; nothing is ever unpickled or executed
    (invariant 8). PEFT falls back to a pickle if the safetensors file is missing.
    """
    listed = [entry.path for entry in subject.manifest.files]
    yield from map(str, kind_problems(sorted({*listed_paths(subject.folder)[0], *listed})))


@check("layout", "error", needs="bytes", hint="rebuild the artifact with `train` or `import`")
def layout(subject: Subject) -> Iterator[str]:
    """The manifest's method needs a weights file that is not there, or has no place for one that is."""
    yield from layout_problems(subject.manifest)


@check(
    "weights-digest",
    "error",
    needs="bytes",
    hint="quarantine it: manifest and weights do not belong together",
)
def weights_digest_differs(subject: Subject) -> Iterator[str]:
    """The tensors' digest, recomputed, is not the manifest's weights_digest.

    Scores and parents are bound to function_digest, which holds weights_digest, so it has to be the digest
    of these very tensors; that function_digest follows from the rest is checked whenever a manifest is read.
    """
    try:
        found = weights_digest(subject.folder, tensor_files(subject.manifest))
    except AdapterHubError as error:
        yield _without(subject, error)
        return
    if found != subject.manifest.weights_digest:
        yield f"the tensors have {found}, the manifest says {subject.manifest.weights_digest}"


@check(
    "lora-differs",
    "error",
    needs="bytes",
    hint="rebuild the artifact; PEFT would load it wrongly without a word",
)
def lora_differs(subject: Subject) -> Iterator[str]:
    """Tensors, adapter_config.json and the manifest disagree on modules, ranks, scaling, dtype or size.

    PEFT itself loads such an adapter: keys without a module are dropped, missing ones start random.
    """
    for section in subject.manifest.lora:
        place = ROLE_FOLDERS[section.role]
        try:
            adapter = read_peft(subject.folder / place)
        except AdapterHubError as error:
            yield _without(subject, error)
            continue
        yield from (f"{place}{difference}" for difference in section_differences(adapter, section))


@check(
    "pair-differs",
    "error",
    needs="bytes",
    hint="quarantine it: half of it is not what it says; train it again",
    idle=_no_pair,
)
def pair_differs(subject: Subject) -> Iterator[str]:
    """An expert pair's frozen half is not its parent's very own, or its gate does not fit the halves.

    A pair carries its parent, so that pulling is never recursive; the parent is frozen, so its weights
    have the digest of the expert that the manifest names, and its modules the rank and the scaling that
    they have in the expert's own manifest. The gate has one entry for every linear that
    either half adapts, of the manifest's kind.
    """
    if layout_problems(subject.manifest):
        return  # reported by layout
    expert = partial(expert_problems, ancestors=subject.ancestors[0])
    for problems in (expert, gate_problems):
        try:
            yield from problems(subject.folder, subject.manifest)
        except AdapterHubError as error:
            yield _without(subject, error)


@check(
    "weights-not-finite", "error", needs="bytes", hint="train again with a lower learning rate or in float32"
)
def weights_not_finite(subject: Subject) -> Iterator[str]:
    """A tensor holds NaN or infinite values, which would turn every output into NaN."""
    for path in tensor_files(subject.manifest):
        try:
            yield from value_problems(subject.folder, path)
        except AdapterHubError as error:
            yield _without(subject, error)


@check("no-effect", "error", needs="bytes", hint="train it: as it is, the base model answers")
def no_effect(subject: Subject) -> Iterator[str]:
    """Every update B·A is zero, so the adapter is the base model under another name."""
    for role, effect in _effects(subject):
        if effect.nothing:
            yield f"the LoRA of role {role}: {NO_EFFECT}"


@check(
    "modules-idle", "info", needs="bytes", hint="nothing to do, if part of the model was frozen in training"
)
def modules_idle(subject: Subject) -> Iterator[str]:
    """Some modules' updates B·A are zero: they take part in the file and change nothing.

    So it is where the encoder was frozen while the decoder was trained. The adapter works.
    """
    for role, effect in _effects(subject):
        if effect.idle and not effect.nothing:
            yield str(effect) if role == "self" else f"the LoRA of role {role}: {effect}"


def _effects(subject: Subject) -> Iterator[tuple[str, Effect]]:
    for section in subject.manifest.lora:
        with suppress(AdapterHubError, OSError):  # reported by lora-differs and layout
            yield section.role, effect_of(subject.folder / ROLE_FOLDERS[section.role] / WEIGHTS_FILE)


@check(
    "base-model-digest",
    "error",
    hint="the base model was swapped or retrained; adapters of the old one do not fit",
    idle=_none_of_its_name,
)
def base_model_digest_differs(subject: Subject) -> Iterator[str]:
    """The base model at hand under the pinned name has another digest than the manifest pins.

    The digest covers every tensor, the tokenizer and the configuration, recomputed from the files.
    """
    pin = subject.manifest.base_model
    facts = subject.base_models.get(pin.id)
    if facts and facts.digest != pin.digest:
        yield f"{pin.id} is {facts.digest}, the manifest pins {pin.digest}"


@check("base-model-absent", "info", hint="name it with `audit --base-model FOLDER`")
def base_model_absent(subject: Subject) -> Iterator[str]:
    """The base model is not at hand, so module paths and shapes were not compared with it."""
    if subject.base_model is None and subject.manifest.base_model.id not in subject.base_models:
        missing = subject.no_base_model or f"{subject.manifest.base_model.id} is not here"
        yield f"{missing}; modules were not compared with it"


@check(
    "module-shapes",
    "error",
    needs="bytes",
    hint="it was trained on another base model than it says",
    idle=no_base_model,
)
def module_shapes(subject: Subject) -> Iterator[str]:
    """A module is not in the base model or has another shape there.

    Updates of modules that do not exist are silently lost by other loaders.
    """
    if subject.base_model is None:
        return
    for section in subject.manifest.lora:
        place = ROLE_FOLDERS[section.role]
        try:
            adapter = read_peft(subject.folder / place)
        except AdapterHubError:
            continue  # reported by lora-differs
        yield from (f"{place}{d}" for d in shape_differences(adapter, subject.base_model.linears))


def _without(subject: Subject, error: AdapterHubError) -> str:
    """Return an error's text with paths relative to the artifact."""
    return str(error).replace(f"{subject.folder}/", "")
