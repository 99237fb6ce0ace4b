"""The plan: every cell of a reproduction, in the order of the queue.

    cells = plan(settings, tables=(3, 4), known=Known())

What depends on a learning rate that is not chosen yet, or on a similarity that is not measured yet, is in
the plan already, with a question mark in its name: the number of cells is known from the start. Every test
set waits until every learning rate is chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from adapter_hub.trainers.reproduction.cells import CHOICE, Cell, Kind, Known, Work, rate_text
from adapter_hub.trainers.reproduction.settings import EXPANSION, FULL, SPLITS, Settings

# the systems that a table's rows come from, and those that they start from
SYSTEMS = {
    2: ("E4",),
    3: ("E1", "E2", "E3", "E4"),
    4: ("E1", "E2", "E4", "E5", "E6", "E7", "E8", "E9"),
    5: ("E4", "E7", "E8"),
}
WARM = ("E8", "E9")
SPEECH, BASE, NEW, TESTS, ABLATION, SWEEP, LAST = range(7)  # phases
STEP_SECONDS = 0.2  # on one of two busy threads; only for the time left, and only at first
UTTERANCE_SECONDS = 3.0  # of synthesised speech
TEST_SECONDS, CELL_SECONDS = 0.06, 4.0  # an utterance; what a cell costs beside its steps


def systems_of(tables: Iterable[int]) -> list[str]:
    """Return the systems that tables need, in order."""
    return sorted({system for table in tables for system in SYSTEMS[table]})


def plan(settings: Settings, tables: Sequence[int], known: Known) -> list[Cell]:
    """Return the cells of these tables, sorted as they shall run.

    Args:
        settings: sizes and grids.
        tables: some of 2, 3, 4, 5.
        known: what has been chosen and measured so far.
    """
    planner = Planner(settings, tables, known)
    planner.measure()
    for system in planner.systems:
        if system != "E1":
            planner.grid(system)
    planner.tests()
    if 4 in tables:
        planner.repeats()
        planner.untouched()
    if 5 in tables:
        planner.ablation()
    if 2 in tables:
        planner.sweep()
    return sorted(planner.cells.values(), key=lambda cell: cell.phase)


class Planner:
    """Builds the cells of a plan; equal names are one cell."""

    def __init__(self, settings: Settings, tables: Sequence[int], known: Known) -> None:
        self.settings, self.tables, self.known = settings, tables, known
        self.systems = systems_of(tables)
        self.cells: dict[str, Cell] = {}

    def languages_of(self, system: str) -> tuple[tuple[str, ...], ...]:
        """Return what each model of a system is trained on."""
        base, new = self.settings.base_languages, self.settings.new_languages
        if system == "E2":
            return (base,)
        if system in ("E5", "E6"):
            return (new,)
        return tuple((k,) for k in (new if system in EXPANSION else base))

    def tested_on(self, system: str) -> tuple[str, ...]:
        """Return the languages whose test sets one model of a system is tested on."""
        if system in ("E1", "E5", "E6") and 4 in self.tables:
            return self.settings.languages
        return self.settings.base_languages

    def measure(self) -> None:
        """Add speech and similarity."""
        settings = self.settings
        used = settings.languages if set(self.tables) & {4, 5} else settings.base_languages
        for language in used:
            count = sum(settings.utterances(language, split) for split in SPLITS)
            self._add(f"speech/{language}", "speech", Work(languages=(language,)), (), SPEECH, count * 0.04)
        for language in used[len(settings.base_languages) :]:
            work = Work(languages=(language,))
            self._add(f"similarity/{language}", "similarity", work, (f"speech/{language}",), SPEECH, 8.0)

    def grid(self, system: str) -> None:
        """Add a system's trainings at every learning rate, with the first random seed."""
        phase = NEW if system in EXPANSION or system in ("E3", "E5", "E6") else BASE
        for rate in self.settings.rates(system):
            for languages in self.languages_of(system):
                dev = languages
                if system == "E6":  # it is made for old and new
                    dev = self.settings.languages
                self._training(system, languages, rate, phase, dev=dev)

    def tests(self) -> None:
        """Add the tests of what the grids trained."""
        for system in self.systems:
            if system == "E1":
                for language in self.tested_on("E1"):
                    self._test(None, language, TESTS, system="E1")
                continue
            if not set(self.tables) & ({4} if system in EXPANSION else {3, 4}):
                continue  # tables 2 and 5 add the tests that they show
            for languages in self.languages_of(system):
                cell = self._chosen(system, languages)
                several = system in ("E2", "E5", "E6")
                for language in self.tested_on(system) if several else languages:
                    self._test(cell, language, TESTS)

    def repeats(self) -> None:
        """Add the other random seeds of E7, E8 and E9."""
        for seed in self.settings.training.random_seeds[1:]:
            for system in EXPANSION:
                for languages in self.languages_of(system):
                    cell = self._chosen(system, languages, random_seed=seed)
                    self._add_cell(replace(cell, phase=TESTS))
                    self._test(cell, languages[0], TESTS)

    def ablation(self) -> None:
        """Add table 5: every new language from every base language, and from scratch."""
        base = self.settings.base_languages
        for seed in self.settings.training.random_seeds:
            phase = ABLATION if seed == self.settings.first_seed else LAST
            for language in self.settings.new_languages:
                # before the nearest one is known, some base language stands for it
                parents = base if language in self.known.nearest else (None, *base[1:])
                cells = [self._chosen("E7", (language,), random_seed=seed)]
                cells += [
                    self._chosen("E8", (language,), random_seed=seed, parent=parent) for parent in parents
                ]
                for cell in cells:
                    if not self._in_grid(cell):
                        self._add_cell(replace(cell, phase=phase))
                    self._test(cell, language, phase)

    def sweep(self) -> None:
        """Add table 2: ranks on one base language."""
        language, ranks = self.settings.rank_sweep.language, self.settings.rank_sweep.ranks
        for rank in ranks:
            cell = self._chosen("E4", (language,), rank=rank)
            if rank != self.settings.lora.rank:
                self._add_cell(replace(cell, phase=SWEEP))
            self._test(cell, language, SWEEP)

    def untouched(self) -> None:
        """Add the proof that new adapters leave base languages alone."""
        adapters = [
            self._chosen(system, languages) for system in EXPANSION for languages in self.languages_of(system)
        ]
        for language in self.settings.base_languages:
            own = self._chosen("E4", (language,))
            needs = (
                own.name,
                *(cell.name for cell in adapters),
                *(f"speech/{k}" for k in self.settings.languages),
                *self._choices(),
            )
            work = Work(languages=(language,), of=own.name)
            self._add(f"untouched/{language}", "untouched", work, needs, TESTS, 20.0)

    def _in_grid(self, cell: Cell) -> bool:
        """Whether a training at the chosen rate is one of its system's grid, whichever is chosen."""
        work = cell.work
        if work.random_seed != self.settings.first_seed:
            return False
        return work.system == "E7" or work.parent == self.known.nearest.get(work.languages[0])

    def _choices(self) -> tuple[str, ...]:
        return tuple(CHOICE + system for system in self.systems if system != "E1")

    def _chosen(
        self,
        system: str,
        languages: tuple[str, ...],
        *,
        random_seed: int | None = None,
        parent: str | None = None,
        rank: int | None = None,
    ) -> Cell:
        """Return a training at the chosen rate, which may not be known; it is not added."""
        seed = self.settings.first_seed if random_seed is None else random_seed
        return self._make(system, languages, self.known.rates.get(system), seed, parent, rank)

    def _training(
        self, system: str, languages: tuple[str, ...], rate: float, phase: int, *, dev: tuple[str, ...]
    ) -> None:
        cell = self._make(system, languages, rate, self.settings.first_seed, None, None)
        needs = tuple(dict.fromkeys((*cell.needs, *(f"speech/{k}" for k in dev))))
        self._add_cell(replace(cell, phase=phase, work=replace(cell.work, dev=dev), needs=needs))

    def _make(
        self,
        system: str,
        languages: tuple[str, ...],
        rate: float | None,
        seed: int,
        parent: str | None,
        rank: int | None,
    ) -> Cell:
        settings, needs = self.settings, [f"speech/{k}" for k in languages]
        name = [system, *languages] if len(languages) == 1 else [system]
        start: str | None = None
        replay: tuple[str, ...] = ()
        if rate is None:
            needs.append(CHOICE + system)
        if system in WARM:
            needs += [f"similarity/{languages[0]}", CHOICE + "E4"]
            parent = parent or self.known.nearest.get(languages[0])
            name.append(f"from-{parent or '?'}")
            if parent and "E4" in self.known.rates:
                needs.append(self._chosen("E4", (parent,)).name)
        if system in ("E5", "E6"):
            needs.append(CHOICE + "E2")
            start = self._chosen("E2", settings.base_languages).name
            if "E2" in self.known.rates:
                needs.append(start)
        if system == "E6":
            replay = settings.base_languages
            needs += [f"speech/{k}" for k in replay]
        if rank is not None and rank != settings.lora.rank:
            name.append(f"rank-{rank}")
        name += [f"rate-{rate_text(rate)}", f"seed-{seed}"]
        work = Work(
            system=system,
            languages=languages,
            rate=rate,
            random_seed=seed,
            parent=parent,
            rank=0 if system in FULL else rank or settings.lora.rank,
            start=start,
            replay=replay,
        )
        return Cell("/".join(name), "training", work, tuple(dict.fromkeys(needs)), 0, self._seconds(work))

    def _seconds(self, work: Work) -> float:
        settings = self.settings
        full, step, utterance = settings.full_size, STEP_SECONDS, UTTERANCE_SECONDS
        if full is not None:
            step, utterance = full.step_seconds, full.utterance_seconds
        rows = sum(settings.utterances(k, "train") for k in work.languages)
        rows += len(work.replay) * round(settings.replay.hours * 3600 / utterance)
        steps = -(-rows // settings.training.batch_size) * settings.epochs_of(work.system)
        return CELL_SECONDS + steps * step * (1.4 if work.system == "E9" else 1.0)

    def _test(self, cell: Cell | None, language: str, phase: int, system: str = "") -> None:
        """Add a test; it waits for every choice."""
        of = cell.name if cell else None
        work = Work(system=cell.work.system if cell else system, languages=(language,), of=of)
        if cell:
            work = replace(work, parent=cell.work.parent, random_seed=cell.work.random_seed)
            work = replace(work, rank=cell.work.rank)
        needs = (*([of] if of else []), f"speech/{language}", *self._choices())
        name = f"test/{of or system}/{language}"
        seconds = CELL_SECONDS / 2 + self.settings.utterances(language, "test") * TEST_SECONDS
        self._add(name, "test", work, needs, phase, seconds)

    def _add(
        self, name: str, kind: Kind, work: Work, needs: tuple[str, ...], phase: int, effort: float
    ) -> None:
        self._add_cell(Cell(name, kind, work, tuple(dict.fromkeys(needs)), phase, effort))

    def _add_cell(self, cell: Cell) -> None:
        self.cells.setdefault(cell.name, cell)
