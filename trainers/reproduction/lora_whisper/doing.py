"""What a worker does with one cell: render, measure, train, test."""

from __future__ import annotations

from collections.abc import Callable

from adapter_hub.base_model.finding import find_base_model
from adapter_hub.data.dataset import Dataset, read_dataset
from adapter_hub.evaluation.evaluating import EvaluationOptions
from adapter_hub.files.writing import write_atomically
from adapter_hub.formats.claims import EvaluationReport
from adapter_hub.model.base_model import load_base_model
from adapter_hub.trainers.data.sources import read_sources
from adapter_hub.trainers.makers.corpus.render import write_corpus
from adapter_hub.trainers.recipe import read_recipe
from adapter_hub.trainers.reproduction.cells import Cell, Outcome
from adapter_hub.trainers.reproduction.lora_whisper.recipes import data_recipe, speech_folder
from adapter_hub.trainers.reproduction.lora_whisper.settings import SPLITS, Settings, Split
from adapter_hub.trainers.reproduction.lora_whisper.systems import EXPANSION, Work
from adapter_hub.trainers.reproduction.lora_whisper.untouched import Neighbour, compare_beside
from adapter_hub.trainers.reproduction.paper import Workplace
from adapter_hub.trainers.reproduction.working import evaluate_cell, load_trained, train_cell
from adapter_hub.trainers.similarity import measure_similarity, ranked
from adapter_hub.transcription.transcriber import Transcriber


def _dataset(settings: Settings, place: Workplace, language: str, split: Split) -> Dataset:
    """Open a split of a language: synthesised, or on the Hub as the recipes name it."""
    if settings.full_size is None:
        return read_dataset(place.folder / "speech" / speech_folder(language), split)
    path = place.folder / "recipes" / f"data-{language}-{split}.toml"
    write_atomically(path, data_recipe(settings, language, split).encode())
    return read_sources(read_recipe(path), "train", place.cache, place.tell)[0].dataset


def _transcriber(settings: Settings, place: Workplace, training: str | None, language: str) -> Transcriber:
    """Load what a training made; None for the base model itself."""
    folder, _ = find_base_model(settings.base_model, settings.base_model_revision)
    return load_trained(place, training, language, str(folder))


def _evaluate(
    settings: Settings, place: Workplace, training: str | None, language: str, split: Split, name: str
) -> EvaluationReport:
    """Decode a split with what a training made."""
    decoding = settings.decoding
    beams = decoding.test_beams if split == "test" else decoding.dev_beams
    options = EvaluationOptions(language=language, beams=beams, batch_size=decoding.batch_size)
    transcriber = _transcriber(settings, place, training, language)
    return evaluate_cell(place, transcriber, _dataset(settings, place, language, split), options, name)


def _speech(settings: Settings, place: Workplace, cell: Cell[Work], _: str | None) -> Outcome:
    """Synthesise a language's speech, or fetch it, and measure it."""
    language, speech = cell.work.languages[0], settings.speech
    if speech is not None:
        sizes: dict[str, int] = {split: settings.utterances(language, split) for split in SPLITS}
        folder = place.folder / "speech" / speech_folder(language)
        write_corpus(folder, language, sizes, seed=speech.random_seed, progress=lambda *_: None)
    datasets = {split: _dataset(settings, place, language, split) for split in SPLITS}
    return {
        "hours": {split: sum(row.clip.seconds() for row in d.rows) / 3600 for split, d in datasets.items()},
        "utterances": {split: len(dataset.rows) for split, dataset in datasets.items()},
    }


def _similarity(settings: Settings, place: Workplace, cell: Cell[Work], _: str | None) -> Outcome:
    """Find the most similar base language (equation 4)."""
    measured = measure_similarity(
        load_base_model(
            settings.base_model,
            revision=settings.base_model_revision,
            device=place.device,
            cache=place.cache,
        ),
        _dataset(settings, place, cell.work.languages[0], "train"),
        among=settings.base_languages,
        segments=settings.similarity.segments,
        random_seed=settings.similarity.random_seed,
    )
    return {"similarity": measured.to_json(), "nearest": ranked(measured)[0]}


def _training(settings: Settings, place: Workplace, cell: Cell[Work], recipe: str | None) -> Outcome:
    """Train, publish and decode dev sets; diverging is an outcome of a rate that is tried, too."""
    assert recipe is not None
    outcome = train_cell(place, cell, recipe, may_diverge=bool(cell.work.dev))
    if outcome is None:
        return {"diverged": True, "dev": {}}
    dev = {}
    for language in cell.work.dev:
        name = f"dev-{cell.slug}-{language}.json"
        dev[language] = _evaluate(settings, place, cell.name, language, "dev", name).value
    return outcome | {"dev": dev}


def _test(settings: Settings, place: Workplace, cell: Cell[Work], _: str | None) -> Outcome:
    """Decode a test set."""
    name = f"{cell.slug}.json"
    report = _evaluate(settings, place, cell.work.of, cell.work.languages[0], "test", name)
    return {"value": report.value, "metric": report.primary, "report": name}


def _untouched(settings: Settings, place: Workplace, cell: Cell[Work], _: str | None) -> Outcome:
    """Compare a base language's outputs beside the base model and beside every new adapter."""
    language, of = cell.work.languages[0], cell.work.of
    assert of is not None
    own = _transcriber(settings, place, of, language)
    neighbours = []
    for name in cell.needs:
        system, _, rest = name.partition("/")
        if system in EXPANSION:
            new = rest.partition("/")[0]
            adapter = _transcriber(settings, place, name, new).adapter
            assert adapter is not None
            neighbours.append(Neighbour(name, adapter, new, _dataset(settings, place, new, "test")))
    assert own.adapter is not None
    return compare_beside(
        own.base,
        own.adapter,
        language,
        _dataset(settings, place, language, "test"),
        neighbours,
        utterances=settings.statistics.forgetting_utterances,
        beams=settings.decoding.test_beams,
    )


RUNNERS: dict[str, Callable[[Settings, Workplace, Cell[Work], str | None], Outcome]] = {
    "speech": _speech,
    "similarity": _similarity,
    "training": _training,
    "test": _test,
    "untouched": _untouched,
}
