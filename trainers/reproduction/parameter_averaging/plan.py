"""The plan: every cell of some tables, in order.

How many optimiser steps an expert is trained for is learned first: fine-tuning at growing steps, of which the
fewest are taken from which on the original domain is so much worse. Until then the steps are a question mark
in the names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from math import inf, isfinite
from typing import Any

from adapter_hub.evaluation.forgetting import relative_increase
from adapter_hub.trainers.reproduction.cells import CHOICE, Cell, Outcomes, Plan
from adapter_hub.trainers.reproduction.choices import Choice
from adapter_hub.trainers.reproduction.parameter_averaging.settings import (
    THREE,
    Settings,
)
from adapter_hub.trainers.reproduction.parameter_averaging.systems import BASE, FULL, LORA, Work

STEPS = "steps"  # the choice
ORIGINAL_WEIGHT = 4  # table VIII: one component counts four times
ORACLE = "oracle"  # a row that is read off others: the domain's LoRA, or the base model


def plan(settings: Settings, tables: Sequence[int], outcomes: Outcomes) -> Plan[Work]:
    """Return the cells of these tables, and the steps that the growing trainings decide.

    Args:
        settings: sizes and grids.
        tables: some of `TABLES`.
        outcomes: of finished cells.
    """
    growth = Planner(settings, None).growth()
    choice = chosen_steps(settings, growth, outcomes)
    choices, hopeless = ({STEPS: choice} if choice else {}), ""
    if choice is None and all(cell.name in outcomes for cell in growth):
        hopeless = (
            "the most steps in growth.steps do not make the original domain "
            f"{settings.growth.forgetting:.0%} worse; "
            "try more steps or a higher peak_learning_rate with another --out"
        )
    planner = Planner(settings, int(choice.rate) if choice else None)
    return Plan(planner.all_cells(rows_of(settings, tables)), choices, hopeless)


def rows_of(settings: Settings, tables: Sequence[int]) -> list[str]:
    """Return the rows of some tables, each once.

    Args:
        settings: with the domains and rounds that there are.
        tables: some of `TABLES`.
    """
    found: dict[str, None] = {"pretrained": None}
    for table in tables:
        found |= dict.fromkeys(settings.rows(table))
    if found.pop(ORACLE, ORACLE) is None:
        found |= dict.fromkeys(f"lora-{domain}" for domain in settings.names)
    return list(found)


def chosen_steps(settings: Settings, growth: Sequence[Cell[Work]], outcomes: Outcomes) -> Choice | None:
    """Return the fewest steps from which on the original domain is as much worse as the settings ask for.

    From which on: a short training may pass the mark by chance, and a longer one fall below it again.

    Args:
        settings: with the grid.
        growth: the base model on the dev sets, then the trainings at growing steps.
        outcomes: of finished cells; a training that diverged has forgotten enough, but is not taken.
    """
    first, *trainings = (outcomes.get(cell.name) for cell in growth)
    if first is None or None in trainings:
        return None
    before, dev = sum(first["values"].values()), {}
    for steps, outcome in zip(settings.growth.steps, trainings, strict=True):
        assert outcome is not None
        values = {} if outcome.get("diverged") else outcome["dev"]
        forgotten = relative_increase(before, sum(values.values())) / 100 if values else inf
        dev[float(steps)] = {"original": forgotten}
    tried = {steps: values["original"] for steps, values in dev.items()}
    enough = list(takewhile(lambda s: tried[s] >= settings.growth.forgetting, reversed(tried)))
    fewest = [steps for steps in reversed(enough) if isfinite(tried[steps])]
    return Choice(STEPS, fewest[0], tried, dev, "steps") if fewest else None


class Planner:
    """Builds the cells of a plan; equal names are one cell."""

    def __init__(self, settings: Settings, steps: int | None) -> None:
        self.settings, self.steps = settings, steps
        self.cells: dict[str, Cell[Work]] = {}

    def growth(self) -> list[Cell[Work]]:
        """Return the base model on the dev sets, and the trainings that decide about the steps."""
        first = self.settings.training.random_seeds[0]
        sets, costs = self.settings.original.dev_sets, self.settings.effort
        effort = costs.cell + costs.utterance * len(sets) * self.settings.original.dev
        needs = ("speech/original", *self._base())
        cells = [Cell("dev/pretrained", "test", Work(domains=sets), needs, effort)]
        for steps in self.settings.growth.steps:
            cell = self._training(f"growth/steps-{steps}", ("accent",), first, steps=steps, dev=True)
            cells.append(replace(cell, needs=(*cell.needs, "speech/original")))
        return cells

    def all_cells(self, rows: Sequence[str]) -> list[Cell[Work]]:
        """Return speech, growing trainings, and the models and tests of some rows.

        Args:
            rows: by their names in `paper.toml`.
        """
        if self._base():
            self._add(Cell(BASE, "base model", Work(), (), self.settings.effort.cell))
        for name in (*self.settings.names, "original"):
            self._add(Cell(f"speech/{name}", "speech", Work((name,)), (), 20.0))
        for cell in self.growth():
            self._add(cell)
        for seed in self.settings.training.random_seeds:
            for row in rows:
                self._test(row, seed)
        return list(self.cells.values())

    def _base(self) -> tuple[str, ...]:
        """Return the need of whatever starts from the base model: the cell that cuts its encoder's input."""
        return (BASE,) if self.settings.encoder_seconds else ()

    def model(self, row: str, seed: int) -> Cell[Work]:
        """Return the cell that makes a row's model, with all that it needs added.

        Args:
            row: any but `pretrained`.
            seed: of its trainings.
        """
        training, domains = self.settings.training, self.settings.names
        if domains[::-1] == THREE:  # table VI is of the same three
            row = {"three-aode": "aode", "three-sequential": "sequential-back"}.get(row, row)
        kind, _, rest = row.partition("-")
        alone: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
            "rate-low": (("fast",), {"rate": training.low_learning_rate}),
            "frozen": (("fast",), {"frozen": True, "decay": 1.0}),
            "combined": (domains, {}),
            "combined-lora": (domains, {"method": LORA}),
            "resampled": (domains, {"exponent": 0.0}),
        }
        if kind in ("ft", LORA):
            alone[row] = (rest,), {"method": LORA if kind == LORA else FULL}
        elif kind == "decay":
            alone[row] = ("accent",), {"decay": float(rest)}
        if row == "rate-high":
            return self.model("ft-fast", seed)
        if kind == "decay" and float(rest) == training.layer_decay:
            return self.model("ft-accent", seed)
        if row in alone:
            of, how = alone[row]
            return self._add(self._training(row, of, seed, **how))
        if "sequential" in row:
            order = THREE if kind == "three" else domains[::-1] if rest else domains
            return self._sequence(row, order, seed)
        return self._average(row, seed)

    def _sequence(self, row: str, order: Sequence[str], seed: int) -> Cell[Work]:
        """Train on one domain after the other."""
        cell = self.model(f"ft-{order[0]}", seed)
        for place, domain in enumerate(order[1:], start=2):
            cell = self._add(self._training(f"{row}-{place}", (domain,), seed, start=cell.name))
        return cell

    def _average(self, row: str, seed: int) -> Cell[Work]:
        """Average experts; with weights as the row's name says."""
        method, last = "mean", 1
        domains: tuple[str, ...] = THREE if row.startswith("three") else self.settings.names
        if row.endswith("extreme"):
            method = row
        elif row.startswith("x4-"):
            last = self.settings.rounds
        elif row.startswith(("aode-2", "aode-3")):
            last = int(row[5])
        shares = dict.fromkeys(domains, 1 / len(domains))
        if row.endswith("-original") and not row.startswith("x4"):
            shares = dict.fromkeys(domains, 1 / (len(domains) + 1))
        elif row.startswith("x4-"):
            parts = len(domains) + ORIGINAL_WEIGHT
            shares = {d: (ORIGINAL_WEIGHT if row == f"x4-{d}" else 1) / parts for d in domains}
        experts = {domain: self._round(domain, last, seed, row == "aode-lora") for domain in domains}
        components = tuple((experts[domain].name, shares[domain]) for domain in domains)
        needs = tuple(name for name, _ in components)
        work = Work(method=method, random_seed=seed, components=components)
        return self._add(
            Cell(f"average/{row}/seed-{seed}", "average", work, needs, self.settings.effort.cell)
        )

    def _round(self, domain: str, number: int, seed: int, lora: bool) -> Cell[Work]:
        """Return the expert of a domain in a round; from the second on it starts from the last average."""
        if number == 1:
            return self.model(f"lora-{domain}" if lora else f"ft-{domain}", seed)
        start = self.model("aode" if number == 2 else f"aode-{number - 1}", seed)
        return self._add(self._training(f"round-{number}-{domain}", (domain,), seed, start=start.name))

    def _training(self, label: str, domains: tuple[str, ...], seed: int, **how: Any) -> Cell[Work]:
        """Return a training, which is not added; on several domains it has the steps of all their experts.

        Args:
            label: begins its name.
            domains: trained on.
            seed: of the training.
            how: fields of `Work` that differ from an expert's.
        """
        training = self.settings.training
        work = Work(domains, FULL, rate=training.peak_learning_rate, decay=training.layer_decay)
        if how.get("method") == LORA:
            work = replace(work, rate=training.lora_learning_rate, decay=1.0)
        work = replace(work, random_seed=seed, **how)
        needs = [f"speech/{domain}" for domain in domains]
        needs += [work.start] if work.start else self._base()
        name = f"{label}/seed-{seed}"
        if work.steps is None:
            name = f"{label}/steps-{self.steps or '?'}/seed-{seed}"
            work = replace(work, steps=self.steps * len(domains) if self.steps else None)
            needs.append(CHOICE + STEPS)
        costs, steps = self.settings.effort, work.steps or self.settings.growth.steps[-1]
        effort = costs.cell + costs.step * steps
        return Cell(name, "training", work, tuple(needs), effort)

    def _test(self, row: str, seed: int) -> None:
        """Add the test of a row's model on all sets."""
        name, of = f"test/{row}/seed-{seed}", None
        if row == "pretrained":
            name = "test/pretrained"
        else:
            of = self.model(row, seed).name
        original, costs = self.settings.original, self.settings.effort
        count = (
            sum(domain.test for domain in self.settings.domains.values()) + original.clean + original.other
        )
        effort = costs.cell + costs.utterance * count
        speech = (f"speech/{name}" for name in (*self.settings.names, "original"))
        needs = (CHOICE + STEPS, *speech, *self._base())
        seed = 0 if of is None else seed
        work = Work(domains=self.settings.sets, random_seed=seed, of=of)
        self._add(Cell(name, "test", work, (*needs, of) if of else needs, effort))

    def _add(self, cell: Cell[Work]) -> Cell[Work]:
        return self.cells.setdefault(cell.name, cell)


def tests_of(cells: Sequence[Cell[Work]]) -> Mapping[str, list[Cell[Work]]]:
    """Return the tests of each row.

    Args:
        cells: of a plan.
    """
    found: dict[str, list[Cell[Work]]] = {}
    for cell in cells:
        if cell.name.startswith("test/"):
            found.setdefault(cell.name.split("/")[1], []).append(cell)
    return found
