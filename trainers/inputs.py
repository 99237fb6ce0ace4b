"""The inputs of a training: recipe, base model, examples and parents, gathered before the first step."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapter_hub.artifact.folder import Artifact
from adapter_hub.base_model.families import WHISPER, refuse_lacking
from adapter_hub.errors import ConflictError
from adapter_hub.files.locks import held
from adapter_hub.files.writing import make_private
from adapter_hub.formats.canonical import canonical_bytes, sha256_hex
from adapter_hub.formats.manifest import Similarity
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.registry.contract import Registry
from adapter_hub.reporting import Tell
from adapter_hub.stores.cache import Cache
from adapter_hub.trainers.data.examples import PreparedSplit
from adapter_hub.trainers.data.features import FeaturePacks, FeatureStore
from adapter_hub.trainers.data.input_lengths import input_lengths, said
from adapter_hub.trainers.data.preparing import prepare, resampled
from adapter_hub.trainers.data.rows import RowRules
from adapter_hub.trainers.data.sources import Source, read_sources, rows_in_adapter_language
from adapter_hub.trainers.parents import find_parents, named_parents
from adapter_hub.trainers.recipe import RecipeFile

TELL_SECONDS = 5.0  # between two lines of progress while data is read


@dataclass(frozen=True)
class Inputs:
    """Everything that decides the result of a training.

    Attributes:
        file: the recipe.
        base: the loaded base model, which training does not change.
        train: examples to train on.
        dev: examples whose loss is measured after each epoch; None without.
        parents: by role, `seed` and `expert`.
        similarity: what was measured to choose parents.
        cache: the cache folder.
    """

    file: RecipeFile
    base: BaseModel
    train: PreparedSplit
    dev: PreparedSplit | None
    parents: Mapping[str, Artifact]
    similarity: tuple[Similarity, ...]
    cache: Path

    @property
    def key(self) -> str:
        """Name of the folder of checkpoints; other inputs have another one."""
        digests = [self.parents[role].digest for role in sorted(self.parents)]
        splits = [_split_key(split) for split in (self.train, self.dev) if split is not None]
        return sha256_hex(canonical_bytes([self.file.text, self.base.digest, splits, digests]))[:16]


def _split_key(split: PreparedSplit) -> str:
    """Return a digest of a split's rows in their order; `sha256` leaves out order and languages."""
    rows = [(row.id, row.language, row.tokens, row.weight, row.seconds) for row in split.examples]
    return sha256_hex(json.dumps([split.sha256, rows]).encode())


def gather(
    file: RecipeFile, registries: Sequence[Registry], cache: Cache, device: str | None, tell: Tell
) -> Inputs:
    """Read the data, load the base model and find the parents of a recipe.

    Args:
        file: the recipe.
        registries: where parents are searched, in order.
        cache: for features, data sets on the Hub and parents.
        device: of the base model, torch's name; None for a GPU if there is one.
        tell: receives lines of progress.

    Raises:
        NotFoundError, InvalidInputError: base model, data or parents that do not exist or cannot be used.
        IntegrityError: damaged files. AccessError, UnreachableError: of the Hub.
    """
    recipe = file.recipe
    named = named_parents(file, registries, cache)  # a mistyped one costs no minute of data and models
    revision = recipe.base_model.revision
    base = load_base_model(file.base_model, revision=revision, device=device, cache=cache.folder)
    refuse_lacking(base.family, recipe.asked())
    if recipe.decode_language is not None:
        base.check_languages([recipe.decode_language])
    sources = read_sources(file, "train", cache.folder, tell)
    dev_sources = read_sources(file, "dev", cache.folder, tell)
    parents, similarity = find_parents(
        file, base, rows_in_adapter_language(sources, file), registries, cache, named, tell
    )
    with _features(file, base, cache, tell) as features:
        train = _prepare("train", sources, base, file, features, tell)
        if recipe.data.sampling_exponent is not None:
            train = resampled(train, recipe.data.sampling_exponent)
        dev = _prepare("dev", dev_sources, base, file, features, tell) if dev_sources else None
    return Inputs(file, base, train, dev, parents, similarity, cache.folder)


@contextlib.contextmanager
def _features(file: RecipeFile, base: BaseModel, cache: Cache, tell: Tell) -> Iterator[FeatureStore]:
    """Open the features on disk; wait while another process computes those of the same data.

    Processes that train together (torchrun) would otherwise all compute them.
    """
    folder = cache.folder / "features"
    data = canonical_bytes([str(file.folder.resolve()), file.recipe.data.to_json()])
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a read-only cache: every process computes its own
            make_private(cache.folder)
            folder.mkdir(parents=True, exist_ok=True)
            lock, what = folder / f"{sha256_hex(data)[:16]}.lock", f"features in {folder}"
            try:
                stack.enter_context(held(lock, 0.0, what))
            except ConflictError:
                tell("waiting for another process that computes features of the same data")
                stack.enter_context(held(lock, -1.0, what))
        features = FeaturePacks(folder, base.processor.feature_extractor)
        try:
            yield features
        except KeyboardInterrupt:
            features.flush()  # what was computed before Ctrl-C is kept
            raise


def _prepare(
    split: str,
    sources: Sequence[Source],
    base: BaseModel,
    file: RecipeFile,
    features: FeatureStore,
    tell: Tell,
) -> PreparedSplit:
    told = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told > TELL_SECONDS:
            told = time.monotonic()
            tell(f"{split}: {done}/{total} utterances read")

    rules = RowRules.of(file.recipe)
    prepared = prepare(sources, base, rules, features=features, progress=progress)
    for source, record in zip(sources, prepared.sources, strict=True):
        tell(f"{split}: {record.utterances} utterances, {record.hours:.2f} h, {source.dataset.folder}")
    if split == "train" and base.family == WHISPER and prepared.examples:
        seconds = [example.seconds for example in prepared.examples]
        training = file.recipe.training
        lengths = input_lengths(seconds, rules.batch_size, base.chunk_seconds, training.input_seconds)
        tell(f"{split}: {said(lengths)}; the recipe has {training.audio_length!r}")
    for row in prepared.dropped:
        tell(f"{split}: dropped {row.id}: {row.reason}")
    return prepared
