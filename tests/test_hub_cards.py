"""Cards as the Hub takes them: codes of ISO 639, ids of models; one that it refuses leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Run
from hub_places import hub_client, hub_store
from loopback_hub import LoopbackHub
from loopback_hub.model_card import errors_in
from making import make_artifact

from adapter_hub.cards import render_card
from adapter_hub.cards.front_matter import is_model_id, iso_639
from adapter_hub.errors import InvalidInputError
from adapter_hub.exchange import Places, publish
from adapter_hub.formats.canonical import digest_of
from adapter_hub.hub import RepoId
from adapter_hub.registry.file import FileRegistry

STOCK = """---
base_model: {base}
library_name: peft
tags:
- base_model:adapter:{base}
- lora
- transformers
---

# Model Card for Model ID
"""  # as PEFT 0.18 writes it: no task, no language


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_TOKEN", hub.token("alice"))
        yield hub


def front(folder: Path, *tags: str, **changes: Any) -> dict[str, Any]:
    languages = [{"tag": tag, "decode_language": "da"} for tag in tags]
    card = render_card(make_artifact(folder, languages=languages, **changes).manifest)
    assert errors_in(card) == []
    found = yaml.safe_load(card.split("---\n")[1])
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("tags", "codes", "whole"),
    [
        (["da"], ["da"], None),
        (["da-DK"], ["da"], ["da-DK"]),
        (["da-DK", "da-NO", "da"], ["da"], ["da-DK", "da-NO"]),
        (["zh-Hant-TW", "nb_NO"], ["zh", "nb"], ["zh-Hant-TW", "nb_NO"]),
        (["mdw", "yue"], ["mdw", "yue"], None),
        (["jw", "iw"], ["jv", "he"], ["jw", "iw"]),
        (["PT-br"], ["pt"], ["PT-br"]),
        (["x-elvish"], None, ["x-elvish"]),
    ],
)
def test_a_card_has_codes_of_iso_639_and_beside_them_what_tags_say_more(
    tags: list[str], codes: list[str] | None, whole: list[str] | None, tmp_path: Path
) -> None:
    card = front(tmp_path / "da", *tags)
    assert (card.get("language"), card.get("language_bcp47")) == (codes, whole)
    assert [iso_639(tag) for tag in tags if iso_639(tag)] == [] or codes


@pytest.mark.parametrize(
    ("text", "good"),
    [("openai/whisper-base", True), ("gpt2", True), ("a..b", False), ("C.", False), ("x--y/z", False)],
)
def test_only_what_can_be_a_model_s_id_is_a_card_s_base_model(text: str, good: bool, tmp_path: Path) -> None:
    assert is_model_id(text) == good
    base = {"id": text, "digest": digest_of(b"base"), "architecture": "WhisperForConditionalGeneration"}
    assert front(tmp_path / "da", "da", base_model=base).get("base_model") == (text if good else None)


@pytest.mark.parametrize(
    ("field", "complaint"),
    [
        ("language: da-DK", "you can specify them in language_bcp47"),
        ("language: [da, DA]", "It must be an ISO 639-1"),
        ("language: jw", "It must be an ISO 639-1"),
        ("base_model: /content/drive/whisper", "Use a model id"),
        ("base_model: ./whisper-base", "Use a model id"),
        ("base_model: ['C:\\\\models\\\\whisper']", "Use a model id"),
        ("base_model: a/b/c", "Use a model id"),
    ],
)
def test_the_loopback_hub_refuses_what_the_hub_refuses(hub: LoopbackHub, field: str, complaint: str) -> None:
    card = f"---\n{field}\n---\n"
    with pytest.raises(InvalidInputError, match=f"the card of hf://alice/da: .* refuses it .*{complaint}"):
        hub_client(hub).check_card(RepoId("alice/da"), card)
    hub.create("alice/da")
    client, repo = hub_client(hub), RepoId("alice/da")
    head = client.refs(repo).branches["main"]
    with pytest.raises(InvalidInputError, match="refuses it"):
        client.commit(repo, additions={"README.md": card.encode()}, message="x", parent=head)


def test_a_publish_refused_by_the_card_leaves_nothing_behind(hub: LoopbackHub, tmp_path: Path) -> None:
    registry, store = FileRegistry(tmp_path / "registry.json"), hub_store(hub, "alice", tmp_path / "cache")
    unknown = [{"tag": "xx-XX", "decode_language": "da"}]  # a code that ISO 639 does not have

    def refused(version: str) -> None:
        other = make_artifact(tmp_path / version, "alice/da", version, seed=2.0, languages=unknown)
        with pytest.raises(InvalidInputError, match='refuses it .*"language" with value "xx" is not valid'):
            publish(other.path, Places(registry, store))

    refused("1.0.0")
    assert not hub.has("alice/da")
    assert not registry.path.exists()
    publish(make_artifact(tmp_path / "good", "alice/da", "3.0.0").path, Places(registry, store))
    before, listed = hub.refs("alice/da"), registry.path.read_bytes()
    refused("2.0.0")  # would go to a branch of its own
    refused("4.0.0")  # to main
    assert hub.refs("alice/da") == before
    assert registry.path.read_bytes() == listed


@pytest.fixture
def stock(hub: LoopbackHub) -> LoopbackHub:
    """Uploads of other people, as `push_to_hub` of PEFT makes them, and one that is no speech."""
    for name, base in (
        ("bob/whisper-hi", "openai/whisper-small"),
        ("bob/hindi-asr", "openai/whisper-large-v3"),
        ("bob/Whisper-mine", "bob/whisper-finetuned"),
        ("bob/chat", "meta/llama-7b"),
    ):
        hub.create(name)
        hub.write(name, {"README.md": STOCK.format(base=base).encode(), "adapter_config.json": b"{}"})
    return hub


def found(run: Run, *words: str) -> set[str]:
    rows = json.loads(run("search", *words, "--json").out)
    return {row["repository"].removeprefix("hf://") for row in rows}


def test_a_search_for_peft_adapters_finds_uploads_whose_card_names_no_task(
    stock: LoopbackHub, run: Run
) -> None:
    assert found(run, "--peft") == {"bob/whisper-hi", "bob/hindi-asr", "bob/Whisper-mine"}
    assert found(run, "hindi", "--peft") == {"bob/hindi-asr"}
    assert found(run, "--peft", "--base-model", "openai/whisper-small") == {"bob/whisper-hi"}
    assert found(run, "--peft", "--base-model", "bob/whisper-finetuned") == {"bob/Whisper-mine"}
    assert len(found(run, "--peft", "--limit", "2")) == 2


def test_a_search_that_finds_nothing_does_not_advise_what_it_did(stock: LoopbackHub, run: Run) -> None:
    assert "--peft also searches" in run("search", "nothing-like-it").err
    done = run("search", "nothing-like-it", "--peft")
    assert "fewer conditions find more" in done.err
    assert "--peft" not in done.err


def test_a_search_by_region_finds_what_is_for_that_region(hub: LoopbackHub, run: Run, tmp_path: Path) -> None:
    registry, store = FileRegistry(tmp_path / "registry.json"), hub_store(hub, "alice", tmp_path / "cache")
    for tag in ("pt-BR", "pt-PT", "pt"):
        languages = [{"tag": tag, "decode_language": "pt"}]
        artifact = make_artifact(tmp_path / tag, f"alice/{tag}", languages=languages, seed=float(len(tag)))
        publish(artifact.path, Places(registry, store))
    assert found(run, "--language", "pt-br") == {"alice/pt-BR"}
    assert found(run, "--language", "pt") == {"alice/pt-BR", "alice/pt-PT", "alice/pt"}
    assert found(run, "--language", "Portuguese") == {"alice/pt-BR", "alice/pt-PT", "alice/pt"}
