"""`adapter.json`: the one record of an adapter version.

Immutable; the sha256 of its bytes is the version's identity. It lists every file of the artifact,
pins the base model and the parents by digest, and carries the recipe verbatim.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, FailFast, Field, StringConstraints, model_validator

from adapter_hub.errors import few
from adapter_hub.escaping import shown
from adapter_hub.formats.canonical import (
    Count,
    Digest,
    Record,
    Sha256,
    Text,
    UtcTime,
    canonical_bytes,
    digest_of,
)
from adapter_hub.formats.reference import NAME_PATTERN, VERSION_PATTERN, check_name

MANIFEST_FILE = "adapter.json"
SCHEMA = "adapter/1"
FUNCTION_SCHEMA = "function/1"

Method = Literal["lora", "warm-start", "expert-pair", "average", "imported"]
ParentRole = Literal["seed", "expert", "component"]
Name = Annotated[str, StringConstraints(pattern=f"^{NAME_PATTERN}$")]
VersionText = Annotated[str, StringConstraints(pattern=f"^{VERSION_PATTERN}$")]
_ID_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}"
BASE_MODEL_PATTERN = rf"{_ID_PART}(?:/{_ID_PART})?"
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Ratio = Annotated[float, Field(ge=0.0, le=1e15)]  # of two norms
Seconds = Annotated[float, Field(gt=0.0, le=3600.0)]  # of an encoder's input

MAXIMUM_RANK = 512  # of a module that can be loaded: one that approaches the width is not an adapter any more
MAXIMUM_SCALING = 1e6
MAXIMUM_MODULES = 4096  # whisper-large has 384 linears
MAXIMUM_TENSORS = 8192  # that no LoRA holds; whisper-large has 1259 of all kinds
MAXIMUM_FILES = 4096
MAXIMUM_FILE = 4 * 2**30  # bytes; rank 512 on every linear of whisper-large-v3 in float32 is 2.6 GB
MAXIMUM_SLACK = 2**24  # bytes of a file of weights beside its tensors: its header
MAXIMUM_PLAIN = 2**26  # bytes of all other files: configs, ancestors, texts

# for every method: how many parents of each role, least and most
PARENT_RULES: dict[str, dict[str, tuple[int, int]]] = {
    "lora": {},
    "warm-start": {"seed": (1, 1)},
    "expert-pair": {"expert": (1, 1), "seed": (0, 1)},
    "average": {"component": (1, 1000)},
    "imported": {},
}


def check_base_model_id(text: str) -> str:
    """Return what a base model is called in public, if it is not a path, which another machine would open.

    Args:
        text: `namespace/name`, or a name.

    Raises:
        ValueError: it is one, or something else.
    """
    if not re.fullmatch(BASE_MODEL_PATTERN, text):
        raise ValueError(
            "expected namespace/name as on the Hub, or a name; a path means something on one machine only"
        )
    return text


BaseModelId = Annotated[
    str, AfterValidator(check_base_model_id), Field(json_schema_extra={"pattern": f"^{BASE_MODEL_PATTERN}$"})
]


class Language(Record):
    """A language of the adapter, and the token of Whisper's that stands for it.

    Attributes:
        tag: BCP 47 tag, like `gl`.
        decode_language: the language in Whisper's `<|…|>` token, like `gl`; another one where Whisper has
            none for the tag.
    """

    tag: Text
    decode_language: Text


class BaseModelPin(Record):
    """The base model of an adapter: `digest` identifies it, the rest says where to look for it.

    Attributes:
        id: its repository on the Hub, or a name; never a path.
        revision: commit of that repository; absent for a local model.
        architecture: the class in `transformers`, `WhisperForConditionalGeneration`.
        digest: see base model digest.
    """

    id: BaseModelId
    revision: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")] | None = None
    architecture: Text
    digest: Digest


class LoraModule(Record):
    """One adapted linear: its output gets `scaling · B·A·x` added.

    Attributes:
        path: full path of the linear in the base model, like `model.encoder.layers.0.fc1`.
        rank: rows of A and columns of B.
        scaling: the factor of B·A: PEFT's alpha / rank, or alpha / √rank with rsLoRA.
    """

    path: Text
    rank: Annotated[int, Field(ge=1, le=MAXIMUM_RANK)]
    scaling: Annotated[float, Field(gt=0.0, lt=MAXIMUM_SCALING)]


class LoraSection(Record):
    """One set of LoRA weights: the adapter's own, or one half of an expert pair.

    Attributes:
        role: `self`, or in an expert pair `parent` and `child`.
        dtype: of all its tensors.
        dropout: on the input of A while training.
        parameters: values in its tensors: for every module rank · (inputs + outputs).
        modules: sorted by path, each once.
    """

    role: Literal["self", "parent", "child"]
    dtype: Literal["float32", "float16", "bfloat16"]
    dropout: Share
    parameters: Count
    modules: Annotated[tuple[LoraModule, ...], Field(min_length=1, max_length=MAXIMUM_MODULES), FailFast()]

    @model_validator(mode="after")
    def _sorted_modules(self) -> Self:
        paths = [module.path for module in self.modules]
        if paths != sorted(set(paths)):
            raise ValueError("module paths must be sorted and unique")
        return self

    @property
    def rank(self) -> int:
        """The largest rank of any module."""
        return max(module.rank for module in self.modules)


class GateSection(Record):
    """The gate of an expert pair: what weighs its two halves.

    Attributes:
        kind: `token`: computed from every input; `static`: one learned pair of weights for each linear.
        parameters: values in `gate.safetensors`.
    """

    kind: Literal["token", "static"]
    parameters: Count


class FileEntry(Record):
    """A file of the artifact.

    Attributes:
        path: relative POSIX path.
        size: bytes.
        sha256: of its bytes.
    """

    path: Text
    size: Annotated[int, Field(ge=0, le=MAXIMUM_FILE)]
    sha256: Sha256


class Parent(Record):
    """An adapter that this one was made from.

    Attributes:
        role: `seed`: training started from its weights; `expert`: the frozen half of a pair; `component`:
            of an average.
        name: of the parent.
        version: of the parent.
        digest: of the parent's manifest.
        weights_digest: the one in the parent's manifest.
        function_digest: the one in the parent's manifest.
        weight: of a component, in the sum of updates; absent for other roles.
    """

    role: ParentRole
    name: Name
    version: VersionText
    digest: Digest
    weights_digest: Digest
    function_digest: Digest
    weight: Annotated[float, Field(gt=0.0, le=1.0)] | None = None


class DevSet(Record):
    """Speech by whose error rate the components of an average were chosen.

    Attributes:
        data: the data set's name.
        split: like `dev`.
        data_sha256: of the rows, see data digest.
        metric: wer or cer, the primary one for its languages.
    """

    data: Text
    split: Text
    data_sha256: Sha256
    metric: Literal["wer", "cer"]


class TriedComponent(Record):
    """A component that a greedy average tried.

    Attributes:
        name: of the adapter.
        version: of the adapter.
        digest: of its manifest.
        error: its own on the dev data, as a fraction: the mean of the sets' primary error rates.
        error_with: the same of the average of those kept before and this one; absent of the first.
        kept: whether it is in the average.
    """

    name: Name
    version: VersionText
    digest: Digest
    error: Annotated[float, Field(ge=0.0)]
    error_with: Annotated[float, Field(ge=0.0)] | None = None
    kept: bool


class Selection(Record):
    """How a greedy average chose its components.

    Attributes:
        data: what the error was measured on, decoded greedily.
        normaliser: of texts before they are compared, like `basic/2`.
        tried: in the order in which they were tried, that of their own error.
    """

    data: Annotated[tuple[DevSet, ...], Field(min_length=1, max_length=1000)]
    normaliser: Text
    tried: Annotated[tuple[TriedComponent, ...], Field(min_length=1, max_length=1000)]


class AverageSection(Record):
    """How an average was computed from its components, so that it can be computed again.

    Attributes:
        method: how the updates were combined, like `mean`.
        density: share of the values that were kept, by methods that drop some.
        scale: factor of the combined update, by methods that have one.
        random_seed: of what was dropped.
        rank: that no module may exceed; absent: the sum of the components' ranks.
        energy: share of every module's squared singular values that was to be kept.
        error: relative Frobenius error of the truncation, over all modules together.
        largest_error: of any module.
        errors: by module, of those that lost anything.
        selection: of the components, by method `greedy`.
    """

    method: Text
    density: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    scale: float | None = None
    random_seed: Count | None = None
    rank: Annotated[int, Field(ge=1, le=MAXIMUM_RANK)] | None = None
    energy: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    error: Share
    largest_error: Share
    errors: Annotated[dict[Text, Share], Field(max_length=MAXIMUM_MODULES)] | None = None
    selection: Selection | None = None


class ExtractionSection(Record):
    """How an adapter was taken out of a full model, and what of that model it does not hold.

    Attributes:
        digest: of the full model, see base model digest.
        name: in the full model's own record.
        version: in the full model's own record.
        rank: that no module may exceed.
        energy: share of every module's squared singular values that was to be kept.
        error: relative Frobenius error of the linears' change, over all modules together.
        largest_error: of any module.
        errors: by module, of those that lost anything.
        left_out: by tensor that no LoRA holds, the norm of its change relative to the base model's tensor.
        logits_error: how far the adapter's logits of the probe are from the full model's, relative to how
            far the base model's are; absent where those do not differ.
    """

    digest: Digest
    name: Name | None = None
    version: VersionText | None = None
    rank: Annotated[int, Field(ge=1, le=MAXIMUM_RANK)] | None = None
    energy: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    error: Share
    largest_error: Share
    errors: Annotated[dict[Text, Share], Field(max_length=MAXIMUM_MODULES)] | None = None
    left_out: Annotated[dict[Text, Ratio], Field(max_length=MAXIMUM_TENSORS)] | None = None
    logits_error: Ratio | None = None

    @model_validator(mode="after")
    def _one_truncation(self) -> Self:
        if (self.rank is None) == (self.energy is None):
            raise ValueError("expected a rank or an energy, one of the two")
        if self.largest_error != max((self.errors or {}).values(), default=0.0):
            raise ValueError("largest_error is not the largest of errors")
        return self


class Similarity(Record):
    """How near the adapter's speech is to languages of the base model (LoRA-Whisper, equation 4).

    Attributes:
        measure: `argmax-share`: the share of segments whose likeliest language, of those in `scores`, it
            is.
        scores: by Whisper language; they sum to 1.
        mean_probabilities: by Whisper language: the base model's probabilities, averaged over the segments.
        segments: how many segments were measured.
        random_seed: that chose them.
        data_sha256: of the data set that they are from.
        base_model_digest: of the model that measured.
    """

    measure: Literal["argmax-share"]
    scores: dict[str, Share]
    mean_probabilities: dict[str, Share]
    segments: Annotated[int, Field(ge=1)]
    random_seed: int
    data_sha256: Sha256
    base_model_digest: Digest


class DataSource(Record):
    """A data set that the adapter was trained on, bound to its content.

    Attributes:
        id: its name, or its repository on the Hub; never a path.
        revision: commit on the Hub.
        split: like `train`.
        license: SPDX expression.
        hours: of audio.
        utterances: how many.
        sha256: of the content, see data digest.
    """

    id: Text
    revision: Text | None = None
    split: Text
    license: Text | None = None
    hours: Annotated[float, Field(ge=0.0)]
    utterances: Count
    sha256: Sha256


class CurvePoint(Record):
    """Where training stood after a step; losses in nats per token of text.

    Attributes:
        step: optimiser steps so far.
        loss: mean over the training data since the point before.
        dev_loss: mean over the dev data.
    """

    step: Count
    loss: float | None = None
    dev_loss: float | None = None


class Training(Record):
    """How the training ran.

    Attributes:
        steps: optimiser steps.
        best_step: whose weights were kept, where early stopping chose; absent: the last one's.
        random_seed: of the training.
        hardware: in words.
        wall_seconds: duration.
        packages: versions by package.
        code_revision: commit of this project's checkout.
        dirty: whether the checkout had changes that were not committed.
        curve: in order of steps.
    """

    steps: Count
    best_step: Count | None = None
    random_seed: int
    hardware: Text
    wall_seconds: Annotated[float, Field(ge=0.0)]
    packages: dict[str, str]
    code_revision: Text | None = None
    dirty: bool | None = None
    curve: tuple[CurvePoint, ...] | None = None


class ProbeText(Record):
    """What was decoded from a probe's input.

    Attributes:
        tokens: the first tokens, up to where rounding could change the choice.
        text: what they say.
    """

    tokens: tuple[Count, ...]
    text: str


class Probe(Record):
    """Proof of effect: what base model and adapter answer to a fixed input, in float32.

    Attributes:
        input: names the input and what is computed from it: `sines/2`.
        base_model_logits: of the base model alone.
        adapter_logits: of the base model with the adapter.
        tolerance: the largest absolute difference allowed.
        base_model_text: what the base model alone decodes.
        adapter_text: what the adapted model decodes.
    """

    input: Text
    base_model_logits: tuple[float, ...]
    adapter_logits: tuple[float, ...]
    tolerance: Annotated[float, Field(gt=0.0)]
    base_model_text: ProbeText
    adapter_text: ProbeText


class Draft(Record):
    """All that a manifest says but for `function_digest`, which follows from the rest.

    Attributes:
        schema: of this record.
        name: of the adapter, which is also its repository on the Hub.
        version: of the adapter.
        created: when it was sealed.
        authors: as the recipe names them.
        license: SPDX expression, or `LicenseRef-…`.
        method: how the weights came to be.
        task: what it writes: the language spoken, or English.
        timestamps: whether it was trained with timestamp tokens.
        languages: that it is for.
        base_model: that it belongs to.
        lora: its weights.
        gate: of an expert pair.
        input_seconds: of audio that the encoder was given for a clip while training, padding included, the
            most of any batch, and no less than any parent's; absent where it is not known or not fixed.
        files: every file but `adapter.json`, sorted by path, each once.
        weights_digest: of all tensors, see weights digest.
        parents: that it was made from.
        average: how the components of an average were combined.
        source: where an imported adapter was taken from, like `hf://namespace/name@<commit>`.
        named_base_model: of an imported adapter, what its own config names, where it was taken in for another
            base model all the same.
        extraction: of an imported adapter that was taken out of a full model.
        similarity: measured when a parent was chosen.
        data: that it was trained on.
        recipe: TOML text of the training, without comments and with names in the place of paths.
        training: how it ran.
        probe: proof of effect.
    """

    schema_: Annotated[Literal["adapter/1"], Field(alias="schema")]
    name: Name
    version: VersionText
    created: UtcTime
    authors: Annotated[tuple[Text, ...], Field(max_length=1000), FailFast()]
    license: Text
    method: Method
    task: Literal["transcribe", "translate"]
    timestamps: bool
    languages: Annotated[tuple[Language, ...], Field(min_length=1, max_length=200), FailFast()]
    base_model: BaseModelPin
    lora: Annotated[tuple[LoraSection, ...], Field(min_length=1, max_length=2)]
    gate: GateSection | None = None
    input_seconds: Seconds | None = None
    files: Annotated[tuple[FileEntry, ...], Field(min_length=1, max_length=MAXIMUM_FILES), FailFast()]
    weights_digest: Digest
    parents: Annotated[tuple[Parent, ...], Field(max_length=1000), FailFast()] = ()
    average: AverageSection | None = None
    source: Text | None = None
    named_base_model: Text | None = None
    extraction: ExtractionSection | None = None
    similarity: Annotated[tuple[Similarity, ...], Field(max_length=100), FailFast()] = ()
    data: Annotated[tuple[DataSource, ...], Field(max_length=1000), FailFast()] = ()
    recipe: Annotated[str, StringConstraints(min_length=1, max_length=2**20)] | None = None
    training: Training | None = None
    probe: Probe | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_name(self.name)
        paths = [entry.path for entry in self.files]
        if paths != sorted(set(paths)):
            raise ValueError("file paths must be sorted and unique")
        problems = [
            *(f"file path '{shown(path, 100)}' is not safe" for path in paths if not is_safe_path(path)),
            *weights_size_problems(self.files, self.lora, self.gate),
            *parent_problems(self.method, self.parents),
            *(
                f"{name} is for imported adapters only"
                for name in ("source", "named_base_model")
                if getattr(self, name) and self.method != "imported"
            ),
            *(["average is for averages only"] if self.average and self.method != "average" else []),
            *selection_problems(self.average, self.parents),
            *self._extraction_problems(),
        ]
        if problems:
            raise ValueError(few(problems))
        return self

    def _extraction_problems(self) -> Iterator[str]:
        if self.extraction is None:
            return
        if self.method != "imported":
            yield "extraction is for imported adapters only"
        adapted = {module.path for section in self.lora for module in section.modules}
        if strange := sorted((self.extraction.errors or {}).keys() - adapted):
            yield f"extraction has an error of {shown(strange[0], 100)}, which is not adapted"

    @property
    def ref(self) -> str:
        """`namespace/name@version`."""
        return f"{self.name}@{self.version}"

    @property
    def rank(self) -> int:
        """The largest rank of any adapted module."""
        return max(section.rank for section in self.lora)


class Manifest(Draft):
    """The record of one adapter version, `adapter.json`.

    Attributes:
        function_digest: of all that decides what the adapter does, see function digest; recomputed
            whenever a manifest is read.
    """

    function_digest: Digest

    @model_validator(mode="after")
    def _true_function(self) -> Self:
        found = function_digest(self)
        if found != self.function_digest:
            raise ValueError(
                f"function_digest: {self.function_digest}, but weights, modules, scaling, gate, task and "
                f"languages give {found}"
            )
        return self

    @property
    def digest(self) -> str:
        """The version's identity."""
        return digest_of(self.to_bytes())


