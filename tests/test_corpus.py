"""The synthesised corpus: spelling, voices, determinism, and what keeps its splits apart."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from adapter_hub.errors import ConflictError, InvalidInputError, MissingExtraError

pytest.importorskip("espeakng_loader", reason="the extra `demo` is not installed")
pytest.importorskip("num2words", reason="the extra `demo` is not installed")

import soundfile
from sampling import sampled

from adapter_hub.trainers.makers.corpus import synthesis
from adapter_hub.trainers.makers.corpus.noise import COLOURS, noise
from adapter_hub.trainers.makers.corpus.numbers import LANGUAGES, is_unambiguous, spell, spellings
from adapter_hub.trainers.makers.corpus.plan import SETTINGS, SPLITS, UtteranceSpec, allowed, plan, split_of
from adapter_hub.trainers.makers.corpus.render import fitted, render, write_corpus, write_folder
from adapter_hub.trainers.makers.corpus.synthesis import SAMPLE_RATE, in_processes, synthesise
from adapter_hub.trainers.makers.corpus.voices import ESPEAK_LANGUAGES, VOICES, espeak_voice, voices_of

SPELLED = {
    "cy": {0: "dim", 12: "un deg dau", 55: "pum deg pump", 101: "cant ac un", 342: "tri chant pedwar deg dau",
           1000: "mil", 2200: "dwy fil dau gant", 6003: "chwe mil a thri"},
    "da": {1: "et", 21: "enogtyve", 92: "tooghalvfems", 100: "ethundrede", 101: "ethundrede og et",
           1100: "ettusind ethundrede", 2345: "totusind trehundrede og femogfyrre", 1001: "ettusind og et"},
    "el": {16: "δεκαέξι", 100: "εκατό", 101: "εκατόν ένα", 1000: "χίλια", 2000: "δύο χιλιάδες",
           3003: "τρεις χιλιάδες τρία", 4444: "τέσσερις χιλιάδες τετρακόσια σαράντα τέσσερα"},
    "en": {21: "twenty one", 342: "three hundred and forty two", 1101: "one thousand one hundred and one"},
    "es": {21: "veintiuno", 100: "cien", 101: "ciento uno", 500: "quinientos", 1000: "mil",
           9700: "nueve mil setecientos"},
    "it": {23: "ventitré", 28: "ventotto", 103: "centotré", 123: "centoventitré", 180: "centottanta",
           1000: "mille", 2000: "duemila", 3: "tre"},
    "ja": {4: "よん", 10: "じゅう", 21: "にじゅういち", 300: "さんびゃく", 600: "ろっぴゃく",
           800: "はっぴゃく", 1000: "せん", 3000: "さんぜん", 8000: "はっせん", 1110: "せんひゃくじゅう"},
    "pl": {16: "szesnaście", 342: "trzysta czterdzieści dwa", 1000: "tysiąc", 2000: "dwa tysiące",
           5000: "pięć tysięcy"},
    "pt": {16: "dezesseis", 100: "cem", 101: "cento e um", 1100: "mil e cem",
           1221: "mil duzentos e vinte e um"},
    "zh": {0: "零", 10: "十", 21: "二十一", 110: "一百一十", 302: "三百零二", 1001: "一千零一",
           2010: "两千零一十", 9999: "九千九百九十九"},
}  # fmt: skip


SOME = ("da", "ja", "pl")  # compounds, syllables, inflection; synthesis takes seconds a language


def specs_of(split: str, language: str = "da", count: int = 300) -> list[UtteranceSpec]:
    return plan(language, split, count, seed=0)


@pytest.mark.parametrize("language", LANGUAGES)
def test_numbers_are_spelled_as_the_language_writes_them(language: str) -> None:
    expected = SPELLED[language]
    assert {number: spell(number, language) for number in expected} == expected


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_two_numbers_are_spelled_alike_and_none_has_marks_or_capitals(language: str) -> None:
    texts = [spell(number, language) for number in range(10_000)]
    assert len(spellings(language)) == 10_000
    letters = set("".join(texts)) - {" "}
    assert all(letter.isalpha() for letter in letters)
    assert all(text == text.lower() and text == " ".join(text.split()) for text in texts)


@pytest.mark.parametrize("language", LANGUAGES)
def test_espeak_reads_a_spelling_about_as_long_as_the_digits(language: str) -> None:
    voice = ESPEAK_LANGUAGES[language]

    def seconds(text: str) -> float:
        return synthesise(text, voice=voice, rate=175, pitch=50, pitch_range=50, seed=1).duration

    texts = {
        number: spell(number, language) for number in (3, 7, 14, 45, 68, 99, 127, 342, 860, 1205, 3456, 9812)
    }
    ratios = [seconds(text) / seconds(str(number)) for number, text in texts.items()]
    # letter names, as of kanji, would take three times as long
    assert 0.7 < statistics.median(ratios) < 1.3
    assert min(ratios) > 0.5
    assert max(ratios) < 1.7


def test_an_unknown_language_is_an_error_that_names_those_there_are() -> None:
    for call in (lambda: spell(1, "xx"), lambda: plan("xx", "test", 1, 0), lambda: espeak_voice("xx", "m1")):
        with pytest.raises(InvalidInputError, match=r"'xx'.*cy.*"):
            call()


def test_numbers_splits_and_voices_that_do_not_exist_are_errors() -> None:
    with pytest.raises(InvalidInputError, match="10000"):
        spell(10_000, "da")
    with pytest.raises(InvalidInputError, match="-1"):
        split_of(-1)
    with pytest.raises(InvalidInputError, match="'train'"):
        plan("da", "train", 1, 0)
    with pytest.raises(InvalidInputError, match="'validation'"):
        voices_of("validation")
    with pytest.raises(InvalidInputError, match="'michael'"):
        synthesise("et", voice="da+michael", rate=175, pitch=50, pitch_range=50, seed=1)
    with pytest.raises(InvalidInputError, match="'xx'"):
        synthesise("et", voice="xx", rate=175, pitch=50, pitch_range=50, seed=1)
    with pytest.raises(InvalidInputError, match="empty"):
        synthesise("  ", voice="da", rate=175, pitch=50, pitch_range=50, seed=1)


def test_a_missing_extra_is_an_error_with_the_install_command() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[demo\]'"):
        synthesis.demo_module("a_module_that_nobody_has")


def test_every_voice_exists_and_belongs_to_one_split() -> None:
    everyone = [variant for variants in VOICES.values() for variant in variants]
    assert len(everyone) == len(set(everyone))
    assert set(everyone) <= synthesis.variant_names()
    assert {split: len(variants) for split, variants in VOICES.items()} == {
        "pretraining": 44,
        "adaptation": 16,
        "dev": 8,
        "test": 16,
    }


def test_no_two_voices_give_the_same_waveform() -> None:
    sounds: dict[bytes, str] = {}
    for variant in ("", *(variant for variants in VOICES.values() for variant in variants)):
        voice = f"pl+{variant}" if variant else "pl"
        speech = synthesise("dwa sto", voice=voice, rate=175, pitch=50, pitch_range=50, seed=1)
        sound = speech.samples.tobytes()
        assert sound not in sounds, f"{variant} sounds as {sounds[sound]}"
        sounds[sound] = variant


def test_the_same_arguments_give_the_same_samples_whatever_was_said_before() -> None:
    def say(text: str, variant: str) -> bytes:
        return synthesise(
            text, voice=f"da+{variant}", rate=180, pitch=40, pitch_range=60, seed=7
        ).samples.tobytes()

    first = say("toogtyve", "f2")
    for variant in ("Alicia", "m3", "f5"):
        say("ethundrede", variant)
    assert say("toogtyve", "f2") == first


def test_processes_give_the_same_samples_as_one() -> None:
    specs = specs_of("test", "pl", 3)
    alone = [samples.tobytes() for samples, _ in map(render, specs)]
    assert [samples.tobytes() for samples, _ in in_processes(render, specs, processes=2)] == alone


def test_a_long_data_path_is_linked_to_a_short_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = tmp_path / ("a" * 100) / ("b" * 100)
    far.parent.mkdir()
    far.symlink_to(synthesis.data_path())
    before = synthesise("et", voice="da", rate=175, pitch=50, pitch_range=50, seed=1).samples
    with monkeypatch.context() as patch:
        patch.setattr(synthesis, "demo_module", lambda _: SimpleNamespace(get_data_path=lambda: str(far)))
        near = synthesis.data_path.__wrapped__()
    assert len(near) < 150
    monkeypatch.setattr(synthesis, "data_path", lambda: near)
    after = synthesise("et", voice="da", rate=175, pitch=50, pitch_range=50, seed=1).samples
    assert np.array_equal(after, before)


def test_words_follow_one_another_and_cover_the_clip() -> None:
    text = "dwa tysiące trzysta czterdzieści pięć"
    speech = synthesise(text, voice="pl+m3", rate=175, pitch=50, pitch_range=50, seed=1)
    assert len(speech.words) == len(text.split())
    assert speech.words[0][0] == 0.0
    assert speech.words[-1][1] == pytest.approx(speech.duration, abs=0.002)
    assert all(end > start for start, end in speech.words)
    assert all(a[1] == b[0] for a, b in zip(speech.words, speech.words[1:], strict=False))
    # the longest word takes longest
    lengths = [end - start for start, end in speech.words]
    assert lengths.index(max(lengths)) == 3


def test_a_decade_of_numbers_belongs_to_one_split() -> None:
    for decade in range(10, 1000):
        assert len({split_of(number) for number in range(10 * decade, 10 * decade + 10)}) == 1
    owners = [split_of(10 * decade) for decade in range(10, 1000)]
    for split, share in SETTINGS["numbers"]["share"].items():
        assert owners.count(split) / len(owners) == pytest.approx(share, abs=0.04)
    assert all(split_of(number) == "pretraining" for number in range(100))


def test_basic_numbers_alone_are_for_pretraining_or_its_test_never_for_both() -> None:
    assert allowed((7,), "pretraining")
    assert not allowed((7,), "pretraining-test")
    pairs = [(first, second) for first in range(100) for second in range(100)]
    held_out = [pair for pair in pairs if allowed(pair, "pretraining-test")]
    assert len(held_out) / len(pairs) == pytest.approx(0.1, abs=0.02)
    assert all(allowed(pair, "pretraining") != allowed(pair, "pretraining-test") for pair in pairs)
    assert not any(allowed(pair, split) for pair in pairs for split in ("adaptation", "dev", "test"))


def test_numbers_that_run_together_into_another_number_are_not_said() -> None:
    assert not is_unambiguous((20, 3), "pl")
    assert not is_unambiguous((100, 42), "it")
    assert not is_unambiguous((2, 1142), "es")
    assert is_unambiguous((3, 20), "pl")
    assert is_unambiguous((142,), "zh")
    assert not is_unambiguous((20, 1), "zh")


@pytest.mark.parametrize("language", sampled(LANGUAGES, SOME.__contains__))
def test_splits_share_neither_voices_nor_number_ranges_nor_transcripts(language: str) -> None:
    specs = {split: specs_of(split, language) for split in SPLITS}
    trained = ("pretraining", "adaptation", "dev", "test")
    for index, one in enumerate(trained):
        for other in trained[index + 1 :]:
            for field in (lambda spec: {spec.voice}, lambda spec: {spec.text}, own_numbers):
                assert not set().union(*map(field, specs[one])) & set().union(*map(field, specs[other]))
    reference = {spec.text for spec in specs["pretraining-test"]}
    for split in ("pretraining", "adaptation", "test"):
        assert not reference & {spec.text for spec in specs[split]}
    for split, planned in specs.items():
        assert len({spec.text for spec in planned}) == len(planned)
        assert len({spec.id for spec in planned}) == len(planned)
        assert all(allowed(spec.numbers, split) for spec in planned)


def own_numbers(spec: UtteranceSpec) -> set[int]:
    return {number for number in spec.numbers if number >= 100}


def test_a_plan_is_repeatable_and_a_longer_one_begins_with_the_shorter() -> None:
    assert specs_of("test") == specs_of("test")
    assert specs_of("test", count=300)[:50] == specs_of("test", count=50)
    assert plan("da", "test", 50, seed=1) != specs_of("test", count=50)


def test_adaptation_is_harder_than_pretraining() -> None:
    easy, hard = specs_of("pretraining"), specs_of("adaptation")
    assert statistics.mean(len(spec.text) for spec in hard) > 1.3 * statistics.mean(
        len(spec.text) for spec in easy
    )
    clean = sum(spec.snr_db is None for spec in easy) / len(easy)
    assert 0.4 < clean < 0.6
    assert all(spec.snr_db is not None and 5 <= spec.snr_db <= 25 for spec in hard)
    assert {spec.noise for spec in hard} == set(COLOURS)
    basics = sum(number < 100 for spec in easy for number in spec.numbers)
    assert 0.3 < basics / sum(len(spec.numbers) for spec in easy) < 0.6


def test_the_same_spec_gives_the_same_bytes_and_another_seed_other_ones() -> None:
    specs = specs_of("adaptation", count=6)
    assert [spec for spec, _, _ in map(fitted, specs)] == specs
    for spec in specs:
        assert render(spec)[0].tobytes() == render(spec)[0].tobytes()
        assert render(replace(spec, seed=spec.seed + 1))[0].tobytes() != render(spec)[0].tobytes()


@pytest.mark.parametrize("colour", COLOURS)
def test_noise_has_the_power_that_was_asked_for(colour: str) -> None:
    spec = replace(specs_of("adaptation", count=1)[0], snr_db=None, gain_db=0.0)
    clean = render(spec)[0].astype(float)
    noisy = render(replace(spec, snr_db=10.0, noise=colour))[0].astype(float)
    scale = np.dot(noisy, clean) / np.dot(clean, clean)
    ratio = np.mean((scale * clean) ** 2) / np.mean((noisy - scale * clean) ** 2)
    assert 10 * np.log10(ratio) == pytest.approx(10.0, abs=1.0)
    assert np.mean(noise(colour, 12_345, SAMPLE_RATE, 1) ** 2) == pytest.approx(1.0)


def test_gain_sets_the_peak_and_nothing_clips() -> None:
    spec = replace(specs_of("adaptation", count=1)[0], gain_db=-6.0)
    peak = np.abs(render(spec)[0].astype(float)).max() / 32767
    assert peak == pytest.approx(0.95 * 10 ** (-6 / 20), rel=1e-3)


@pytest.mark.parametrize("language", sampled(LANGUAGES, SOME.__contains__))
def test_clips_have_plausible_lengths(language: str) -> None:
    for split, shortest, longest in (("pretraining", 1.2, 3.5), ("adaptation", 1.8, 4.5)):
        lengths = [len(samples) / SAMPLE_RATE for _, samples, _ in map(fitted, specs_of(split, language, 30))]
        assert shortest < statistics.mean(lengths) < longest
        assert min(lengths) > 0.15
        assert max(lengths) <= SETTINGS["limits"]["longest_seconds"]


def test_an_utterance_that_is_too_long_loses_numbers_but_stays_in_its_split() -> None:
    spec = max(
        (spec for spec in specs_of("test", "pl") if len(spec.numbers) == 3), key=lambda spec: len(spec.text)
    )
    planned, samples, words = fitted(replace(spec, rate=100))
    assert len(planned.numbers) < 3
    assert set(planned.numbers) < set(spec.numbers)
    assert allowed(planned.numbers, "test")
    assert len(words) == len(planned.text.split())
    assert len(samples) / SAMPLE_RATE <= SETTINGS["limits"]["longest_seconds"]


def test_a_corpus_is_a_data_folder_per_split(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_corpus(
        tmp_path,
        "zh",
        {"train": 5, "dev": 2, "test": 3},
        progress=lambda done, count: seen.append((done, count)),
    )
    assert seen[:5] == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    for name, split, count in (("train", "adaptation", 5), ("dev", "dev", 2), ("test", "test", 3)):
        rows = [
            json.loads(line) for line in (tmp_path / name / "metadata.jsonl").read_text("utf-8").splitlines()
        ]
        assert len(rows) == count
        for row, spec in zip(rows, plan("zh", split, count, 0), strict=True):
            assert (row["text"], row["language"], row["speaker"]) == (spec.text, "zh", spec.speaker)
            samples, rate = soundfile.read(tmp_path / name / row["file_name"], dtype="int16")
            assert rate == SAMPLE_RATE
            assert row["duration"] == pytest.approx(len(samples) / rate, abs=0.001)
            assert np.array_equal(samples, render(spec)[0])
    with pytest.raises(InvalidInputError, match="'validation'"):
        write_corpus(tmp_path, "zh", {"validation": 1})


def test_an_interrupted_folder_is_completed_with_the_same_bytes(tmp_path: Path) -> None:
    specs = specs_of("dev", count=4)
    metadata = write_folder(specs, tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "audio").iterdir()}
    lines = metadata.read_bytes()
    metadata.unlink()
    (tmp_path / "audio" / f"{specs[2].id}.flac").unlink()
    kept = tmp_path / "audio" / f"{specs[0].id}.flac"
    written = kept.stat().st_mtime_ns
    assert write_folder(specs, tmp_path, processes=2).read_bytes() == lines
    assert {path.name: path.read_bytes() for path in (tmp_path / "audio").iterdir()} == before
    assert kept.stat().st_mtime_ns == written


def test_a_folder_of_another_plan_is_refused(tmp_path: Path) -> None:
    write_folder(specs_of("dev", count=2), tmp_path)
    with pytest.raises(ConflictError, match="another plan"):
        write_folder(specs_of("dev", count=3), tmp_path)
    other = tmp_path / "other"
    (other / "audio").mkdir(parents=True)
    (other / "audio" / "mine.wav").write_bytes(b"")
    with pytest.raises(ConflictError, match="no plan accounts for"):
        write_folder(specs_of("dev", count=2), other)
