"""Recordings of any length: windows, stitching, order, what is read ahead, what comes before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from small_whisper import make_adapter, speech
from step_tape import Tape

from adapter_hub.artifact.folder import Artifact
from adapter_hub.decoding.decode import condition_tokens, decode
from adapter_hub.decoding.options import DecodingOptions
from adapter_hub.errors import InvalidInputError, OutOfMemoryError
from adapter_hub.formats.manifest import DataSource
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.model.loading import ResidentAdapter, load_adapter
from adapter_hub.model.session import Session
from adapter_hub.speech.audio import audio_from_samples
from adapter_hub.speech.features import log_mel
from adapter_hub.transcription.routing import FixedRoute, LanguageRouter
from adapter_hub.transcription.stitching import resume_at
from adapter_hub.transcription.transcriber import Transcriber
from adapter_hub.transcription.transcript import Segment
from adapter_hub.transcription.windows import Window, longest_window

RATE = 16_000
ALONE = (0.0,)  # an untrained model's texts are all improbable, and would all be tried six times


def pause(seconds: float) -> np.ndarray:
    random = np.random.default_rng(7)
    return (1e-4 * random.standard_normal(round(seconds * RATE))).astype(np.float32)


def recording(count: int, seed: int = 0) -> np.ndarray:
    """Return phrases of different lengths with pauses between."""
    parts = [
        part for i in range(count) for part in (speech(0.6 + 0.3 * ((i + seed) % 5), seed + i), pause(0.7))
    ]
    return np.concatenate(parts)


def facts(segments: Sequence[Segment]) -> list[tuple]:
    """What does not depend on the last bits of a batch's arithmetic."""
    return [(s.start, s.end, s.text, s.tokens, s.language, s.adapter, s.seek) for s in segments]


@pytest.fixture(scope="module")
def danish(base: BaseModel, adapters: list[Artifact]) -> Transcriber:
    return Transcriber(base, FixedRoute(base, load_adapter(base, adapters[0])))


def test_longer_audio_than_the_chunk_is_transcribed_to_its_end(danish: Transcriber) -> None:
    samples = recording(12)
    (found,) = danish.transcribe(samples, beams=2, temperatures=ALONE)
    assert found.error is None
    assert found.seconds == pytest.approx(len(samples) / RATE)
    assert found.seconds > 5 * danish.base.chunk_seconds
    assert found.segments[-1].end > found.seconds - 2
    assert found.text == " ".join(segment.text for segment in found.segments)
    times = [time for segment in found.segments for time in (segment.start, segment.end)]
    assert times == sorted(times)
    assert [segment.seek for segment in found.segments] == sorted(segment.seek for segment in found.segments)


def test_windows_of_many_recordings_share_batches_and_change_nothing(danish: Transcriber) -> None:
    recordings = [recording(count, seed=10 * count) for count in (7, 1, 4, 2)]
    together = danish.transcribe(recordings, beams=2, temperatures=ALONE, batch_size=5)
    for samples, found in zip(recordings, together, strict=True):
        (alone,) = danish.transcribe(samples, beams=2, temperatures=ALONE, batch_size=1)
        assert facts(found.segments) == facts(alone.segments)


def test_phrases_are_joined_up_to_the_length_that_is_asked_for(danish: Transcriber) -> None:
    samples = recording(10)
    counts = {
        seconds: len(
            danish.transcribe(samples, beams=1, temperatures=ALONE, window_seconds=seconds)[0].segments
        )
        for seconds in (0.1, 3.0, 100.0)
    }
    assert counts[0.1] == 10
    assert 10 > counts[3.0] > counts[100.0] >= 4
    pieces = danish.transcribe(samples, beams=1, temperatures=ALONE, window_seconds=3.0)[0].segments
    assert all(segment.end - segment.start <= 3.0 for segment in pieces)


