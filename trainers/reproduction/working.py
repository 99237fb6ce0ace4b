"""What a worker does with one cell: render, measure, train, publish, evaluate.

Everything goes through the project's own functions, the ones behind `train`, `publish` and `evaluate`, on a
registry and a store of the run's own.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_hub.artifact.folder import Artifact
from adapter_hub.base_model.finding import find_base_model
from adapter_hub.data.dataset import Dataset, read_dataset
from adapter_hub.errors import DivergedError
from adapter_hub.evaluation.evaluating import EvaluationOptions, evaluate
from adapter_hub.exchange import Places, publish
from adapter_hub.files.writing import write_atomically
from adapter_hub.formats.claims import EvaluationReport
from adapter_hub.formats.reference import BASE_MODEL
from adapter_hub.model.base_model import load_base_model
from adapter_hub.registry.file import FileRegistry
from adapter_hub.reporting import Tell
from adapter_hub.stores.cache import Cache
from adapter_hub.stores.folder import FolderStore
from adapter_hub.trainers.data.sources import read_sources
from adapter_hub.trainers.makers.corpus.render import write_corpus
from adapter_hub.trainers.recipe import read_recipe
from adapter_hub.trainers.reproduction.cells import Cell, slug_of
from adapter_hub.trainers.reproduction.full_size import data_recipe
from adapter_hub.trainers.reproduction.recipes import METHODS, adapter_ref, speech_folder
from adapter_hub.trainers.reproduction.settings import EXPANSION, SPLITS, Settings, Split
from adapter_hub.trainers.reproduction.untouched import Neighbour, compare_beside
from adapter_hub.trainers.similarity import measure_similarity, ranked
from adapter_hub.trainers.training import train
from adapter_hub.transcription.opening import load
from adapter_hub.transcription.transcriber import Transcriber

Outcome = dict[str, Any]


@dataclass(frozen=True)
class Workplace:
    """The folder of a run, as a worker sees it.

    Attributes:
        folder: of the run.
        settings: of the run.
        device: torch's name; None for a GPU if there is one.
        tell: receives lines of progress.
    """

    folder: Path
    settings: Settings
    device: str | None
    tell: Tell

    @property
    def registry(self) -> FileRegistry:
        """The run's registry, read anew: other workers publish, too."""
        return FileRegistry(self.folder / "registry.json")

    @property
    def cache(self) -> Path:
        """Where pulled adapters and remembered digests are."""
        return self.folder / "cache"

    def dataset(self, language: str, split: Split) -> Dataset:
        """Open a split of a language: synthesised, or on the Hub as the recipes name it."""
        if self.settings.full_size is None:
            return read_dataset(self.folder / "speech" / speech_folder(language), split)
        path = self.folder / "recipes" / f"data-{language}-{split}.toml"
        write_atomically(path, data_recipe(self.settings, language, split).encode())
        return read_sources(read_recipe(path), "train", self.cache, self.tell)[0].dataset

    @property
    def base_folder(self) -> str:
        """The base model's folder, where its revision is the right one."""
        settings = self.settings
        return str(find_base_model(settings.base_model, settings.base_model_revision)[0])

    def trained(self, training: str) -> Path:
        """What a training cell makes."""
        return self.folder / "trained" / slug_of(training)

    def run(self, cell: Cell, recipe: str | None) -> Outcome:
        """Do a cell's work and return what shall be remembered of it."""
        return RUNNERS[cell.kind](self, cell, recipe)

    def transcriber(self, training: str | None, language: str) -> Transcriber:
        """Load what a training made; None for the base model itself."""
        places: dict[str, Any] = {
            "registry": str(self.folder / "registry.json"),
            "cache": str(self.cache),
            "device": self.device,
            "language": language,
        }
        if training is None:
            return load(BASE_MODEL, base_model=self.base_folder, **places)
        if self.trained(training).joinpath("adapter.json").is_file():
            return load(adapter_ref(training), **places)
        return load(BASE_MODEL, base_model=str(self.trained(training)), **places)

    def evaluate(
        self, training: str | None, language: str, split: Split, beams: int, out: Path
    ) -> EvaluationReport:
        """Decode a split and write the report to `out`."""
        options = EvaluationOptions(
            language=language, beams=beams, batch_size=self.settings.decoding.batch_size
        )
        report = evaluate(self.transcriber(training, language), self.dataset(language, split), options)
        write_atomically(out, report.to_bytes())
        return report


