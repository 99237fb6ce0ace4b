"""Languages as people write them lead to Whisper's own codes; errors name the nearest."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_whisper import write_speech
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

from adapter_hub.errors import InvalidInputError
from adapter_hub.exchange.importing import languages_of
from adapter_hub.speech.languages import language_tag, nearest_languages, whisper_code
from adapter_hub.transcription.opening import load


def test_every_name_and_code_of_whisper_is_known() -> None:
    for code, name in LANGUAGES.items():
        assert whisper_code(code) == whisper_code(name) == whisper_code(f" {name.title()} ") == code
    missing = {name for name, code in TO_LANGUAGE_CODE.items() if whisper_code(name) != code}
    assert missing <= {"moldavian"}


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("English", "en"), ("en-US", "en"), ("en_gb", "en"), ("eng", "en"), ("zh-TW", "zh"),
        ("nb", "no"), ("nb-NO", "no"), ("nn", "nn"), ("Norwegian", "no"), ("fil", "tl"), ("tl", "tl"),
        ("jv", "jw"), ("jw", "jw"), ("iw", "he"), ("ger", "de"), ("deu", "de"), ("Haitian  Creole", "ht"),
        ("cmn-Hans", "zh"), ("mdw", "mdw"),
    ],
)  # fmt: skip
def test_what_people_write_leads_to_whispers_code(written: str, code: str) -> None:
    assert whisper_code(written) == code


def test_a_name_becomes_a_tag_and_a_tag_stays_as_it_is() -> None:
    assert [language_tag(text) for text in ("English", "JAVANESE", "nb-NO", "mdw")] == [
        "en",
        "jv",
        "nb-NO",
        "mdw",
    ]
    found = languages_of(["Danish", "nb", "fil"])
    assert [(item.tag, item.decode_language) for item in found] == [("da", "da"), ("nb", "no"), ("fil", "tl")]


@pytest.mark.parametrize(
    ("text", "near"),
    [("danisch", "da (Danish)"), ("englsh", "en (English)"), ("portugese", "pt (Portuguese)")],
)
def test_an_error_names_the_nearest_language_and_not_all(text: str, near: str) -> None:
    said = nearest_languages(text, list(LANGUAGES))
    assert said.startswith(near)
    assert len(said) < 80
    assert nearest_languages("qqqqqq", list(LANGUAGES)) == "one of 100 languages, like en, zh, de"


def test_a_name_is_transcribed_as_its_tag_is(base_folder: Path, tmp_path: Path) -> None:
    clip = write_speech(tmp_path / "a.wav")
    places = {"base_model": str(base_folder), "cache": str(tmp_path)}
    (named,) = load("base-model", language="Danish", **places).transcribe(clip)
    (tagged,) = load("base-model", **places).transcribe([clip], languages=["danish"])
    assert (named.language, named.tokens) == ("da", tagged.tokens)
    assert tagged.language == "da"
    with pytest.raises(InvalidInputError, match=r"language 'danisch': .* \(nearest: da \(Danish\)"):
        load("base-model", language="danisch", **places)