def test_an_adapter_takes_as_much_as_its_utterances_were_long(base: BaseModel, tmp_path: Path) -> None:
    def with_data(**changes: object) -> ResidentAdapter:
        from dataclasses import replace

        entry = {"id": "x", "split": "train", "license": "MIT", "sha256": "0" * 64}
        data = (
            DataSource(hours=1.0, utterances=1800, **entry),
            DataSource(hours=0.5, utterances=900, **entry),
        )
        manifest = adapter.manifest
        assert manifest is not None
        return replace(adapter, manifest=manifest.model_copy(update={"data": data, **changes}))

    adapter = load_adapter(base, make_adapter(tmp_path / "a", base, seed=4))
    assert longest_window(None, 30.0) == 30.0
    assert longest_window(with_data(timestamps=False), 30.0) == pytest.approx(2.0)
    assert longest_window(with_data(timestamps=False), 1.5) == 1.5
    assert longest_window(with_data(timestamps=True), 30.0) == 30.0
    assert longest_window(with_data(timestamps=False, data=()), 30.0) == 30.0


def test_a_stream_gives_the_same_segments_before_the_audio_is_read_to_its_end(
    danish: Transcriber, tmp_path: Path
) -> None:
    samples = recording(30)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    (whole,) = danish.transcribe(tmp_path / "a.wav", beams=1, temperatures=ALONE)
    stream = danish.stream(tmp_path / "a.wav", beams=1, temperatures=ALONE, batch_size=1)
    first = next(stream)
    assert facts([first, *stream]) == facts(whole.segments)


def test_a_stream_of_what_cannot_be_read_raises_after_what_could_be(
    danish: Transcriber, tmp_path: Path
) -> None:
    samples = recording(20)
    samples[-1000] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    streamed: list[Segment] = []
    with pytest.raises(InvalidInputError, match=r"a\.wav: sample \d+ is NaN"):
        streamed.extend(danish.stream(tmp_path / "a.wav", beams=1, temperatures=ALONE))
    assert streamed
    (found,) = danish.transcribe(tmp_path / "a.wav", beams=1, temperatures=ALONE)
    assert found.error is not None
    assert facts(found.segments) == facts(streamed)
    assert found.to_json()["error"] == found.error
    assert found.to_json()["text"]


def test_an_iterator_is_read_as_it_is_needed(danish: Transcriber) -> None:
    taken = 0

    def inputs() -> Iterator[np.ndarray]:
        nonlocal taken
        for i in range(150):
            taken += 1
            yield speech(1.0, i % 3)

    results = danish.transcribe_each(inputs(), beams=1, temperatures=ALONE, batch_size=2)
    assert next(results).source == "audio 1"
    assert taken < 100
    sources = [result.source for result in results]
    assert sources == [f"audio {i}" for i in range(2, 151)]


def test_languages_are_one_for_each_audio(danish: Transcriber) -> None:
    found = danish.transcribe(
        [speech(1.0, 1), speech(1.0, 2)], beams=1, temperatures=ALONE, languages=["da", "pl"]
    )
    assert [item.language for item in found] == ["da", "pl"]


def test_the_text_before_is_the_condition_of_the_next_window(base: BaseModel) -> None:
    phrases = [speech(1.0, 1), speech(1.5, 2), speech(1.2, 3)]
    zeros = np.zeros(RATE, np.float32)
    plain = Transcriber(base, FixedRoute(base, None, "pl"))
    options = {"beams": 2, "window_seconds": 0.5, "no_speech": None, "temperatures": ALONE}
    samples = np.concatenate([part for phrase in phrases for part in (phrase, zeros)])
    (found,) = plain.transcribe(samples, previous_text=True, **options)
    session, previous = Session(base), list[int]()
    for segment, window in zip(found.segments, _windows(samples), strict=True):
        features = torch.from_numpy(log_mel(base.processor.feature_extractor, [window]))
        (wanted,) = decode(
            session,
            features,
            rows=[None],
            languages=["pl"],
            options=DecodingOptions(beams=2),
            previous=[previous],
        )
        assert segment.tokens == wanted.tokens
        previous += wanted.tokens
    (without,) = plain.transcribe(samples, **options)
    assert [s.tokens for s in found.segments] != [s.tokens for s in without.segments]
    assert found.segments[0].tokens == without.segments[0].tokens


