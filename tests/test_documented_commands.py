"""The commands that README.md, docs/sharing.md and docs/commands.md show, typed as they stand there.

On the loopback Hub; the embedded base model stands for openai/whisper-small, and where sharing begins, an
adapter of the catalogue for the one trained on the reader's own data.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import commands_page
import pytest
from command_line import Run
from loopback_hub import LoopbackHub
from readme import README, ROOT

from adapter_hub.base_model.digest import EMBEDDED_ID
from adapter_hub.base_model.finding import find_base_model

BASE = "openai/whisper-small"
CARD = f"---\nlanguage: es\nlicense: cc-by-4.0\nbase_model: {BASE}\nlibrary_name: peft\n---\n"
CLIP = ROOT / "tests/clips/da.flac"


def lines_of(section: str) -> list[str]:
    """Return the command lines of a section of the README."""
    return lines_in(
        README.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    )


def lines_in(text: str) -> list[str]:
    bodies = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [line for body in bodies for line in body.splitlines()]


def type_in(lines: list[str], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lines
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            monkeypatch.setenv(name, value)
        else:
            done = run(*words[1:])
            assert done.code == 0, f"{line}\n{done.err}"


def write_data(language: str) -> None:
    """Write a data set with one recording a split."""
    for split in ("train", "dev", "test"):
        folder = Path("data", language, split)
        folder.mkdir(parents=True)
        shutil.copy(CLIP, folder / "0001.flac")
        row = {"file_name": "0001.flac", "text": f"siete mil {language}", "speaker": split}
        (folder / "metadata.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")


def put_peft_adapter(hub: LoopbackHub, run: Run) -> None:
    """Put an adapter of the catalogue on the Hub as bob's, as plain PEFT would."""
    assert run("pull", "mini/da", "--to", "theirs").code == 0
    names = ("adapter_config.json", "adapter_model.safetensors")
    peft = {name: Path("theirs", name).read_bytes() for name in names}
    config = json.loads(peft["adapter_config.json"]) | {"base_model_name_or_path": BASE}
    peft["adapter_config.json"] = json.dumps(config).encode()
    hub.create("bob/whisper-lora-es")
    hub.write("bob/whisper-lora-es", {**peft, "README.md": CARD.encode()})


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_http: None, run: Run
) -> Iterator[LoopbackHub]:
    """A folder with talk.wav, and with a copy of the base model that lies on a Hub."""
    base = find_base_model(EMBEDDED_ID)[0]
    shutil.copytree(base, "whisper-small")
    shutil.copy(CLIP, "talk.wav")
    with LoopbackHub(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_TOKEN", hub.token("alice"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub_cache"))
        hub.create(BASE)
        hub.write(BASE, {path.name: path.read_bytes() for path in base.iterdir()})
        yield hub


def test_what_is_shown_about_sharing_works_as_it_is_typed(
    place: LoopbackHub, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("base-model", "fetch", BASE).code == 0
    put_peft_adapter(place, run)
    for language in ("pl", "it"):
        write_data(language)
    done = run("import", "hf://bob/whisper-lora-es", "--as", "alice/es@1.0.0", "--out", "out/es")
    assert done.code == 0, done.err
    sharing = (ROOT / "docs/sharing.md").read_text(encoding="utf-8")
    type_in([*lines_of("Share"), *lines_in(sharing)], run, monkeypatch)
    assert place.refs("alice/whisper-small-es").tags.keys() == {"v1.0.0"}
    assert place.has("datasets/alice/registry")
    assert "quarantined" in run("pull", "alice/whisper-small-es").err


def test_what_is_shown_about_training_works_as_it_is_typed(
    place: LoopbackHub, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_data("es")
    type_in(lines_of("Train on your own data"), run, monkeypatch)
    assert "alice/es@1.0.0" in run("list", "--language", "es").out


def test_the_example_of_every_command_works_as_it_is_typed(
    place: LoopbackHub, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_data("es")
    put_peft_adapter(place, run)
    assert run("base-model", "fetch", BASE).code == 0
    done = run("import", "hf://bob/whisper-lora-es", "--as", "alice/es@1.0.0", "--out", "out/es")
    assert done.code == 0, done.err
    monkeypatch.setenv("ADAPTER_HUB_REGISTRY", "mine/registry.json")
    lines = lines_in((ROOT / "docs/commands.md").read_text(encoding="utf-8"))
    assert lines == [*commands_page.EXAMPLES.values()]
    elsewhere = {
        "train",
        "evaluate",
        "attach",
        "compare",
        "extract",
        "demo",
        "fold",
        "serve",
    }  # typed above and in tests of their own, or too long
    type_in(
        [line for name, line in commands_page.EXAMPLES.items() if name not in elsewhere], run, monkeypatch
    )
    assert "alice/es@1.0.0" in run("list", "--status", "deprecated").out
