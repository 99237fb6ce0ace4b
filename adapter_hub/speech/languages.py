"""Language tags, and which languages are written without word spaces.

>>> primary_metric(["da"]), primary_metric(["ja"]), primary_metric(["zh-Hant"])
('wer', 'cer', 'cer')
"""

from __future__ import annotations

from collections.abc import Iterable

from adapter_hub.formats.claims import MetricName

# spaces do not separate words, so a word error rate would measure how the writer uses spaces
WITHOUT_WORD_SPACES = frozenset({"zh", "cmn", "yue", "ja", "th", "lo", "my", "km", "bo"})


def primary_subtag(tag: str) -> str:
    """Return the language of a BCP 47 tag without script and region.

    >>> primary_subtag("zh-Hant-TW")
    'zh'
    """
    return tag.replace("_", "-").split("-", 1)[0].lower()


def has_word_spaces(tag: str) -> bool:
    """Tell whether the language of a BCP 47 tag separates its words by spaces."""
    return primary_subtag(tag) not in WITHOUT_WORD_SPACES


def primary_metric(tags: Iterable[str]) -> MetricName:
    """Return the main error rate: `cer` if one of the languages has no word spaces, else `wer`."""
    return "wer" if all(map(has_word_spaces, tags)) else "cer"