def test_a_prompt_comes_before_the_first_window_and_before_others_only_with_previous_text(
    base: BaseModel,
) -> None:
    zeros = np.zeros(RATE, np.float32)
    samples = np.concatenate([speech(1.0, 1), zeros, speech(1.5, 2), zeros])
    plain = Transcriber(base, FixedRoute(base, None, "pl"))
    options = {"beams": 1, "window_seconds": 0.5, "no_speech": None, "temperatures": ALONE}
    tokens = condition_tokens(base, " Łódź ")
    assert tokens == condition_tokens(base, "Łódź")
    features = [
        torch.from_numpy(log_mel(base.processor.feature_extractor, [item])) for item in _windows(samples)
    ]

    def texts(*previous: list[int]) -> list[tuple[int, ...]]:
        how: dict = {"rows": [None], "languages": ["pl"], "options": DecodingOptions(beams=1)}
        pairs = zip(features, previous, strict=True)
        return [decode(Session(base), item, previous=[text], **how)[0].tokens for item, text in pairs]

    (first,) = plain.transcribe(samples, prompt="Łódź", **options)
    assert [s.tokens for s in first.segments] == texts(tokens, [])
    (both,) = plain.transcribe(samples, prompt="Łódź", previous_text=True, **options)
    assert [s.tokens for s in both.segments] == texts(tokens, [*tokens, *both.segments[0].tokens])
    (none,) = plain.transcribe(samples, prompt=" ", **options)
    assert [s.tokens for s in none.segments] == texts([], [])
    assert first.segments[0].tokens != none.segments[0].tokens


def test_a_prompt_with_a_special_token_is_refused(danish: Transcriber) -> None:
    with pytest.raises(
        InvalidInputError, match=r"prompt: <\|endoftext\|> is a special token; expected plain"
    ):
        danish.transcribe(speech(1.0, 1), prompt="so <|endoftext|>")


def _windows(samples: np.ndarray) -> list:
    from adapter_hub.speech.phrases import phrases

    return [audio_from_samples(piece.samples, RATE) for piece in phrases([samples], longest=4.0)]


def test_recordings_with_the_text_before_share_batches_too(base: BaseModel) -> None:
    plain = Transcriber(base, FixedRoute(base, None, "pl"))
    recordings = [recording(count, seed=count) for count in (5, 2, 3, 1)]
    options = {"beams": 1, "previous_text": True, "window_seconds": 0.5, "temperatures": ALONE}
    seen: list[float] = []
    together = plain.transcribe(
        recordings, batch_size=3, progress=lambda _, seconds: seen.append(seconds), **options
    )
    # room for text, which is small in this model, depends on the longest text before in a batch
    for samples, found in zip(recordings, together, strict=True):
        (alone,) = plain.transcribe(samples, batch_size=1, **options)
        assert found.segments[0].tokens[:8] == alone.segments[0].tokens[:8]
        assert [s.start for s in found.segments] == [s.start for s in alone.segments]
    batches = [seconds for seconds in seen if seconds]
    assert 5 <= len(batches) < sum(len(item.segments) for item in together) == 11


def test_timestamps_of_windows_are_on_the_time_axis_of_the_recording(base: BaseModel) -> None:
    plain = Transcriber(base, FixedRoute(base, None, "pl"))
    samples = recording(9)
    (found,) = plain.transcribe(samples, beams=2, temperatures=ALONE, timestamps=True)
    assert found.segments
    for segment in found.segments:
        assert segment.seek / 100 - 0.01 <= segment.start <= segment.end <= found.seconds
    assert any(token >= base.model.generation_config.no_timestamps_token_id for token in found.tokens)


