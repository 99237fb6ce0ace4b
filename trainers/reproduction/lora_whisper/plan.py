"""The plan: every cell of some tables, in order, with what the finished ones have decided.

    plan(settings, tables=(3, 4), outcomes={}).cells

What depends on a learning rate that is not chosen yet, or on a similarity that is not measured yet, is in
the plan already, with a question mark in its name: the number of cells is known from the start. Every test
set waits until every learning rate is chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import inf, isfinite
from statistics import fmean

from adapter_hub.trainers.reproduction.cells import CHOICE, Cell, Outcomes, Plan
from adapter_hub.trainers.reproduction.choices import Choice, choose
from adapter_hub.trainers.reproduction.lora_whisper.settings import SPLITS, Settings
from adapter_hub.trainers.reproduction.lora_whisper.systems import EXPANSION, SYSTEMS, TABLES, Work, rate_text

SPEECH, BASE, NEW, TESTS, ABLATION, SWEEP, LAST = range(7)  # phases
STEP_SECONDS = 0.2  # on one of two busy threads; only for the time left, and only at first
UTTERANCE_SECONDS = 3.0  # of synthesised speech
TEST_SECONDS, CELL_SECONDS = 0.06, 4.0  # an utterance; what a cell costs beside its steps


DIVERGED = (
    "every learning rate of {} diverged, so nothing can be tested; try lower peak_learning_rates with "
    "another --out, or look for broken audio with `adapter-hub data check`"
)


@dataclass(frozen=True)
class Known:
    """What has been learned so far.

    Attributes:
        rates: the chosen learning rate of each system.
        nearest: the most similar base language of each new one.
    """

    rates: dict[str, float] = field(default_factory=dict)
    nearest: dict[str, str] = field(default_factory=dict)


def plan(settings: Settings, tables: Sequence[int], outcomes: Outcomes) -> Plan[Work]:
    """Return the cells of these tables, and the learning rates that their dev errors decide.

    Args:
        settings: sizes and grids.
        tables: some of 2, 3, 4, 5.
        outcomes: of finished cells.
    """
    nearest = nearest_languages(settings, outcomes)
    grids: dict[str, list[Cell[Work]]] = {}
    for cell in cells_of(settings, tables, Known({}, nearest)):
        if cell.kind == "training" and cell.work.dev:
            grids.setdefault(cell.work.system, []).append(cell)
    decided = decided_rates(grids, outcomes)
    choices = {system: c for system, c in decided.items() if isfinite(c.averages[c.rate])}
    cells = cells_of(settings, tables, Known(rates_of(choices), nearest))
    hopeless = ", ".join(system for system in decided if system not in choices)
    return Plan(cells, choices, DIVERGED.format(hopeless) if hopeless else "")


def decided_rates(grids: Mapping[str, Sequence[Cell[Work]]], outcomes: Outcomes) -> dict[str, Choice]:
    """Return the choice of every system whose grid is finished; E7, E8 and E9 get one rate.

    A rate of their own for each of the three would decide which of them looks best: near its optimum the
    error of a grid's rates differs by less than random seeds do. The one rate has the smallest average error
    over the three, and waits for all that are planned.

    Args:
        grids: the trainings with dev errors, by system.
        outcomes: of finished cells.
    """
    dev = {
        system: _dev(grid, outcomes)
        for system, grid in sorted(grids.items())
        if all(cell.name in outcomes for cell in grid)
    }
    found = {system: choose(system, errors) for system, errors in dev.items() if system not in EXPANSION}
    together = [system for system in EXPANSION if system in grids]
    if together and all(system in dev for system in together):
        merged: dict[float, dict[str, float]] = {}
        for system in together:
            for rate, errors in dev[system].items():
                named = {f"{system} {language}": error for language, error in errors.items()}
                merged.setdefault(rate, {}).update(named)
        rate = choose("", merged).rate
        found |= {system: replace(choose(system, dev[system]), rate=rate) for system in together}
    return found


def nearest_languages(settings: Settings, outcomes: Outcomes) -> dict[str, str]:
    """Return the most similar base language of each new one, where it is measured.

    Args:
        settings: which languages there are.
        outcomes: of finished cells.
    """
    names = {language: f"similarity/{language}" for language in settings.new_languages}
    return {language: outcomes[name]["nearest"] for language, name in names.items() if name in outcomes}


def rates_of(choices: Mapping[str, Choice]) -> dict[str, float]:
    """Return the chosen learning rate of each system."""
    return {system: choice.rate for system, choice in choices.items()}


def _dev(grid: Sequence[Cell[Work]], outcomes: Outcomes) -> dict[float, dict[str, float]]:
    """Return the dev errors of a grid by rate and language, the means over random seeds.

    They are infinite where a training diverged.
    """
    dev: dict[float, dict[str, list[float]]] = {}
    for cell in grid:
        assert cell.work.rate is not None
        outcome = outcomes[cell.name]
        found = dict.fromkeys(cell.work.dev, inf) if outcome.get("diverged") else outcome["dev"]
        for language, error in found.items():
            dev.setdefault(cell.work.rate, {}).setdefault(language, []).append(error)
    return {
        rate: {language: fmean(errors) for language, errors in by_language.items()}
        for rate, by_language in dev.items()
    }


def systems_of(tables: Iterable[int]) -> list[str]:
    """Return the systems that tables need, in order."""
    return sorted({system for table in tables for system in TABLES[table]})


def cells_of(settings: Settings, tables: Sequence[int], known: Known) -> list[Cell[Work]]:
    """Return the cells of these tables, sorted as they run.

    Args:
        settings: sizes and grids.
        tables: some of 2, 3, 4, 5.
        known: what has been chosen and measured so far.
    """
    planner = Planner(settings, tables, known)
    planner.measure()
    planner.grids()
    planner.tests()
    if 4 in tables:
        planner.repeats()
        planner.untouched()
    if 5 in tables:
        planner.ablation()
    if 2 in tables:
        planner.sweep()
    return [cell for _, cell in sorted(planner.cells.values(), key=lambda placed: placed[0])]


class Planner:
    """Builds the cells of a plan, each with its phase; equal names are one cell."""

    def __init__(self, settings: Settings, tables: Sequence[int], known: Known) -> None:
        self.settings, self.tables, self.known = settings, tables, known
        self.systems = systems_of(tables)
        self.trained = [system for system in self.systems if system != "E1"]
        self.cells: dict[str, tuple[int, Cell[Work]]] = {}

    def measure(self) -> None:
        """Add speech and similarity."""
        settings = self.settings
        used = settings.languages if set(self.tables) & {4, 5} else settings.base_languages
        for language in used:
            count = sum(settings.utterances(language, split) for split in SPLITS)
            speech = Cell(f"speech/{language}", "speech", Work(languages=(language,)), (), count * 0.04)
            self._add(SPEECH, speech)
        for language in used[len(settings.base_languages) :]:
            needs = (f"speech/{language}",)
            work = Work(languages=(language,))
            self._add(SPEECH, Cell(f"similarity/{language}", "similarity", work, needs, 8.0))

    def grids(self) -> None:
        """Add every system's trainings at every learning rate; of E7, E8 and E9 with every random seed."""
        for system in self.trained:
            phase = NEW if SYSTEMS[system].expansion or system == "E3" else BASE
            seeds = (
                self.settings.training.random_seeds if system in EXPANSION else (self.settings.first_seed,)
            )
            for rate, seed in product(self.settings.rates(system), seeds):
                for languages in self._models(system):
                    # what replays is made for old and new
                    dev = self.settings.languages if SYSTEMS[system].replay else languages
                    cell = self._training(system, languages, rate=rate, random_seed=seed)
                    needs = tuple(dict.fromkeys((*cell.needs, *_speech(dev))))
                    self._add(phase, replace(cell, needs=needs, work=replace(cell.work, dev=dev)))

    def tests(self) -> None:
        """Add the tests of what the grids trained; tables 2 and 5 add those that they show."""
        everything = self.settings.languages if 4 in self.tables else self.settings.base_languages
        if "E1" in self.systems:
            for language in everything:
                self._test(None, language, TESTS)
        for system in self.trained:
            if set(self.tables) & ({4} if system in EXPANSION else {3, 4}):
                for languages in self._models(system):
                    tested = languages
                    if SYSTEMS[system].together:
                        tested = everything if SYSTEMS[system].expansion else self.settings.base_languages
                    for language in tested:
                        self._test(self._training(system, languages), language, TESTS)

    def repeats(self) -> None:
        """Add the tests of the other random seeds of E7, E8 and E9."""
        for seed in self.settings.training.random_seeds[1:]:
            for system in EXPANSION:
                for languages in self._models(system):
                    self._test(self._training(system, languages, random_seed=seed), languages[0], TESTS)

    def ablation(self) -> None:
        """Add table 5: every new language from every base language, and from scratch."""
        base, first = self.settings.base_languages, self.settings.first_seed
        for seed in self.settings.training.random_seeds:
            phase = ABLATION if seed == first else LAST
            for language in self.settings.new_languages:
                nearest = self.known.nearest.get(language)
                # before the nearest one is known, some base language stands for it
                parents = base if nearest else (None, *base[1:])
                of = (language,)
                cells = [self._training("E7", of, random_seed=seed)]
                cells += [self._training("E8", of, random_seed=seed, parent=parent) for parent in parents]
                for cell in cells:
                    if cell.work.parent not in (None, nearest):  # those are in the grids
                        self._add(phase, cell)
                    self._test(cell, language, phase)

    def sweep(self) -> None:
        """Add table 2: ranks on one base language."""
        sweep = self.settings.rank_sweep
        for rank in sweep.ranks:
            cell = self._training("E4", (sweep.language,), rank=rank)
            if rank != self.settings.lora.rank:
                self._add(SWEEP, cell)
            self._test(cell, sweep.language, SWEEP)

    def untouched(self) -> None:
        """Add the proof that new adapters leave base languages alone."""
        adapters = [self._training(system, k).name for system in EXPANSION for k in self._models(system)]
        for language in self.settings.base_languages:
            own = self._training("E4", (language,)).name
            needs = (own, *adapters, *_speech(self.settings.languages), *self._choices())
            work = Work(languages=(language,), of=own)
            self._add(TESTS, Cell(f"untouched/{language}", "untouched", work, needs, 20.0))

    def _models(self, system: str) -> tuple[tuple[str, ...], ...]:
        """Return what each model of a system is trained on."""
        settings = self.settings
        languages = settings.new_languages if SYSTEMS[system].expansion else settings.base_languages
        return (languages,) if SYSTEMS[system].together else tuple((language,) for language in languages)

    def _choices(self) -> tuple[str, ...]:
        return tuple(CHOICE + system for system in self.trained)

    def _training(
        self,
        system: str,
        languages: tuple[str, ...],
        *,
        rate: float | None = None,
        random_seed: int | None = None,
        parent: str | None = None,
        rank: int | None = None,
    ) -> Cell[Work]:
        """Return a training, which is not added.

        Args:
            system: E2 to E9.
            languages: that one model is trained on.
            rate: None for the chosen one, which may not be known.
            random_seed: None for the first.
            parent: the base language that it starts from; None for the nearest, which may not be known.
            rank: None for that of the settings.
        """
        settings, how, start = self.settings, SYSTEMS[system], None
        seed = settings.first_seed if random_seed is None else random_seed
        needs, name = list(_speech(languages)), [system, *(languages if len(languages) == 1 else ())]
        if rate is None:
            rate = self.known.rates.get(system)
        if rate is None:
            needs.append(CHOICE + system)
        if how.from_similar:
            parent = parent or self.known.nearest.get(languages[0])
            needs.append(f"similarity/{languages[0]}")
            name.append(f"from-{parent or '?'}")
        if how.start:
            needs.append(CHOICE + how.start)
            if how.full or parent:
                begun = self._training(how.start, settings.base_languages if how.full else (str(parent),))
                start = begun.name
                if how.start in self.known.rates:
                    needs.append(start)
        replay = settings.base_languages if how.replay else ()
        needs += _speech(replay)
        if rank not in (None, settings.lora.rank):
            name.append(f"rank-{rank}")
        name += [f"rate-{rate_text(rate)}", f"seed-{seed}"]
        rank = 0 if how.full else rank or settings.lora.rank
        work = Work(system, languages, rate, seed, parent, rank, start, replay)
        return Cell("/".join(name), "training", work, tuple(dict.fromkeys(needs)), self._seconds(work))

    def _seconds(self, work: Work) -> float:
        settings = self.settings
        full, step, utterance = settings.full_size, STEP_SECONDS, UTTERANCE_SECONDS
        if full is not None:
            step, utterance = full.step_seconds, full.utterance_seconds
        rows = sum(settings.utterances(k, "train") for k in work.languages)
        rows += len(work.replay) * round(settings.replay.hours * 3600 / utterance)
        steps = -(-rows // settings.training.batch_size) * settings.epochs_of(work.system)
        return CELL_SECONDS + steps * step * (1.4 if work.system == "E9" else 1.0)

    def _test(self, cell: Cell[Work] | None, language: str, phase: int) -> None:
        """Add the test of a training, or of the base model; it waits for every choice."""
        work, of = Work("E1", (language,)), "E1"
        if cell:
            made, of = cell.work, cell.name
            work = Work(made.system, (language,), None, made.random_seed, made.parent, made.rank, of=of)
        needs = dict.fromkeys([*([of] if cell else []), *_speech((language,)), *self._choices()])
        seconds = CELL_SECONDS / 2 + self.settings.utterances(language, "test") * TEST_SECONDS
        self._add(phase, Cell(f"test/{of}/{language}", "test", work, tuple(needs), seconds))

    def _add(self, phase: int, cell: Cell[Work]) -> None:
        self.cells.setdefault(cell.name, (phase, cell))


def _speech(languages: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"speech/{language}" for language in languages)
