"""Normalisers: what counts as the same word, in scripts where it is easy to get wrong."""

from __future__ import annotations

import unicodedata

import pytest

from adapter_hub.errors import InvalidInputError
from adapter_hub.evaluation.scoring import count_errors
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
    ("language", "text", "wanted"),
    [
        *(
            ("uz", f"O{mark}zbek bog{mark}", "o'zbek bog'")
            for mark in "\u02bb\u2018\u2019'`\u02bc\u00b4\u201b"
        ),
        ("uz", "\u2018olma\u2019", "olma"),  # quoted
        *(
            ("haw", f"{mark}\u014clelo Hawai{mark}i", "'\u014dlelo hawai'i")
            for mark in "\u02bb\u2018'`\u02bd"
        ),
        ("sm", "o le \u2018ava", "o le 'ava"),
        ("af", "\u0149 man, 'n vrou", "'n man 'n vrou"),
        ("en", "\u2018quoted\u2019 o\u02bbclock", "quoted o'clock"),
        ("ja", "\uff15\uff10\uff05 \uff36\uff29\uff30 \uff76\uff9e\uff7d", "50 vip \u30ac\u30b9"),
        ("en", "' '' \u2018", ""),
    ],
)
def test_basic_2(language: str, text: str, wanted: str) -> None:
    assert normalise("basic/2", text, language) == wanted


def test_what_basic_1_says_of_apostrophes_and_widths_stays() -> None:
    assert normalise("basic/1", "\u2018\u014clelo", "haw") == "\u014dlelo"
    assert normalise("basic/1", "O\u02bbzbek", "uz") == "o\u02bbzbek"
    assert normalise("basic/1", "\uff15", "ja") == "\uff15"


def test_traditional_and_simplified_characters_are_the_same_only_where_that_is_asked_for() -> None:
    traditional, simplified = "\u6f22\u8a9e\u842c", "\u6c49\u8bed\u4e07"
    assert normalise("basic/2", traditional, "zh") != normalise("basic/2", simplified, "zh")
    for tag in ("zh", "zh-Hant-TW", "yue", "nan"):
        assert normalise("basic/2+simplified", traditional, tag) == simplified
    assert normalise("basic/2+simplified", traditional, "ja") == traditional
    words, characters = count_errors(traditional, simplified, "basic/2", "zh")
    assert (words.errors, characters.errors) == (1, 3)
    assert count_errors(traditional, simplified, "basic/2+simplified", "zh")[1].errors == 0


@pytest.mark.parametrize("tag", ["wuu", "nan", "hak", "gan-Hant"])
def test_spaces_of_chinese_languages_do_not_count_since_basic_2(tag: str) -> None:
    assert primary_metric([tag]) == "cer"
    assert [
        count_errors("\u4e8c \u5341", "\u4e8c\u5341", name, tag)[1].errors for name in ("basic/1", "basic/2")
    ] == [1, 0]
    assert primary_metric([f"{tag.partition('-')[0]}-Latn"]) == "wer"


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [("hi", "हिंदी बोलता", "हिंदू बोलती"), ("th", "ได้", "ได่"), ("ar", "كَتَبَ", "كُتِبَ"), ("ta", "தமிழ்", "தமழ")],
)
def test_words_that_differ_in_marks_only_stay_different(language: str, one: str, other: str) -> None:
    for name in ("basic/1", "basic/2"):
        assert normalise(name, one, language) != normalise(name, other, language)


@pytest.mark.parametrize("name", list(NORMALISERS))
def test_normalising_twice_changes_nothing(name: str) -> None:
    for text in ("L’été, C'EST  fini!", "हिंदी।", "İ I", "'' 'a'b' –", "ﬁne ẞ"):
        once = normalise(name, text, "tr")
        assert normalise(name, once, "tr") == once


def test_an_unknown_normaliser_is_refused_with_the_choices() -> None:
    with pytest.raises(
        InvalidInputError, match="normaliser 'basic': expected one of basic/1, basic/2, basic/2"
    ):
        normalise("basic", "text", "en")


def test_languages_without_word_spaces_lead_with_the_character_error_rate() -> None:
    assert primary_metric(["da"]) == "wer"
    assert primary_metric(["da", "pl"]) == "wer"
    assert [primary_metric([tag]) for tag in ("zh-Hant", "yue", "ja", "th", "lo", "my", "km", "bo")] == [
        "cer"
    ] * 8
    assert primary_metric(["da", "ja"]) == "cer"
    assert has_word_spaces("ko")
