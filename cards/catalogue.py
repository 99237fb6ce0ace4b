"""The catalogue as a Markdown table, and its place in a README.

with_catalogue(readme, registry.adapters)  # renders the table between the two markers
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from adapter_hub.cards.markdown import inline
from adapter_hub.cards.model_card import percent
from adapter_hub.errors import InvalidInputError

if TYPE_CHECKING:
    from adapter_hub.formats.registry_file import Score, VersionBlock

BEGIN, END = "<!-- catalogue: begin -->", "<!-- catalogue: end -->"
HEADINGS = ("adapter", "languages", "method", "rank", "from", "result on test", "size", "licence", "status")


def render_catalogue(adapters: Mapping[str, Mapping[str, VersionBlock]]) -> str:
    """Return a table with one row for every version, sorted by name and version.

    Args:
        adapters: `Registry.adapters`: name, then version, then block.
    """
    rows = [HEADINGS, ("---", "---", "---", "--:", "---", "---", "--:", "---", "---"), *_rows(adapters)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def with_catalogue(readme: str, adapters: Mapping[str, Mapping[str, VersionBlock]]) -> str:
    """Return `readme` with the text between the two markers replaced by the table.

    Args:
        readme: Markdown with both markers.
        adapters: name, then version, then block.

    Raises:
        InvalidInputError: the markers are not there, once each and in order.
    """
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in tail:
        raise InvalidInputError(f"the README needs one {BEGIN} and, below it, one {END}")
    return f"{head}{BEGIN}\n{render_catalogue(adapters)}{END}{tail}"


def _rows(adapters: Mapping[str, Mapping[str, VersionBlock]]) -> Iterator[tuple[str, ...]]:
    from packaging.version import Version  # noqa: PLC0415

    names = {
        block.digest: f"{name}@{version}"
        for name, versions in adapters.items()
        for version, block in versions.items()
    }
    for name in sorted(adapters):
        for version in sorted(adapters[name], key=Version):
            block = adapters[name][version]
            parents = [
                f"{parent.role} {names.get(parent.digest, parent.digest[:19])}" for parent in block.parents
            ]
            yield (
                f"`{name}@{version}`",
                ", ".join(inline(language) for language in block.languages),
                block.method,
                str(block.rank),
                ", ".join(parents),
                "; ".join(map(score_text, scores_on_test(block.scores))),
                f"{block.size / 1000:.0f} kB",
                inline(block.license),
                block.status,
            )


def scores_on_test(scores: tuple[Score, ...]) -> list[Score]:
    """Return the scores on a test split, or all of them if there is none."""
    return [score for score in scores if score.split == "test"] or list(scores)


def score_text(score: Score) -> str:
    """Return a score for a table's cell: metric, value, number of utterances, how it was decoded."""
    where = f"{inline(score.data)}, n={score.n}, {inline(score.decoding)}"
    return f"{score.metric.upper()} {percent(score.value)} ({where})"
