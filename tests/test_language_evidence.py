"""The language of short phrases: what those of a recording tell together; a narrower choice never hurts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_whisper import speech

from adapter_hub.model.base_model import BaseModel
from adapter_hub.transcription.evidence import LATEST, Evidence
from adapter_hub.transcription.routing import LanguageRouter, Probabilities
from adapter_hub.transcription.transcriber import Transcriber

# what whisper-base finds in phrases of one to three words: the ten likeliest languages of each
VECTORS = Path(__file__).parent / "vectors" / "short_phrases.json"
Phrases = list[tuple[float, Probabilities]]


@pytest.fixture(scope="module")
def heard() -> dict[str, Phrases]:
    found: dict[str, Phrases] = json.loads(VECTORS.read_text())
    codes = sorted({code for phrases in found.values() for _, row in phrases for code in row})
    return {
        language: [(seconds, dict.fromkeys(codes, 0.0) | row) for seconds, row in phrases]
        for language, phrases in found.items()
    }


def likeliest(rows: list[Probabilities]) -> list[str]:
    return [max(row, key=lambda code: row[code]) for row in rows]


def right(rows: list[Probabilities], language: str) -> float:
    return likeliest(rows).count(language) / len(rows)


def test_phrases_of_one_speaker_are_identified_together(heard: dict[str, Phrases]) -> None:
    spanish = heard["es"]
    assert right([row for _, row in spanish], "es") < 0.5
    pooled = Evidence().pool(spanish)
    assert right(pooled, "es") > 0.95
    assert all(sum(row.values()) == pytest.approx(1.0) for row in pooled)
    assert right(Evidence().pool(heard["en"]), "en") == 1.0


@pytest.mark.parametrize("among", [("es", "en"), ("pt", "es"), ("es", "it", "pl", "pt")], ids=",".join)
@pytest.mark.parametrize("count", [2, 3, 5, 10, 31])
def test_naming_the_languages_never_makes_it_worse(
    among: tuple[str, ...], count: int, heard: dict[str, Phrases]
) -> None:
    spanish = heard["es"]
    parts = [spanish[start : start + count] for start in range(0, len(spanish) - count + 1, count)]
    free = [row for part in parts for row in Evidence().pool(part)]
    named = [row for part in parts for row in Evidence().pool(part, among)]
    assert set(named[0]) == set(among)
    assert right(named, "es") >= right(free, "es")


def test_two_languages_in_one_recording_are_both_kept(heard: dict[str, Phrases]) -> None:
    mixed = [phrase for pair in zip(heard["es"], heard["en"], strict=False) for phrase in pair]
    for among in ((), ("es", "en")):
        pooled = Evidence().pool(mixed, among)
        assert right(pooled[::2], "es") > right([row for _, row in mixed[::2]], "es")
        assert right(pooled[1::2], "en") > 0.9


def test_a_clear_phrase_switches_and_a_doubtful_one_does_not() -> None:
    spoken = [(2.0, {"da": 0.9, "pl": 0.1})] * 10
    clear, doubtful = {"da": 0.002, "pl": 0.998}, {"da": 0.4, "pl": 0.6}
    for seconds, row, language in ((4.0, clear, "pl"), (4.0, doubtful, "da"), (0.5, clear, "da")):
        assert likeliest(Evidence().pool([*spoken, (seconds, row)])) == [*["da"] * 10, language]


def test_phrases_that_come_later_are_judged_by_those_before() -> None:
    evidence = Evidence()
    evidence.pool([(2.0, {"da": 0.9, "pl": 0.1})] * 5)
    assert likeliest(evidence.pool([(1.0, {"da": 0.4, "pl": 0.6})])) == ["da"]
    for _ in range(200):
        evidence.pool([(3.0, {"da": 0.05, "pl": 0.95})])
    assert sum(seconds for seconds, _ in evidence.seen) <= LATEST
    assert likeliest(evidence.pool([(1.0, {"da": 0.6, "pl": 0.4})])) == ["pl"]


def test_one_phrase_alone_keeps_the_probabilities_that_were_found() -> None:
    (alone,) = Evidence().pool([(0.5, {"da": 0.6, "pl": 0.1, "ja": 0.3})])
    assert alone == pytest.approx({"da": 0.6, "pl": 0.1, "ja": 0.3})
    (named,) = Evidence().pool([(0.5, {"da": 0.6, "pl": 0.1, "ja": 0.3})], ["pl", "ja"])
    assert named == pytest.approx({"pl": 0.25, "ja": 0.75})
    (nothing,) = Evidence().pool([(0.5, {"da": 1.0, "pl": 0.0, "ja": 0.0})], ["pl", "ja"])
    assert nothing == pytest.approx({"pl": 0.5, "ja": 0.5})
    assert len(Evidence().pool([(0.0, {"da": 0.0, "pl": 0.0})] * 2, ["pl"])) == 2


def test_a_recording_is_not_judged_by_another_one(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = base.decode_languages
    rows = iter(torch.tensor([[0.45 if code == wanted else 0.55 / 4 for code in codes] for wanted in
                              ("da", "da", "pl", "pl")]))  # fmt: skip
    monkeypatch.setattr(
        "adapter_hub.transcription.window_decoding.language_probabilities",
        lambda _, encoder_output: torch.stack([next(rows) for _ in encoder_output]),
    )
    silence = np.zeros(12_000, np.float32)
    two = [np.concatenate([speech(1.0, seed), silence, speech(1.0, seed + 1)]) for seed in (1, 5)]
    router = LanguageRouter(base, {}, lambda ref: pytest.fail("none is needed"), threshold=0.0)
    found = Transcriber(base, router).transcribe(two, beams=1, batch_size=3)
    assert [item.language for item in found] == ["da", "pl"]
    assert all(item.language_probabilities[item.language] > 0.45 for item in found)
