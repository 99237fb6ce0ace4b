"""The plots of the report: errors by system, forgetting, ranks, initialisations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapter_hub.trainers.reproduction.drawing import BLUE, GREY, ORANGE, Numbers, bar

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _expansion(axes: Axes, numbers: Numbers) -> bool:
    """New languages' average error by system, with 95 % intervals, and every language as a dot."""
    found = {s: v for s, v in numbers["systems"].items() if "new" in v["averages"]}
    if not found:
        return False
    languages = numbers["settings"]["new_languages"]
    for x, values in enumerate(found.values()):
        bar(axes, x, values["averages"]["new"], BLUE)
        for i, language in enumerate(languages):
            mean = 100 * values["languages"][language]["mean"]
            place = x + 0.13 * (i - (len(languages) - 1) / 2)
            axes.plot(place, mean, "o", color="black", markersize=3)
            axes.annotate(
                language, (place, mean), (0, 3), textcoords="offset points", fontsize=6, ha="center"
            )
    axes.set_xticks(range(len(found)), list(found))
    axes.set_ylabel("error rate, % (WER; CER for zh, ja)")
    axes.set_title("New languages: average with 95 % interval, languages as dots")
    return True


def _forgetting(axes: Axes, numbers: Numbers) -> bool:
    """Base languages' average error before and after the expansion."""
    systems = numbers["systems"]
    rows = [(s, systems[s]["averages"].get("base")) for s in ("E2", "E5", "E6", "E4") if s in systems]
    known = [(s, average) for s, average in rows if average]
    if len(known) < 2:
        return False
    labels = {
        "E2": "E2 before",
        "E5": "E5 new only",
        "E6": "E6 replay",
        "E4": "E4 before and\nE7, E8, E9 after",
    }
    for x, (system, average) in enumerate(known):
        bar(axes, x, average, GREY if system == "E2" else BLUE if system == "E4" else ORANGE)
    axes.set_xticks(range(len(known)), [labels[s] for s, _ in known])
    axes.set_ylabel("error rate, %")
    axes.set_title("Base languages before and after the expansion")
    return True


def _ranks(axes: Axes, numbers: Numbers) -> bool:
    """Error by rank, ours and the paper's at four times the rank."""
    found = {int(rank): values for rank, values in numbers["ranks"].items()}
    if len(found) < 2:
        return False
    ranks = sorted(found)
    means = [100 * found[rank]["mean"] for rank in ranks]
    ends = [
        [m - 100 * found[rank]["low"] for rank, m in zip(ranks, means, strict=True)],
        [100 * found[rank]["high"] - m for rank, m in zip(ranks, means, strict=True)],
    ]
    axes.errorbar(ranks, means, yerr=ends, marker="o", capsize=3, color=BLUE, label="this run")
    paper = numbers["paper"]["table2"]
    quarter = ranks == [rank // 4 for rank in paper["ranks"]]
    if quarter or ranks == paper["ranks"]:
        label = "the paper, at four times the rank" if quarter else "the paper"
        axes.plot(ranks, paper["wer"], "s--", color=GREY, label=label)
    axes.set_xticks(ranks)
    axes.set_xlabel("rank")
    axes.set_ylabel(f"WER, % ({numbers['settings']['rank_sweep']['language']})")
    axes.set_title("Ranks")
    axes.legend(frameon=False)
    return True


def _initialisations(axes: Axes, numbers: Numbers) -> bool:
    """Table 5 as a heat map: change against training from scratch, in points."""
    rows = numbers["initialisations"]
    columns = ["scratch", *numbers["settings"]["base_languages"]]
    languages = [k for k in numbers["settings"]["new_languages"] if set(columns) <= set(rows.get(k, ()))]
    if not languages:
        return False
    changes = [[100 * (rows[k][c]["mean"] - rows[k]["scratch"]["mean"]) for c in columns] for k in languages]
    reach = max(0.1, *(abs(value) for row in changes for value in row))
    axes.imshow(changes, cmap="RdBu_r", vmin=-reach, vmax=reach, aspect="auto")
    for y, language in enumerate(languages):
        for x, column in enumerate(columns):
            nearest = numbers["nearest"].get(language) == column
            text = f"{100 * rows[language][column]['mean']:.1f}\n({changes[y][x]:+.1f})"
            weight = "bold" if nearest else "normal"
            colour = "white" if abs(changes[y][x]) > 0.7 * reach else "black"
            axes.text(x, y, text, ha="center", va="center", fontweight=weight, color=colour)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(languages)), languages)
    axes.set_title("Warm starts: error rate, % (points against scratch), nearest in bold")
    return True


PLOTS = {
    "new-languages": _expansion,
    "forgetting": _forgetting,
    "ranks": _ranks,
    "initialisations": _initialisations,
}