def test_trained_timestamps_are_those_of_the_base_model_and_of_adapters_that_know_them(
    base: BaseModel, danish: Transcriber
) -> None:
    stamps = base.model.generation_config.no_timestamps_token_id + 1
    plain = Transcriber(base, FixedRoute(base, None, "pl"))
    for transcriber, wanted in ((plain, True), (danish, False)):
        (found,) = transcriber.transcribe(speech(2.0, 1), beams=1, temperatures=ALONE, timestamps="trained")
        assert any(token >= stamps for token in found.tokens) == wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_seconds": 0.0}, r"windows of 0\.0 s: expected more than 0"),
        ({"no_speech": 2.0}, r"no speech 2\.0: expected a probability"),
        ({"temperatures": ()}, "temperatures .*: expected one or more"),
    ],
)
def test_options_that_fit_no_audio_are_refused(danish: Transcriber, options: dict, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        danish.transcribe(speech(1.0, 1), **options)


def test_a_segment_that_the_window_cuts_is_decoded_again_from_its_start(base: BaseModel) -> None:
    stamp = base.model.generation_config.no_timestamps_token_id + 1
    text = [3, 4, 5]
    assert resume_at(base, [stamp, *text, stamp + 100, stamp + 100], 4.0) == 2.0
    assert resume_at(base, [stamp + 50], 4.0) == 1.0
    for tokens, seconds in (
        ([stamp, *text, stamp + 100], 4.0),  # closed
        ([stamp, *text], 4.0),  # open, but its text is there
        ([stamp, *text, stamp + 100, stamp + 100], 2.3),  # too little is left
        ([stamp], 4.0),  # nothing before it: it would be the same again
        ([], 4.0),
    ):
        assert resume_at(base, tokens, seconds) is None


def test_what_is_decoded_again_gets_shorter_until_it_ends(
    base: BaseModel, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says_one_second = load_base_model(base_folder, device="cpu")
    config, decoder = base.model.generation_config, says_one_second.model.model.decoder
    with torch.no_grad():  # whatever the audio: <|1.00|> first, the end as soon as that may come
        decoder.layer_norm.weight.zero_()
        decoder.layer_norm.bias.zero_()[:2] = 1.0
        decoder.embed_tokens.weight.zero_()
        decoder.embed_tokens.weight[config.no_timestamps_token_id + 1 + 50, 0] = 10.0
        decoder.embed_tokens.weight[config.eos_token_id, 1] = 5.0
    again: list[tuple[float, float]] = []

    def after(window: Window, seconds: float) -> Window:
        rest = cut(window, seconds)
        again.append((round(rest.start, 2), round(rest.seconds, 2)))
        return rest

    cut = Window.after
    monkeypatch.setattr(Window, "after", after)
    plain = Transcriber(says_one_second, FixedRoute(says_one_second, None, "pl"))
    for beams in (1, 2):
        again.clear()
        found = plain.transcribe(
            [speech(3.2, 1), speech(1.2, 2)], beams=beams, timestamps=True, batch_size=2, temperatures=ALONE
        )
        assert again == [(1.0, 2.2), (2.0, 1.2)]
        assert [(item.text, item.error, item.seconds) for item in found] == [("", None, 3.2), ("", None, 1.2)]


def test_a_session_is_kept_but_for_one_that_an_error_left_in_the_middle(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapter_hub.model.session.recorder_for", lambda _: Tape())
    plain = Transcriber(base, FixedRoute(base, None, "pl"))
    samples = [speech(1.0, 1), speech(1.2, 2)]
    wanted = [item.text for item in plain.transcribe(samples, beams=2, temperatures=ALONE)]
    (session,) = plain._session_pool._idle
    next(
        plain.transcribe_each(samples, beams=2, temperatures=ALONE, batch_size=1)
    )  # the rest is not asked for
    assert plain._session_pool._idle == [session]
    with monkeypatch.context() as patch:
        patch.setattr("torch.nn.functional.scaled_dot_product_attention", _out_of_memory)
        with pytest.raises(OutOfMemoryError, match="1 windows with 2 beams on cpu; use fewer --beams"):
            plain.transcribe(samples[:1], beams=2, temperatures=ALONE)
    assert plain._session_pool._idle == []
    assert [item.text for item in plain.transcribe(samples, beams=2, temperatures=ALONE)] == wanted
    assert len(plain._session_pool._idle) == 1


def test_too_little_memory_to_tell_the_language_is_one_line(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening = Transcriber(base, LanguageRouter(base, {}, lambda ref: pytest.fail("none is needed")))
    monkeypatch.setattr("torch.Tensor.softmax", _out_of_memory)
    with pytest.raises(OutOfMemoryError, match="1 windows with 5 beams on cpu; use fewer --beams"):
        listening.transcribe(speech(1.0, 1))


def _out_of_memory(*_: object, **__: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