def joint_license(licenses: Iterable[str]) -> str:
    """Return the licence of what is made of several things: all of theirs hold.

    Args:
        licenses: SPDX expressions.

    >>> joint_license(["MIT", "Apache-2.0", "MIT"])
    '(Apache-2.0) AND (MIT)'
    """
    known = sorted(set(licenses))
    return known[0] if len(known) == 1 else " AND ".join(f"({text})" for text in known)


def function_digest(manifest: Draft) -> str:
    """Return the digest of all that decides what an adapter does to its base model.

    Two versions with one function digest give the same text for every recording; reports, the version rule,
    pairs and statuses are bound to it. The weights alone do not decide: the same tensors with another
    scaling are another adapter.

    Args:
        manifest: its weights, modules, gate, task, languages and timestamps count.
    """
    record = {
        "schema": FUNCTION_SCHEMA,
        "weights_digest": manifest.weights_digest,
        "lora": [
            {
                "role": section.role,
                "modules": [[module.path, module.rank, module.scaling] for module in section.modules],
            }
            for section in sorted(manifest.lora, key=lambda section: section.role)
        ],
        **({"gate": manifest.gate.kind} if manifest.gate else {}),
        "task": manifest.task,
        "decode_languages": sorted({language.decode_language for language in manifest.languages}),
        "timestamps": manifest.timestamps,
    }
    return digest_of(canonical_bytes(record))


