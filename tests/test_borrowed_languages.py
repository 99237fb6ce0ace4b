"""Languages that Whisper lacks are routed and mixed by their own tag, whichever token they borrow."""

from __future__ import annotations

from pathlib import Path

import pytest
from making import manifest_fields
from small_whisper import speech, write_peft

import adapter_hub
from adapter_hub.artifact.folder import Artifact, seal
from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.exchange import Places, publish
from adapter_hub.model.base_model import BaseModel
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.folder import FolderStore
from adapter_hub.transcription.candidates import find_candidates
from adapter_hub.transcription.routing import LanguageRouter
from adapter_hub.transcription.transcriber import Transcriber

LANGUAGES = {"mdw": "da", "swc": "da", "gsw": "pl", "pl-PL": "pl"}  # this Whisper has da, en, ja, pl, zh


@pytest.fixture(scope="module")
def borrowed(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """An adapter for each language, by its tag."""
    folder, found = tmp_path_factory.mktemp("borrowed"), {}
    for seed, (tag, token) in enumerate(LANGUAGES.items()):
        place = write_peft(folder / tag, base, seed=seed, targets=["q_proj"])
        languages = [{"tag": tag, "decode_language": token}]
        fields = manifest_fields(f"small/{tag.lower()}", languages=languages, base_model=base.pin)
        found[tag] = seal(place, fields)
    return found


def load(base: BaseModel, artifacts: list[Artifact], **options: object) -> Transcriber:
    adapters = [str(artifact.path) for artifact in artifacts]
    return adapter_hub.load(
        "auto", adapters=adapters, base_model=str(base.folder), device="cpu", threshold=0.0, **options
    )


def heard(transcriber: Transcriber, code: str) -> tuple[str, str, str]:
    """Return name, language and token of the route of speech that is heard as a language."""
    probabilities = dict.fromkeys(transcriber.base.decode_languages, 0.05) | {code: 0.8}
    route = transcriber.router.route(None, probabilities)
    return route.name, route.language, route.decode_language


def test_speech_is_restricted_to_a_language_by_its_own_tag(
    base: BaseModel, borrowed: dict[str, Artifact]
) -> None:
    auto = load(base, list(borrowed.values()), languages=["mdw"])
    (found,) = auto.transcribe(speech(1.0, 1), beams=1)
    assert (found.adapter, found.language) == ("small/mdw@1.0.0", "mdw")
    assert set(found.language_probabilities) == {"da"}
    alone = adapter_hub.load(str(borrowed["mdw"].path), base_model=str(base.folder), device="cpu")
    assert alone.transcribe(speech(1.0, 1), beams=1)[0].tokens == found.tokens


@pytest.mark.parametrize("order", [["mdw", "swc"], ["swc", "mdw"]], ids=" then ".join)
def test_two_adapters_with_one_token_are_both_reached(
    order: list[str], base: BaseModel, borrowed: dict[str, Artifact]
) -> None:
    said: list[str] = []
    auto = load(base, [borrowed[tag] for tag in order], tell=said.append)
    assert set(auto.router.candidates) == set(order)
    given = auto.transcribe([speech(1.0, 1)] * 3, beams=1, languages=["mdw", "swc", "MDW"])
    assert [item.adapter for item in given] == [f"small/{tag}@1.0.0" for tag in ("mdw", "swc", "mdw")]
    assert [item.language for item in given] == ["mdw", "swc", "MDW"]
    assert heard(auto, "da") == (f"small/{order[0]}@1.0.0", order[0], "da")
    assert heard(auto, "da")[1] == order[0]
    assert [line.partition(" as ")[0] for line in said] == [f"auto hears {', '.join(order)}"]  # once
    for tag in order:
        only = load(base, [borrowed[tag] for tag in order], languages=[tag])
        assert heard(only, "da") == (f"small/{tag}@1.0.0", tag, "da")


def test_a_language_s_own_adapter_comes_before_those_that_borrow_its_token(
    base: BaseModel, borrowed: dict[str, Artifact]
) -> None:
    auto = load(base, [borrowed["gsw"], borrowed["pl-PL"]], tell=lambda line: None)
    assert heard(auto, "pl") == ("small/pl-pl@1.0.0", "pl-PL", "pl")
    assert auto.router.route("gsw").name == "small/gsw@1.0.0"
    assert auto.router.route("Polish").name == auto.router.route("pl-Latn").name == "small/pl-pl@1.0.0"


def test_speech_said_to_be_in_the_lent_language_is_not_given_to_the_borrower(
    base: BaseModel, borrowed: dict[str, Artifact]
) -> None:
    said: list[str] = []
    auto = load(base, [borrowed["mdw"]], tell=said.append)
    route = auto.router.route("da")
    assert (route.adapter, route.language) == (None, "da")
    assert said == ["auto has no adapter for da; say mdw where that is spoken"]
    assert heard(auto, "da")[0] == "small/mdw@1.0.0"


def test_an_adapter_may_borrow_another_token_although_its_language_has_one(
    base: BaseModel, tmp_path: Path
) -> None:
    folder = write_peft(tmp_path / "ja", base, seed=9, targets=["q_proj"])
    spoken = [{"tag": "ja", "decode_language": "zh"}]
    made = seal(folder, manifest_fields("small/ja", languages=spoken, base_model=base.pin))
    for languages in ((), ("ja", "en")):
        auto = load(base, [made], languages=languages)
        assert heard(auto, "ja") == heard(auto, "zh") == ("small/ja@1.0.0", "ja", "zh")
    route = auto.router.route("ja-JP")
    assert (route.name, route.decode_language) == ("small/ja@1.0.0", "zh")


def test_registered_adapters_are_found_by_their_own_language(
    base: BaseModel, borrowed: dict[str, Artifact], tmp_path: Path
) -> None:
    registry, store = FileRegistry(tmp_path / "registry.json"), FolderStore(tmp_path / "store")
    for artifact in borrowed.values():
        publish(artifact.path, Places(registry, store))
    found = find_candidates([registry], base)
    assert {tag: item.token for tag, item in found.items()} == LANGUAGES
    assert next(iter(found)) == "pl-PL"
    router = LanguageRouter(base, found, lambda ref: pytest.fail("none is needed"), languages=["swc", "pl"])
    assert router.choices == ["da", "pl"]


def test_each_recording_may_name_its_adapter(base: BaseModel, borrowed: dict[str, Artifact]) -> None:
    two = [str(borrowed[tag].path) for tag in ("mdw", "gsw")]
    auto = load(base, [borrowed["mdw"]], languages=["da", "en"], tell=lambda line: None)
    clips = [speech(1.0, seed) for seed in range(5)]
    names = [two[1], "base-model", two[0], None, two[1]]
    found = auto.transcribe(clips, adapters=names, beams=1)
    assert [item.adapter for item in found[:3]] == ["small/gsw@1.0.0", "base-model", "small/mdw@1.0.0"]
    assert found[3].adapter in ("small/mdw@1.0.0", "base-model")
    assert found[4].adapter == "small/gsw@1.0.0"
    alone = adapter_hub.load(two[1], base_model=str(base.folder), device="cpu")
    assert found[0].tokens == alone.transcribe(clips[0], beams=1)[0].tokens
    assert [item.adapter for item in auto.stream(clips[0], adapter=two[1], beams=1)] == ["small/gsw@1.0.0"]


def test_adapters_for_recordings_that_cannot_be_used_are_refused_at_once(
    base: BaseModel, borrowed: dict[str, Artifact]
) -> None:
    auto = load(base, [borrowed["mdw"]])
    clips = [speech(1.0, 1), speech(1.0, 2)]
    with pytest.raises(InvalidInputError, match="1 adapters for 2 recordings; expected one each"):
        auto.transcribe(clips, adapters=["small/mdw"])
    with pytest.raises(InvalidInputError, match="a text as adapters for 2 recordings; expected one each"):
        auto.transcribe(clips, adapters="small/mdw")
    with pytest.raises(NotFoundError, match="small/nobody"):
        auto.transcribe(clips, adapters=["small/nobody", None])
    fixed = adapter_hub.load(str(borrowed["mdw"].path), base_model=str(base.folder), device="cpu")
    with pytest.raises(InvalidInputError, match=r"small/mdw@1.0.0 alone; use load\('auto', adapters=\[…\]\)"):
        fixed.transcribe(clips, adapters=["small/gsw", None])
    plain = adapter_hub.load("base-model", base_model=str(base.folder), device="cpu")
    with pytest.raises(NotFoundError, match=r"base model alone has no adapters; use load\('auto'"):
        plain.transcribe(clips, adapters=["small/gsw", None])
