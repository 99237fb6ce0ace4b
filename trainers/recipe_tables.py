"""The tables of a recipe and their keys: what they mean, their limits, and which go together.

    Recipe.model_validate({"adapter": {…}, "data": {"train": "data/da/train"}})

A comment beside a key is what docs/recipe.md says of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from adapter_hub.base_model.digest import EMBEDDED_ID
from adapter_hub.base_model.naming import id_in
from adapter_hub.formats.canonical import Record, Text
from adapter_hub.formats.manifest import MAXIMUM_RANK, Name, VersionText
from adapter_hub.hub.names import check_pin
from adapter_hub.speech.languages import language_tag, whisper_code

# the linears that LoRA-Whisper adapts (arXiv 2406.06619, section 4.2)
PAPER_MODULES = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
# attention, feed-forward and, of the "depth-wise separable convolution layer" (Plantinga et al., SLT 2024,
# III-B), the pointwise ones: on the depthwise one a LoRA has 58 times the weights that it adapts
PARAKEET_MODULES = (
    *("q_proj", "k_proj", "v_proj", "o_proj", "relative_k_proj"),
    *("linear1", "linear2", "pointwise_conv1", "pointwise_conv2"),
)
NEAREST = "nearest"
EXPERT = "expert"  # as a seed: the pair's own parent
FULL_FINE_TUNING = "full-fine-tuning"

Tag = Annotated[Text, AfterValidator(language_tag)]  # "Danish" is da
Code = Annotated[Text, AfterValidator(whisper_code)]
Positive = Annotated[int, Field(ge=1)]
Modules = Annotated[tuple[Text, ...], Field(min_length=1)]
Rank = Annotated[int, Field(ge=1, le=MAXIMUM_RANK)]
# parts of a Whisper, see `adapter_hub.trainers.methods.freezing`
Part = Literal[
    "encoder",
    "decoder",
    "embeddings",
    "convolutions",
    "layer-norms",
    "feed-forward",
    "self-attention",
    "cross-attention",
    "all-but-encoder-attention",
]
Share = Annotated[float, Field(ge=0, le=1)]
RandomSeed = Annotated[int, Field(ge=0, lt=2**32)]  # what numpy's and torch's generators take


class AdapterTable(Record):
    """`[adapter]`: what the adapter is called and what it is for.

    Method `full-fine-tuning` trains every weight of the base model: a baseline of the papers. Its result is
    the folder of a base model, not an adapter. The running statistics of a Parakeet's batch norms follow the
    data then, and an average of models averages them; by every other method they stay the base model's, in
    training, too, so that it is bit for bit the one that the adapter is loaded on.
    """

    name: Name  # namespace/name, as in `adapter-hub pull namespace/name`
    version: VersionText  # MAJOR.MINOR.PATCH
    method: Literal["lora", "warm-start", "expert-pair", "full-fine-tuning"]  # how it is trained
    language: Tag | None = None  # BCP 47; a full fine-tune uses its data's languages instead
    decode_language: Code | None = None  # whose token to use where Whisper has none for `language`
    task: Literal["transcribe", "translate"] = "transcribe"  # translation: Whisper only
    timestamps: bool = False  # with timestamp tokens; clips have no word times, so only false is accepted
    authors: tuple[Text, ...] = ()  # who trained it
    license: Text  # SPDX expression, of the adapter


class BaseModelTable(Record):
    """`[base_model]`: a Hub id with a pinned revision, a local folder, or the embedded model.

    A folder that holds a model of the Hub is named with both: `id = "openai/whisper-small"` and its `path`.
    """

    id: Text = EMBEDDED_ID  # such as openai/whisper-small, or a folder
    path: Text | None = None  # of a folder that holds the model `id` of the Hub; never published
    revision: Text | None = None  # of a model on the Hub: branch, tag or commit; with `path` a commit

    @model_validator(mode="after")
    def _path_has_an_id(self) -> Self:
        if self.path is not None and (self.id == EMBEDDED_ID or id_in(self.id) != self.id):
            raise ValueError("path goes with the id of a model on the Hub, like openai/whisper-small")
        return self


class ParentTable(Record):
    """A parent: a reference, or `nearest` for that of the most similar base language (equation 4).

    The seed of an expert pair's child may also be `expert`: the pair's own parent.
    """

    adapter: Text  # a reference such as mini/it@1.0.0, a folder, or `nearest`
    among: tuple[Text, ...] = ()  # base languages to choose among; by default all that the registries have
    segments: Positive = 200  # training utterances whose language is identified, at most
    random_seed: RandomSeed = 1  # decides which


class GateTable(Record):
    """`[gate]`, for expert pairs; the paper does not define the gate, these are our readings.

    `token`: softmax of a linear map of each token, per adapted linear. `static`: one learned pair of
    weights per adapted linear; `adapter-hub fold` turns such a pair into one ordinary LoRA.
    """

    kind: Literal["token", "static"] = "token"  # weights that differ by token, or the same for all tokens


class SourceTable(Record):
    """One source of a mixture, `[[data.train]]` or `[[data.dev]]`; needs exactly one of the first three keys.

    `folder` holds `metadata.jsonl` or `.csv` beside its audio; `manifest` is a JSONL file with
    `audio_filepath`, `duration` and `text`; `dataset` is a data set on the Hub, read at `revision`.
    """

    folder: Text | None = None  # with metadata.jsonl or .csv and audio
    manifest: Text | None = None  # a JSONL file
    dataset: Text | None = None  # on the Hub, such as google/fleurs
    config: Text | None = None  # of `dataset`: a configuration, such as "da_dk"
    split: Text | None = None  # of `dataset`, such as "train"
    revision: Text | None = None  # of `dataset`: a commit, 40 hexadecimal digits
    audio_column: Text = "audio"  # of `dataset`, with the audio files
    text_column: Text = "transcription"  # of `dataset`, with the references
    language: Tag | None = None  # BCP 47, of rows that do not state one; by default the adapter's
    decode_language: Code | None = None  # whose token to use, as in [adapter]
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0  # how often a row is visited per epoch
    hours: Annotated[float, Field(gt=0)] | None = None  # of audio, at most; rows are chosen by random_seed
    domain: Text | None = None  # of rows that do not state one: its share, and its row in reports
    id: Text | None = None  # its name in the manifest
    license: Text | None = None  # SPDX expression, of this source

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        named = [key for key in ("folder", "manifest", "dataset") if getattr(self, key) is not None]
        if len(named) != 1:
            found = " and ".join(named) or "none of them"
            raise ValueError(f"a source needs exactly one of folder, manifest, dataset; found {found}")
        if self.dataset is not None and (self.revision is None or self.split is None):
            raise ValueError("a source with `dataset` needs its revision (a commit) and its split")
        if self.dataset is not None and self.revision is not None:
            check_pin(self.dataset, self.revision)
        if self.dataset is None and (self.config or self.split or self.revision):
            raise ValueError("config, split and revision of a source go with `dataset`")
        return self


Sources = Text | Annotated[tuple[SourceTable, ...], Field(min_length=1)]


class DataTable(Record):
    """`[data]`: a folder, or a list of sources; `dev` is evaluated after each epoch, never trained on."""

    train: Sources  # a folder, or a list of sources
    dev: Sources | None = None  # a folder, or a list of sources; its loss is measured after each epoch
    id: Text | None = None  # name of the data in the manifest, if it is one folder
    revision: Text | None = None  # version of that folder, in the manifest
    license: Text | None = None  # SPDX expression, of the data; of sources that do not state one
    shortest_seconds: Annotated[float, Field(ge=0)] = 0.0  # shorter rows are dropped and reported
    longest_seconds: Annotated[float, Field(gt=0)] | None = None  # by default the base model's chunk
    sampling_exponent: Share | None = None  # a domain's share of an epoch is proportional to rows**exponent

    @model_validator(mode="after")
    def _fits_its_sources(self) -> Self:
        if not isinstance(self.train, str) and (self.id or self.revision):
            raise ValueError("id and revision go with one folder; give them to the sources instead")
        if self.sampling_exponent is not None and not isinstance(self.train, str):
            for number, source in enumerate(self.train, 1):
                if source.weight != 1:
                    raise ValueError(f"train[{number}].weight: sampling_exponent decides it; leave one out")
        for number, source in enumerate(self.dev or () if not isinstance(self.dev, str) else (), 1):
            if source.weight != 1:
                raise ValueError(f"dev[{number}].weight: every row of dev is evaluated once; leave it out")
        if self.longest_seconds is not None and self.longest_seconds <= self.shortest_seconds:
            raise ValueError(f"longest_seconds {self.longest_seconds:g} is not above shortest_seconds")
        return self


class LoraTable(Record):
    """`[lora]`; the defaults are LoRA-Whisper's (section 4.2 and table 2).

    A Parakeet's own `modules` are `q_proj`, `k_proj`, `v_proj`, `o_proj`, `relative_k_proj`, `linear1`,
    `linear2`, `pointwise_conv1` and `pointwise_conv2`.
    """

    rank: Rank = 32  # r, of B (outputs x r) and A (r x inputs)
    alpha: Annotated[float, Field(gt=0)] | None = None  # by default twice the rank
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of the input of A
    modules: Modules = PAPER_MODULES  # linears, in every layer; a Parakeet has its own
    rank_pattern: dict[str, Rank] = Field(default_factory=dict)  # PEFT's: module name or pattern to rank
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"  # of the published weights


class TrainingTable(Record):
    """`[training]`; the defaults are LoRA-Whisper's where the paper gives them."""

    epochs: Positive = 10  # passes over the training data
    steps: Positive | None = None  # optimiser steps, instead of epochs
    batch_size: Positive = 16  # rows of a batch; several processes share them
    gradient_accumulation: Positive = 1  # batches per step
    gradient_checkpointing: bool = False  # uses less memory and more time
    precision: Literal["float32", "bfloat16", "float16"] = "float32"  # of the computation (autocast)
    peak_learning_rate: Annotated[float, Field(gt=0)] = 1e-4  # of AdamW, reached at the end of the warm-up
    warmup_share: Annotated[float, Field(ge=0, lt=1)] = 0.1  # of all steps
    schedule: Literal["linear", "slanted-triangle"] = "linear"  # to 0, or from and to 1/32 of the peak (STLR)
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0  # LLRD: of the rate, per encoder layer down
    freeze: tuple[
        Part, ...
    ] = ()  # parts that are not trained; their linears get no LoRA unless a seed has one
    weight_decay: Annotated[float, Field(ge=0)] = 0.0  # of AdamW
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of the cross-entropy
    early_stopping: Positive | None = None  # epochs without a lower dev loss; the best epoch is kept
    save_minutes: Annotated[float, Field(ge=0)] = 30.0  # between checkpoints within an epoch; 0 for none
    spec_augment: bool = False  # mask bands of time and of mel channels (arXiv 1904.08779)
    audio_length: Literal["batch", "chunk"] = "chunk"  # pad to the longest clip of a batch, or to the chunk
    input_seconds: Annotated[float, Field(ge=0)] = 0.0  # that "batch" pads to at least
    random_seed: RandomSeed = 1  # of initialisation, order, masks and dropout