def longest_input(seconds: Iterable[float | None]) -> float | None:
    """Return the `input_seconds` of what was made from several: the longest that is known.

    >>> longest_input([3.2, None, 30.0])
    30.0

    Args:
        seconds: of each, None where it is not known.
    """
    return max((item for item in seconds if item is not None), default=None)


def is_safe_path(path: str) -> bool:
    """Tell whether a listed path stays inside the artifact on every operating system.

    Args:
        path: relative, with `/` between its parts.
    """
    parts = path.split("/")
    return (
        all(part not in ("", ".", "..") and not part.startswith("~") for part in parts)
        and not any(c in path for c in "\\:\0")
        and path.isprintable()
        and path.isascii()
        and path != MANIFEST_FILE
    )


def weights_size_problems(
    files: Sequence[FileEntry], lora: Sequence[LoraSection], gate: GateSection | None
) -> Iterator[str]:
    """Yield which files are larger than what the manifest says they hold, found out without reading them.

    Args:
        files: of the artifact.
        lora: its weights' sections.
        gate: its gate, or None.
    """
    values = sum(section.parameters * (4 if section.dtype == "float32" else 2) for section in lora)
    values += 4 * gate.parameters if gate else 0
    room = values + MAXIMUM_SLACK * (len(lora) + 1)
    weights = sum(entry.size for entry in files if entry.path.endswith(".safetensors"))
    if weights > room:
        yield f"weights of {weights} bytes, expected at most {room} for so many parameters"
    plain = sum(entry.size for entry in files if not entry.path.endswith(".safetensors"))
    if plain > MAXIMUM_PLAIN:
        yield f"files beside the weights of {plain} bytes, expected at most {MAXIMUM_PLAIN}"


