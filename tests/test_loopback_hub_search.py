"""What the loopback Hub says about repositories: tags made of the card, searches, users, datasets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils import get_session
from loopback_hub import LoopbackHub

CARD = """---
language:
- {language}
license: apache-2.0
library_name: peft
base_model: {base}
pipeline_tag: automatic-speech-recognition
tags:
- lora
---
# Whisper for {language}
"""

pytestmark = pytest.mark.usefixtures("plain_http")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub") as running:
        for name, language, base in (
            ("mini/pl", "pl", "openai/whisper-small"),
            ("mini/da", "da", "openai/whisper-small"),
            ("alice/pl-tiny", "pl", "openai/whisper-tiny"),
        ):
            running.create(name)
            card = CARD.format(language=language, base=base).encode()
            running.write(name, {"README.md": card, "adapter_config.json": b"{}", "w.safetensors": b"1"})
        yield running


def api_of(hub: LoopbackHub, user: str = "alice") -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=hub.token(user))


def names(hub: LoopbackHub, **query: object) -> list[str]:
    return [model.id for model in api_of(hub).list_models(**query)]  # type: ignore[arg-type]


def test_a_search_finds_what_has_all_that_is_asked(hub: LoopbackHub) -> None:
    assert names(hub, filter="pl") == ["alice/pl-tiny", "mini/pl"]
    assert names(hub, filter=["pl", "base_model:adapter:openai/whisper-small"]) == ["mini/pl"]
    assert names(hub, filter="base_model:openai/whisper-small") == ["mini/da", "mini/pl"]
    assert names(hub, filter="peft", author="alice") == ["alice/pl-tiny"]
    assert names(hub, search="TINY") == ["alice/pl-tiny"]
    assert names(hub, sort="created_at") == ["alice/pl-tiny", "mini/da", "mini/pl"]
    assert names(hub, sort="created_at", limit=1) == ["alice/pl-tiny"]
    assert names(hub, filter="sw") == []
    assert names(hub, pipeline_tag="automatic-speech-recognition", gated=False, author="mini") == [
        "mini/da",
        "mini/pl",
    ]


def test_a_row_has_more_only_if_asked(hub: LoopbackHub) -> None:
    (short,) = api_of(hub).list_models(search="mini/pl")
    assert short.card_data is None
    assert short.author is None
    assert short.sha is None
    (full,) = api_of(hub).list_models(search="mini/pl", full=True, cardData=True)
    assert full.card_data is not None
    assert full.card_data.base_model == "openai/whisper-small"
    assert full.sha == hub.refs("mini/pl").branches["main"]
    assert "adapter_config.json" in [sibling.rfilename for sibling in full.siblings or ()]
    (expanded,) = api_of(hub).list_models(search="mini/pl", expand=["cardData", "sha"])
    assert expanded.tags is None
    assert expanded.sha == full.sha


def test_tags_are_made_of_the_card_and_the_files(hub: LoopbackHub) -> None:
    assert api_of(hub).model_info("mini/pl").tags == [
        *("peft", "safetensors", "automatic-speech-recognition", "lora", "pl"),
        *("base_model:openai/whisper-small", "base_model:adapter:openai/whisper-small"),
        *("license:apache-2.0", "region:us"),
    ]
    bases = api_of(hub).model_info("mini/pl", expand=["baseModels"]).base_models
    assert bases == {"relation": "adapter", "models": [{"id": "openai/whisper-small"}]}


def test_a_dataset_is_another_repository_of_the_same_name(hub: LoopbackHub) -> None:
    api = api_of(hub)
    url = api.create_repo("mini/pl", repo_type="dataset")
    assert url == f"{hub.endpoint}/datasets/mini/pl"
    api.upload_file(
        path_or_fileobj=b"---\nlanguage: pl\n---\n",
        path_in_repo="README.md",
        repo_id="mini/pl",
        repo_type="dataset",
    )
    info = api.dataset_info("mini/pl", files_metadata=True)
    assert info.tags == ["language:pl", "region:us"]
    assert [row.id for row in api.list_datasets(filter="language:pl")] == ["mini/pl"]
    assert set(hub.files("datasets/mini/pl")) == {".gitattributes", "README.md"}
    api.delete_repo("mini/pl", repo_type="dataset")
    with pytest.raises(RepositoryNotFoundError, match="404"):
        api.dataset_info("mini/pl")
    assert hub.has("mini/pl")
    assert not hub.has("datasets/mini/pl")


def test_users_and_organisations(hub: LoopbackHub) -> None:
    api = api_of(hub, "reader")
    assert api.whoami()["auth"]["accessToken"]["role"] == "read"
    assert [one["name"] for one in api_of(hub).whoami()["orgs"]] == ["mini"]
    assert api.get_user_overview("alice").num_models == 1
    assert api.get_organization_overview("mini").num_models == 2
    with pytest.raises(HfHubHTTPError, match="404"):
        api.get_user_overview("nobody")
    hub.world.accounts.add_organization("voices", ["reader"])
    assert api.get_organization_overview("voices").num_users == 1


@pytest.mark.parametrize(
    ("asked", "status", "content"),
    [
        ("bytes=2-", 206, b"234567"),
        ("bytes=2-4", 206, b"234"),
        ("bytes=-3", 206, b"567"),
        ("bytes=0-99", 200, b"01234567"),
        ("bytes=8-", 416, None),
        ("lines=1", 200, b"01234567"),
    ],
)
def test_a_part_of_a_file(hub: LoopbackHub, asked: str, status: int, content: bytes | None) -> None:
    hub.write("mini/pl", {"digits": b"01234567"})
    url = f"{hub.endpoint}/mini/pl/resolve/main/digits"
    answer = get_session().get(url, headers={"Range": asked})
    assert answer.status_code == status
    assert content in (None, answer.content)
    if status == 206:
        assert answer.headers["Content-Range"].endswith("/8")
