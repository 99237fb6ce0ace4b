"""Recipes: the only input of training, a TOML file; its keys become part of the manifest.

    recipe = read_recipe(Path("recipes/mini/da.toml")).recipe

Unknown keys are refused with the key that was probably meant; paths are relative to the recipe.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypedDict, Unpack

from pydantic import AfterValidator, Field, ValidationError, model_validator

from adapter_hub.base_model.digest import EMBEDDED_ID
from adapter_hub.base_model.naming import id_in, split_claim
from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.escaping import shown
from adapter_hub.files.reading import read_bounded
from adapter_hub.formats.canonical import Record, Text, explain
from adapter_hub.formats.manifest import MAXIMUM_RANK, Name, VersionText
from adapter_hub.formats.reference import check_name, is_local
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
RECIPE_BYTES = 2**20  # at most
SHOWN, SHOWN_CHARACTERS = 5, 60  # unknown keys in one error, and characters of each
KEY_PARTS = 32  # of a dotted key: reading one takes time quadratic in its parts
# strings and comments, which may hold dots without being a key
_NO_KEYS = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"""|' + r"'''(?:[^']|'(?!''))*'''|"
    r'"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'|#[^\n]*",
    re.DOTALL,
)
_LONG_KEY = re.compile(rf"(?<![\w-])(?:[\w-]+[ \t]*\.[ \t]*){{{KEY_PARTS}}}")

# what a new recipe holds in place of what only its author knows; `train` refuses each
PLACEHOLDERS = {
    "namespace": "my-name",
    "language": "xx",
    "license": "your-licence",
    "author": "Your Name",
}

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


@dataclass(frozen=True)
class RecipeFile:
    """A recipe that was read from a file.

    Attributes:
        recipe: what it says.
        text: the file's text.
        folder: the file's folder, which its paths are relative to.
    """

    recipe: Recipe
    text: str
    folder: Path

    def resolve(self, path: str) -> Path:
        """Return a path of the recipe relative to the recipe's folder.

        Args:
            path: as in the recipe; absolute ones and `~` are allowed.

        Raises:
            InvalidInputError: `~` of an unknown user, or a NUL character.
        """
        try:
            whole = self.folder / Path(path).expanduser()
        except RuntimeError:
            raise InvalidInputError(f"recipe: {shown(path)}: ~ names an unknown user") from None
        if "\0" in path:
            raise InvalidInputError(f"recipe: {shown(path)}: a NUL character in a path")
        return whole

    @property
    def base_model(self) -> str:
        """The base model as `load_base_model` takes it: an id, a folder, or `ID=FOLDER`."""
        table = self.recipe.base_model
        if table.path is not None:
            return f"{table.id}={self.resolve(table.path)}"
        claimed, place = split_claim(table.id)
        place = str(self.resolve(place)) if claimed or is_local(place, self.folder) else place
        return f"{claimed}={place}" if claimed else place


def read_recipe(path: Path) -> RecipeFile:
    """Read and check a recipe.

    Raises:
        NotFoundError: no such file.
        InvalidInputError: not TOML, an unknown key (with the one that was probably meant), a value out of
            range, keys that do not go together.
    """
    if not path.is_file():
        raise NotFoundError(f"{path}: no such recipe; `adapter-hub recipe new lora` writes one")
    try:
        raw = read_bounded(path, RECIPE_BYTES, where=f"{path} (a TOML recipe)")
        return parse_recipe(raw.decode("utf-8-sig"), path)  # editors of Windows begin with a mark
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path}: not TOML: {shown(error)}") from None


def parse_recipe(text: str, path: Path) -> RecipeFile:
    """Check a recipe's text.

    Args:
        text: TOML.
        path: of its file, which its own paths are relative to.

    Raises:
        InvalidInputError: as `read_recipe`.
    """
    try:
        tables = _toml(text)
    except RecursionError:
        raise InvalidInputError(f"{path}: not TOML: nested too deeply") from None
    except ValueError as error:  # TOML's own errors, and numbers of thousands of digits
        raise InvalidInputError(f"{path}: not TOML: {shown(error)}") from None
    if unknown := list(islice(_unknown_keys(tables, Recipe, ""), SHOWN)):
        raise InvalidInputError(f"{path}: {'; '.join(unknown)}")
    try:
        recipe = Recipe.model_validate(_tuples(tables), strict=False)
    except ValidationError as error:
        raise InvalidInputError(f"{path}: {explain(error)}") from None
    try:
        check_name(recipe.adapter.name)
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: adapter.name: {error}") from None
    return RecipeFile(recipe, text, path.parent)


def placeholders(recipe: Recipe) -> list[str]:
    """Return the keys that still hold what `recipe new` wrote in place of what only the author knows.

    Args:
        recipe: that was read.
    """
    adapter = recipe.adapter
    found = {
        "adapter.name": adapter.name.partition("/")[0] == PLACEHOLDERS["namespace"],
        "adapter.language": adapter.language == PLACEHOLDERS["language"],
        "adapter.license": adapter.license == PLACEHOLDERS["license"],
        "adapter.authors": PLACEHOLDERS["author"] in adapter.authors,
    }
    return [key for key, is_placeholder in found.items() if is_placeholder]


def refuse_placeholders(recipe: Recipe, path: Path) -> None:
    """Refuse to train what would be published for ever without its author's name or under another licence.

    Args:
        recipe: that will be trained.
        path: of its file, for the message.

    Raises:
        InvalidInputError: with every key that holds a placeholder.
    """
    if still := placeholders(recipe):
        raise InvalidInputError(
            f"{path}: {', '.join(still)}: still an example of `recipe new`, which would be published; "
            "write your own"
        )


def _toml(text: str) -> dict[str, Any]:
    """Return the tables of a TOML text.

    Raises:
        TOMLDecodeError: not TOML, or a key of so many parts that reading it would take hours.
        ValueError, RecursionError: numbers or nesting that Python cannot read.
    """
    if _LONG_KEY.search(_NO_KEYS.sub("s", text)):
        raise tomllib.TOMLDecodeError(f"a dotted key of {KEY_PARTS} parts or more")
    return tomllib.loads(text)


def _unknown_keys(table: Mapping[str, Any], model: type[Record], place: str) -> Iterator[str]:
    known = model.model_fields
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key[:SHOWN_CHARACTERS], known, n=1)
            meant = f", did you mean {near[0]!r}?" if near else f", expected one of {', '.join(known)}"
            yield f"unknown key {shown(place + key, SHOWN_CHARACTERS)!r}{meant}"
        elif isinstance(value, dict) and key in TABLES:
            yield from _unknown_keys(value, TABLES[key], f"{key}.")
        elif isinstance(value, list) and model is TABLES["data"]:
            for number, source in enumerate(value, 1):
                if isinstance(source, dict):
                    yield from _unknown_keys(source, SourceTable, f"data.{key}[{number}].")


def _tuples(value: Any) -> Any:
    """Return TOML's arrays as tuples, which records hold."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


_TEMPLATE = """\
# A recipe of adapter-hub: all that decides how the adapter is trained. Paths are relative to this file.

[adapter]
name = {name}
version = "1.0.0"
method = "{method}"
language = {language}        # BCP 47
{decode_language}license = {license}          # of the adapter (an SPDX expression); check your data's licence
authors = [{authors}]

[base_model]
id = {base_model}
{parents}
[data]
train = {train}  # a folder with metadata.jsonl (file_name, text) and audio
{dev}{data_license}
{lora}[training]
epochs = 10
batch_size = 16
peak_learning_rate = {rate}
audio_length = "{audio_length}"
spec_augment = {augment}
random_seed = 1
"""

_PARENTS = {
    "warm-start": """
[seed]
adapter = "nearest"            # or a reference like "mini/pl@1.0.0"
""",
    "expert-pair": """
[expert]                       # the frozen parent
adapter = "nearest"            # or a reference like "mini/pl@1.0.0"

[seed]                         # what the child starts from; without it, from scratch
adapter = "expert"             # the parent itself, "nearest" or a reference

[gate]
kind = "token"                 # or "static", which `adapter-hub fold` turns into one ordinary LoRA
""",
}
_LORA = """\
[lora]
rank = {rank}
dtype = "float16"              # of the published weights; training is in float32

"""


class KnownKeys(TypedDict, total=False):
    """What is known for a new recipe; of all else it holds a placeholder, an example or a default."""

    language: str | None  # BCP 47 tag of the new adapter
    decode_language: str | None  # Whisper's code of the language whose token stands for it
    namespace: str | None  # the first half of the adapter's name
    base_model: str  # the embedded model's id, a Hub id or a folder
    authors: Sequence[str]
    license: str | None  # of the adapter
    train: str  # the data, relative to the recipe
    dev: str | None
    data_license: str | None


def new_recipe(method: str, **known: Unpack[KnownKeys]) -> str:
    """Return the text of a new recipe, with comments.

    Args:
        method: one of `adapter_hub.trainers.methods.table.METHODS`.
        known: what it is to say.
    """
    base_model = known.get("base_model", EMBEDDED_ID)
    mini, full = base_model == EMBEDDED_ID, method == FULL_FINE_TUNING
    language = known.get("language") or PLACEHOLDERS["language"]
    suffix = {"expert-pair": "-pair", FULL_FINE_TUNING: "-full"}.get(method, "")
    own = re.sub(r"[^a-z0-9]+", "-", language.lower()).strip("-")
    decode, dev = known.get("decode_language"), known.get("dev", f"data/{own}/dev")
    data_license = known.get("data_license")
    return _TEMPLATE.format(
        method=method,
        name=_text(f"{known.get('namespace') or PLACEHOLDERS['namespace']}/{own}{suffix}"),
        language=_text(language),
        decode_language=f"decode_language = {_text(decode)}  # whose token stands for it\n" if decode else "",
        license=_text(known.get("license") or PLACEHOLDERS["license"]),
        authors=", ".join(map(_text, known.get("authors") or [PLACEHOLDERS["author"]])),
        base_model=_text(base_model),
        parents=_PARENTS.get(method, ""),
        train=_text(known.get("train", f"data/{own}/train")),
        dev=f"dev = {_text(dev)}\n"
        if dev
        else '# dev = "…"                    # its loss is measured after each epoch\n',
        data_license=f"license = {_text(data_license)}\n" if data_license else '# license = "…"\n',
        lora="" if full else _LORA.format(rank=8 if mini else 32),
        rate=("1e-3" if mini else "1e-5") if full else ("2e-3" if mini else "1e-4"),
        audio_length="batch" if mini else "chunk",
        augment="true" if mini else "false",
    )


def _text(value: str) -> str:
    """Return a string as TOML writes it."""
    return json.dumps(value, ensure_ascii=False)