def selection_problems(average: AverageSection | None, parents: tuple[Parent, ...]) -> list[str]:
    """Return how a record of chosen components and the parents contradict each other.

    Args:
        average: of a manifest.
        parents: of the same manifest.
    """
    if average is None or average.selection is None:
        return []
    kept = {item.digest for item in average.selection.tried if item.kept}
    if kept != {parent.digest for parent in parents}:
        return ["average.selection: the components kept are not the parents"]
    return []


def parent_problems(method: str, parents: tuple[Parent, ...]) -> list[str]:
    """Return how number, roles and weights of `parents` break the rule of `method` (invariant 3).

    Args:
        method: of the manifest.
        parents: its parents, in any order.
    """
    problems = []
    rules = PARENT_RULES[method]
    for role in sorted({parent.role for parent in parents} | set(rules)):
        least, most = rules.get(role, (0, 0))
        count = sum(parent.role == role for parent in parents)
        if not least <= count <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            problems.append(f"method {method} takes {wanted} parents of role {role}, got {count}")
    if method == "average":
        total = sum(parent.weight or 0.0 for parent in parents)
        if any(parent.weight is None for parent in parents) or total > 1.0 + 1e-9:
            problems.append("components of an average need weights above 0 with sum at most 1")
    elif any(parent.weight is not None for parent in parents):
        problems.append(f"parents of method {method} carry no weight")
    return problems
