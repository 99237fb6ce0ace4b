"""Plots of a report, as SVG: equal numbers give equal files.

matplotlib is an extra: `pip install '.[plots]'` in the project's checkout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapter_hub.errors import MissingExtraError
from adapter_hub.files.writing import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREY = "#2b6cb0", "#dd6b20", "#a0aec0"
Numbers = Mapping[str, Any]  # the content of results.json
Plot = Callable[["Axes", Numbers], bool]  # draws, or returns that its numbers are missing


def draw(plots: Mapping[str, Plot], numbers: Numbers, folder: Path) -> list[Path]:
    """Draw the plots that there are numbers for; return the files.

    Args:
        plots: by the name of the file.
        numbers: of `results.json`.
        folder: where the plots go.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: PLC0415 - an extra, and slow to import
    except ImportError:
        raise MissingExtraError(
            "plots need matplotlib",
            "plots",
            "then `adapter-hub reproduce PAPER --report-only --out FOLDER`",
        ) from None
    matplotlib.use("svg")
    # equal numbers give equal files
    matplotlib.rcParams.update(
        {"svg.hashsalt": "adapter-hub", "svg.fonttype": "none", "font.size": 9, "axes.axisbelow": True}
    )
    drawn = []
    for name, plot in plots.items():
        path = folder / f"{name}.svg"
        if _save(plot, numbers, path):
            drawn.append(path)
        else:
            path.unlink(missing_ok=True)  # of an earlier report
    return drawn


def _save(plot: Plot, numbers: Numbers, path: Path) -> bool:
    from matplotlib import pyplot  # noqa: PLC0415

    figure, axes = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
    try:
        if not plot(axes, numbers):
            return False
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        drawing = BytesIO()
        figure.savefig(drawing, format="svg", metadata={"Date": None})
        write_atomically(path, drawing.getvalue())
        return True
    finally:
        pyplot.close(figure)


def bar(axes: Axes, x: int, average: Mapping[str, float], colour: str) -> None:
    """Draw a bar with its interval.

    Args:
        axes: where.
        x: its place.
        average: its `mean`, `low` and `high`, fractions.
        colour: of the bar.
    """
    mean = 100 * average["mean"]
    ends = [[mean - 100 * average["low"]], [100 * average["high"] - mean]]
    axes.bar(x, mean, width=0.6, color=colour, alpha=0.75)
    axes.errorbar(x, mean, yerr=ends, color="black", capsize=4, linewidth=1)
