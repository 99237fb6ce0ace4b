"""Normalisers: what counts as the same word, in scripts where it is easy to get wrong."""

from __future__ import annotations

import unicodedata

import pytest

from adapter_hub.errors import InvalidInputError
from adapter_hub.speech.languages import (
    has_word_spaces,
    primary_metric,
)
from adapter_hub.speech.normalisers import NORMALISERS, normalise


@pytest.mark.parametrize(
    ("language", "text", "wanted"),
    [
        ("en", "  Hello,   WORLD! ", "hello world"),
        ("en", "well-known 5%", "well known 5"),
        ("en", "It's 'quoted' \u2018too\u2019", "it's quoted too"),
        ("fr", "L\u2019\u00e9t\u00e9, c\u02bcest fini\u00a0!", "l'\u00e9t\u00e9 c'est fini"),
        ("fr", "e\u0301te\u0301", "\u00e9t\u00e9"),
        ("de", "STRASSE Straße", "strasse strasse"),
        ("tr", "İstanbul IŞIK", "istanbul ışık"),
        ("hi", "मैं हिंदी बोलता हूँ।", "मैं हिंदी बोलता हूँ"),
        ("th", "ได้ค่ะ ๆ", "ได้ค่ะ ๆ"),
        ("ar", "كِتَابٌ، نعم؟", "كِتَابٌ نعم"),
        ("fa", "می\u200cخواهم", "میخواهم"),
        ("yo", "ọjọ́", "ọjọ́"),
        ("ja", "二十一、コーヒー。", "二十一 コーヒー"),
    ],
)
def test_basic_1(language: str, text: str, wanted: str) -> None:
    assert normalise("basic/1", text, language) == unicodedata.normalize("NFC", wanted)


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [("hi", "हिंदी बोलता", "हिंदू बोलती"), ("th", "ได้", "ได่"), ("ar", "كَتَبَ", "كُتِبَ"), ("ta", "தமிழ்", "தமழ")],
)
def test_words_that_differ_in_marks_only_stay_different(language: str, one: str, other: str) -> None:
    assert normalise("basic/1", one, language) != normalise("basic/1", other, language)


@pytest.mark.parametrize("name", list(NORMALISERS))
def test_normalising_twice_changes_nothing(name: str) -> None:
    for text in ("L’été, C'EST  fini!", "हिंदी।", "İ I", "'' 'a'b' –", "ﬁne ẞ"):
        once = normalise(name, text, "tr")
        assert normalise(name, once, "tr") == once


def test_an_unknown_normaliser_is_refused_with_the_choices() -> None:
    with pytest.raises(InvalidInputError, match="normaliser 'basic': expected one of basic/1, none/1"):
        normalise("basic", "text", "en")


def test_languages_without_word_spaces_lead_with_the_character_error_rate() -> None:
    assert primary_metric(["da"]) == "wer"
    assert primary_metric(["da", "pl"]) == "wer"
    assert [primary_metric([tag]) for tag in ("zh-Hant", "yue", "ja", "th", "lo", "my", "km", "bo")] == [
        "cer"
    ] * 8
    assert primary_metric(["da", "ja"]) == "cer"
    assert has_word_spaces("ko")
