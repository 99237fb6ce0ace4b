"""The plot of the report: what a system has learned against what it has forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapter_hub.trainers.reproduction.drawing import BLUE, GREY, ORANGE, Numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _trade(axes: Axes, numbers: Numbers) -> bool:
    """Average error on all sets against forgetting, one dot for each system of table VII."""
    shown = {*numbers["paper"]["table7"], "aode-2-original"}
    known = {
        row: (values["forgetting"], values["average"])
        for row, values in numbers["systems"].items()
        if row in shown and None not in (values["forgetting"], values["average"])
    }
    if len(known) < 2:
        return False
    for row, (forgotten, average) in known.items():
        averaged = row.startswith("aode")
        colour = BLUE if averaged else GREY if row in ("pretrained", "oracle") else ORANGE
        axes.plot(forgotten, 100 * average, "o", color=colour, markersize=4)
        axes.annotate(row, (forgotten, 100 * average), (3, 2), textcoords="offset points", fontsize=6)
    axes.set_xlabel("forgetting, %")
    axes.set_ylabel("average error rate, %")
    axes.set_title("Averages (blue), trainings (orange)")
    return True


PLOTS = {"forgetting": _trade}
