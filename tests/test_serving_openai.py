"""The server is what the official client of OpenAI's API expects."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from openai.types.audio import TranscriptionVerbose
from running_server import CLIPS, Serving, serving

import adapter_hub
from adapter_hub.transcription.subtitles import to_srt, to_vtt
from adapter_hub.transcription.transcriber import Transcriber

DANISH, POLISH = CLIPS / "da.flac", CLIPS / "pl.flac"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("serving")) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Serving) -> openai.OpenAI:
    return server.client()


@pytest.fixture(scope="module")
def danish() -> Transcriber:
    return adapter_hub.load("mini/da")


@pytest.fixture(scope="module")
def auto() -> Transcriber:
    return adapter_hub.load("auto")


def test_a_transcription_is_the_offline_one(client: openai.OpenAI, danish: Transcriber) -> None:
    answer = client.audio.transcriptions.create(model="mini/da", file=DANISH)
    assert answer.text == danish.transcribe(DANISH)[0].text
    assert answer.usage is not None
    assert answer.usage.type == "duration"


def test_text_and_subtitles_are_those_of_the_command_line(client: openai.OpenAI, danish: Transcriber) -> None:
    (timed,) = danish.transcribe(DANISH, timestamps="trained")
    answers = {
        form: client.audio.transcriptions.create(model="mini/da", file=DANISH, response_format=form)
        for form in ("text", "srt", "vtt")
    }
    assert answers["text"] == danish.transcribe(DANISH)[0].text + "\n"
    assert answers["srt"] == to_srt(timed.segments) + "\n"
    assert answers["vtt"] == to_vtt(timed.segments) + "\n"


@pytest.mark.parametrize("times", [("segment",), ("word",), ("word", "segment"), ()])
def test_verbose_json_has_the_times_that_were_asked_for(
    client: openai.OpenAI, danish: Transcriber, times: tuple[str, ...]
) -> None:
    (expected,) = danish.transcribe(DANISH, timestamps="trained", words="word" in times)
    answer = client.audio.transcriptions.create(
        model="mini/da",
        file=DANISH,
        response_format="verbose_json",
        timestamp_granularities=list(times) or openai.omit,  # type: ignore[arg-type]
    )
    assert isinstance(answer, TranscriptionVerbose)
    assert (answer.text, answer.language) == (expected.text, "da")
    assert answer.duration == pytest.approx(expected.seconds, abs=0.001)
    said = expected.to_json()
    plain = answer.model_dump(exclude_none=True)
    assert plain.get("words") == (said["words"] if "word" in times else None)
    wants_segments = not times or "segment" in times
    assert plain.get("segments") == (said["segments"] if wants_segments else None)
    assert plain["adapter"] == "mini/da@1.0.0"
    assert plain["source"] == "da.flac"


@pytest.mark.parametrize("model", ["auto", "whisper-1"])
def test_auto_and_its_alias_choose_the_adapter(client: openai.OpenAI, auto: Transcriber, model: str) -> None:
    for clip in (DANISH, POLISH):
        answer = client.audio.transcriptions.with_raw_response.create(model=model, file=clip)
        assert answer.headers["x-adapter-hub-adapter"] == f"mini/{clip.stem}@1.0.0"
        assert answer.parse().text == auto.transcribe(clip)[0].text


def test_references_of_every_kind_name_a_model(client: openai.OpenAI, danish: Transcriber) -> None:
    expected = danish.transcribe(DANISH)[0].text
    for model in ("mini/da@1.0.0", "mini/da~=1.0", "danish"):
        answer = client.audio.transcriptions.create(
            model=model, file=DANISH, chunking_strategy={"type": "server_vad", "threshold": 0.5}
        )
        assert answer.text == expected


def test_the_base_model_takes_the_language_that_is_said(client: openai.OpenAI) -> None:
    for language in ("pl", "it"):
        answer = client.audio.transcriptions.create(
            model="base-model", file=POLISH, language=language, response_format="verbose_json"
        )
        expected = adapter_hub.load("base-model", language=language).transcribe(POLISH, timestamps="trained")
        assert (answer.text, answer.language) == (expected[0].text, language)


def test_auto_takes_the_adapter_of_the_language_that_is_said(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.create(
        model="auto", file=DANISH, language="pl", response_format="verbose_json"
    )
    assert answer.model_dump()["adapter"].startswith("mini/pl@")


def test_a_stream_has_the_text_in_pieces_and_whole(client: openai.OpenAI, danish: Transcriber) -> None:
    events = list(client.audio.transcriptions.create(model="mini/da", file=DANISH, stream=True))
    assert {event.type for event in events[:-1]} == {"transcript.text.delta"}
    assert events[-1].type == "transcript.text.done"
    assert "".join(event.delta for event in events[:-1]) == events[-1].text
    assert events[-1].text == danish.transcribe(DANISH)[0].text


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # what the client says of its own method
def test_a_translation_has_the_task_of_translating(client: openai.OpenAI) -> None:
    answer = client.audio.translations.create(model="base-model", file=DANISH, response_format="verbose_json")
    expected = adapter_hub.load("base-model").transcribe(DANISH, task="translate", timestamps="trained")
    assert (answer.text, answer.language) == (expected[0].text, "english")


def test_a_low_temperature_is_heard(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.create(
        model="mini/da", file=DANISH, temperature=0.2, response_format="verbose_json"
    )
    assert {segment.temperature for segment in answer.segments or ()} == {0.2}


def test_a_prompt_is_heard(client: openai.OpenAI) -> None:
    said = client.audio.transcriptions.create(
        model="base-model", file=POLISH, language="pl", prompt="sto dwadzieścia"
    )
    offline = adapter_hub.load("base-model", language="pl").transcribe(POLISH, prompt="sto dwadzieścia")
    assert said.text == offline[0].text


def test_models_are_listed_and_described(client: openai.OpenAI) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert {"whisper-1", "danish", "auto", "base-model", "mini/da", "mini/pl"} <= listed.keys()
    assert listed["mini/da"].owned_by == "mini"
    assert listed["mini/da"].created > 0
    for name in ("mini/da", "mini/da@1.0.0", "mini/da~=1.0", "danish", "auto"):
        assert client.models.retrieve(name).id == name
    with pytest.raises(openai.NotFoundError, match="mini/dx"):
        client.models.retrieve("mini/dx")


def test_bytes_with_any_name_are_a_file(client: openai.OpenAI, danish: Transcriber) -> None:
    for name in ("speech", "../../etc/passwd", "рiч\x1b[2J.wav", "a" * 2000):
        answer = client.audio.transcriptions.create(
            model="mini/da", file=(name, DANISH.read_bytes()), response_format="verbose_json"
        )
        source = answer.model_dump()["source"]
        assert source.isprintable()
        assert "/" not in source
        assert len(source) <= 121


WRONG = {
    "no such model": ({"model": "whisper-9"}, openai.NotFoundError, "whisper-9.*does not exist"),
    "no such adapter": (
        {"model": "mini/dx"},
        openai.NotFoundError,
        r"mini/dx: no such adapter in the registry; did you mean",
    ),
    "no such version": ({"model": "mini/da@9.9.9"}, openai.NotFoundError, "no such version"),
    "a folder": ({"model": "./out"}, openai.NotFoundError, "does not exist"),
    "a path": ({"model": "/etc/passwd"}, openai.NotFoundError, "does not exist"),
    "the Hub": ({"model": "hf://alice/es"}, openai.NotFoundError, "is on the Hub"),
    "no such format": ({"response_format": "xml"}, openai.BadRequestError, "response_format"),
    "a temperature": ({"temperature": 1.5}, openai.BadRequestError, "from 0 to 1"),
    "a language": ({"language": "tlh"}, openai.BadRequestError, "tlh"),
    "times of nothing": (
        {"timestamp_granularities": ["word"]},
        openai.BadRequestError,
        "verbose_json",
    ),
    "other times": (
        {"timestamp_granularities": ["phoneme"], "response_format": "verbose_json"},
        openai.BadRequestError,
        "segment, word",
    ),
    "streamed subtitles": (
        {"stream": True, "response_format": "srt"},
        openai.BadRequestError,
        "stream",
    ),
    "an unknown field": ({"extra_body": {"hotwords": "x"}}, openai.BadRequestError, "hotwords"),
    "no audio": ({"file": ("a.wav", b"no audio at all")}, openai.BadRequestError, r"a\.wav"),
    "an empty file": ({"file": ("a.wav", b"")}, openai.BadRequestError, "empty"),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_are_those_that_the_client_knows(client: openai.OpenAI, case: str) -> None:
    words, kind, message = WRONG[case]
    with pytest.raises(kind, match=message) as raised:
        client.audio.transcriptions.create(**{"model": "mini/da", "file": DANISH, **words})
    error = raised.value.body
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert "/tmp" not in error["message"]
    assert str(CLIPS.parent.parent) not in error["message"]
    assert raised.value.request_id