def _speech(place: Workplace, cell: Cell, _: str | None) -> Outcome:
    """Synthesise a language's speech, or fetch it, and measure it."""
    language, settings = cell.work.languages[0], place.settings.speech
    if settings is not None:
        sizes: dict[str, int] = {split: place.settings.utterances(language, split) for split in SPLITS}
        folder = place.folder / "speech" / speech_folder(language)
        write_corpus(folder, language, sizes, seed=settings.random_seed, progress=lambda *_: None)
    datasets = {split: place.dataset(language, split) for split in SPLITS}
    return {
        "hours": {split: sum(row.clip.seconds() for row in d.rows) / 3600 for split, d in datasets.items()},
        "utterances": {split: len(dataset.rows) for split, dataset in datasets.items()},
    }


def _similarity(place: Workplace, cell: Cell, _: str | None) -> Outcome:
    settings = place.settings
    measured = measure_similarity(
        load_base_model(
            settings.base_model,
            revision=settings.base_model_revision,
            device=place.device,
            cache=place.cache,
        ),
        place.dataset(cell.work.languages[0], "train"),
        among=settings.base_languages,
        segments=settings.similarity.segments,
        random_seed=settings.similarity.random_seed,
    )
    return {"similarity": measured.to_json(), "nearest": ranked(measured)[0]}


def _training(place: Workplace, cell: Cell, recipe: str | None) -> Outcome:
    """Train, publish and decode dev sets; of a rate that is tried, to diverge is an outcome, too."""
    assert recipe is not None
    path = place.folder / "recipes" / f"{cell.slug}.toml"
    write_atomically(path, recipe.encode())
    out = place.trained(cell.name)
    began = time.monotonic()
    try:
        made: Any = train(
            path,
            out,
            registries=(place.registry,),
            cache=Cache(place.cache),
            device=place.device,
            tell=place.tell,
        )
    except DivergedError as error:
        if not cell.work.dev:  # not of a grid: what was to be tested is missing
            raise
        place.tell(str(error))
        shutil.rmtree(out.with_name(f"{out.name}.training"), ignore_errors=True)
        return {"diverged": True, "dev": {}}
    seconds = time.monotonic() - began
    outcome: Outcome = {"seconds": round(seconds, 1)}
    if cell.work.system in METHODS:
        manifest = Artifact.open(out).manifest
        publish(out, Places(place.registry, FolderStore(place.folder / "store")))
        trained = [section.parameters for section in manifest.lora if section.role != "parent"]
        gate = manifest.gate.parameters if manifest.gate else 0
        outcome |= {"digest": made.digest, "parameters": sum(trained) + gate, "gate_parameters": gate}
        training = manifest.training
    else:
        model = load_base_model(out, device=place.device, cache=place.cache)
        outcome |= {"digest": model.digest, "parameters": sum(p.numel() for p in model.model.parameters())}
        training = made.training
    assert training is not None
    outcome |= {"steps": training.steps, "training_seconds": training.wall_seconds}
    outcome["dev"] = {}
    for language in cell.work.dev:
        report = place.evaluate(
            cell.name,
            language,
            "dev",
            place.settings.decoding.dev_beams,
            place.folder / "evaluations" / f"dev-{cell.slug}-{language}.json",
        )
        outcome["dev"][language] = report.value
    return outcome


def _test(place: Workplace, cell: Cell, _: str | None) -> Outcome:
    out = place.folder / "evaluations" / f"{cell.slug}.json"
    language = cell.work.languages[0]
    report = place.evaluate(cell.work.of, language, "test", place.settings.decoding.test_beams, out)
    return {"value": report.value, "metric": report.primary, "report": out.name}


def _untouched(place: Workplace, cell: Cell, _: str | None) -> Outcome:
    language, of = cell.work.languages[0], cell.work.of
    assert of is not None
    own = place.transcriber(of, language)
    neighbours = []
    for name in cell.needs:
        system, _, rest = name.partition("/")
        if system in EXPANSION:
            new = rest.partition("/")[0]
            adapter = place.transcriber(name, new).adapter
            assert adapter is not None
            neighbours.append(Neighbour(name, adapter, new, place.dataset(new, "test")))
    assert own.adapter is not None
    return compare_beside(
        own.base,
        own.adapter,
        language,
        place.dataset(language, "test"),
        neighbours,
        utterances=place.settings.statistics.forgetting_utterances,
        beams=place.settings.decoding.test_beams,
    )


RUNNERS: dict[str, Callable[[Workplace, Cell, str | None], Outcome]] = {
    "speech": _speech,
    "similarity": _similarity,
    "training": _training,
    "test": _test,
    "untouched": _untouched,
}
