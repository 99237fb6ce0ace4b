"""How the paper's systems are trained: the rows of its tables 3 and 4."""

from __future__ import annotations

from dataclasses import dataclass

from adapter_hub.trainers.recipe_tables import FULL_FINE_TUNING


@dataclass(frozen=True)
class Training:
    """How one system is trained.

    Attributes:
        method: of its recipes.
        expansion: on the new languages, not on the base ones.
        together: one model for all of its languages, not one for each.
        start: the system whose model it goes on from, or whose adapter of the most similar base language it
            starts from.
        replay: it is trained on a share of the base languages again.
    """

    method: str
    expansion: bool = False
    together: bool = False
    start: str | None = None
    replay: bool = False

    @property
    def full(self) -> bool:
        """Whether all of the model is trained."""
        return self.method == FULL_FINE_TUNING

    @property
    def from_similar(self) -> bool:
        """Whether it starts from the adapter of a base language."""
        return self.start is not None and not self.full


SYSTEMS = {
    "E2": Training(FULL_FINE_TUNING, together=True),
    "E3": Training(FULL_FINE_TUNING),
    "E4": Training("lora"),
    "E5": Training(FULL_FINE_TUNING, expansion=True, together=True, start="E2"),
    "E6": Training(FULL_FINE_TUNING, expansion=True, together=True, start="E2", replay=True),
    "E7": Training("lora", expansion=True),
    "E8": Training("warm-start", expansion=True, start="E4"),
    "E9": Training("expert-pair", expansion=True, start="E4"),
}  # E1 is the base model
EXPANSION = ("E7", "E8", "E9")  # the systems that leave the base languages alone; they share a grid

# the systems that a table's rows come from, and those that they start from
TABLES = {
    2: ("E4",),
    3: ("E1", "E2", "E3", "E4"),
    4: ("E1", "E2", "E4", "E5", "E6", "E7", "E8", "E9"),
    5: ("E4", "E7", "E8"),
}


@dataclass(frozen=True)
class Work:
    """What a cell does; fields that do not belong to its kind keep their defaults.

    Attributes:
        system: E1 to E9; the sweep of ranks is E4's.
        languages: trained on, tested on, rendered or measured.
        rate: peak learning rate; None as long as it is not chosen.
        random_seed: of the training.
        parent: the base language that E8, E9 and the ablation start from; None before it is known.
        rank: of the LoRA.
        start: the training whose model or adapter this one starts from.
        replay: base languages of which a share is trained on again.
        dev: languages whose dev sets are decoded after the training.
        of: the training that is tested.
    """

    system: str = ""
    languages: tuple[str, ...] = ()
    rate: float | None = None
    random_seed: int = 0
    parent: str | None = None
    rank: int = 0
    start: str | None = None
    replay: tuple[str, ...] = ()
    dev: tuple[str, ...] = ()
    of: str | None = None


def rate_text(rate: float | None) -> str:
    """Return a learning rate as names show it.

    Args:
        rate: None as long as it is not chosen.

    >>> rate_text(0.002), rate_text(0.00015), rate_text(None)
    ('2e-3', '1.5e-4', '?')
    """
    if rate is None:
        return "?"
    mantissa, _, exponent = f"{rate:.6e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"