class DistillationTable(Record):
    """`[distillation]`: stay close to the base model's predictions (LwF, arXiv 1606.09282)."""

    weight: Annotated[float, Field(gt=0)] = 1.0  # of the distance; that of the references is 1
    temperature: Annotated[float, Field(gt=0)] = 2.0  # of both distributions; 2 as in the paper


TABLES: Mapping[str, type[Record]] = {
    "adapter": AdapterTable,
    "base_model": BaseModelTable,
    "seed": ParentTable,
    "expert": ParentTable,
    "gate": GateTable,
    "data": DataTable,
    "lora": LoraTable,
    "training": TrainingTable,
    "distillation": DistillationTable,
}


class Recipe(Record):
    """A whole recipe.

    Attributes:
        adapter: what it is called and how it is trained.
        data: what it is trained on.
        base_model: what it adapts.
        seed: where a warm start, or the child of an expert pair, starts from.
        expert: the frozen parent of an expert pair.
        gate: of an expert pair.
        lora: rank, modules and dtype.
        training: of the optimiser.
        distillation: of the base model's predictions, if they are a target, too.
    """

    adapter: AdapterTable
    data: DataTable
    base_model: BaseModelTable = BaseModelTable()
    seed: ParentTable | None = None
    expert: ParentTable | None = None
    gate: GateTable | None = None
    lora: LoraTable = LoraTable()
    training: TrainingTable = TrainingTable()
    distillation: DistillationTable | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        method = self.adapter.method
        needed = {"warm-start": ("seed",), "expert-pair": ("expert",)}.get(method, ())
        allowed = {"warm-start": {"seed"}, "expert-pair": {"seed", "expert", "gate"}}.get(method, set())
        for table in ("seed", "expert", "gate"):
            given = getattr(self, table) is not None
            if table in needed and not given:
                raise ValueError(f'method {method} needs a table [{table}] with adapter = "…"')
            if given and table not in allowed:
                raise ValueError(f"[{table}] does not go with method {method}")
        if method == "warm-start" and self.seed is not None and self.seed.adapter == EXPERT:
            raise ValueError(f'seed.adapter = "{EXPERT}" goes with method expert-pair; name an adapter')
        if method != FULL_FINE_TUNING and self.adapter.language is None:
            raise ValueError("adapter.language is missing")
        if method == FULL_FINE_TUNING and "lora" in self.model_fields_set:
            raise ValueError(f"[lora] does not go with method {FULL_FINE_TUNING}")
        return self

    @model_validator(mode="after")
    def _trainable(self) -> Self:
        if self.adapter.timestamps:
            raise ValueError("adapter.timestamps: recordings of utterances have no word times; leave it out")
        if {"epochs", "steps"} <= self.training.model_fields_set:
            raise ValueError("training.epochs and training.steps: both say how long; leave one out")
        if self.training.early_stopping is not None and self.data.dev is None:
            raise ValueError("training.early_stopping needs data.dev, whose loss it watches")
        if self.adapter.method == "expert-pair" and (self.training.freeze or self.distillation is not None):
            raise ValueError("training.freeze and [distillation] do not go with method expert-pair")
        return self

    @property
    def decode_language(self) -> str | None:
        """The language whose token is used: the adapter's own unless the recipe borrows another one."""
        own = self.adapter.language
        return self.adapter.decode_language or (None if own is None else whisper_code(own))

    def asked(self) -> Iterator[str]:
        """Yield the words for what a base model's family may lack, see `adapter_hub.base_model.families`."""
        sources = [table for split in (self.data.train, self.data.dev or "") for table in split]
        if self.adapter.decode_language or any(getattr(item, "decode_language", None) for item in sources):
            yield "decode_language"
        if self.training.label_smoothing:
            yield "label_smoothing"
        parents = [table for table in (self.seed, self.expert) if table is not None]
        if any(parent.adapter == NEAREST or parent.among for parent in parents):
            yield NEAREST
        yield from (self.adapter.method, self.adapter.task)

    @property
    def alpha(self) -> float:
        """LoRA's alpha; B·A is scaled by alpha / rank."""
        return self.lora.alpha if self.lora.alpha is not None else 2.0 * self.lora.rank
