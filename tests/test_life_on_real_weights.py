"""An adapter's life on a real Whisper and human speech, by the commands: trained, measured, shared, checked.

The model is named by ADAPTER_HUB_REAL, and English recordings (a folder with train and test, as `train` and
`evaluate` take it) by ADAPTER_HUB_REAL_SPEECH: `make test-real REAL=FOLDER SPEECH=FOLDER`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adapter_hub.artifact.folder import Artifact
from adapter_hub.cli import main

pytestmark = pytest.mark.real

RECIPE = """\
[adapter]
name = "real/{name}"
version = "1.0.0"
method = "{method}"
language = "en"
license = "CC0-1.0"

[base_model]
id = "{base_model}"
{parents}
[data]
train = "speech/train"
license = "CC0-1.0"

[lora]
rank = 4

[training]
steps = 4
batch_size = 4
audio_length = "batch"
peak_learning_rate = 1e-3
"""
PARENTS = """
[expert]
adapter = "real/plain@1.0.0"

[gate]
kind = "static"
"""


@dataclass(frozen=True)
class Home:
    """A user's folder, with a registry, a store and some recordings."""

    folder: Path
    base_model: Path

    def run(self, *words: str) -> str:
        """Run a command there, which must succeed; return its stdout."""
        out = io.StringIO()
        with (
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setenv("ADAPTER_HUB_REGISTRY", "registry.json")  # `--registry` has to be there
            assert main(["--cache", "cache", "--device", "cpu", *words]) == 0
        return out.getvalue()

    def json(self, *words: str) -> Any:
        """Run a command with --json."""
        return json.loads(self.run(*words, "--json"))

    def train(self, name: str, method: str, parents: str = "") -> Artifact:
        """Train for four steps."""
        text = RECIPE.format(name=name, method=method, base_model=self.base_model, parents=parents)
        (self.folder / f"{name}.toml").write_text(text)
        self.run("train", f"{name}.toml", "--out", name)
        return Artifact.open(self.folder / name)

    def clip(self) -> str:
        """The path of a test recording."""
        return str(next((self.folder / "speech" / "test").glob("*.*g")))


def some(data: Path, clips: int, folder: Path) -> None:
    lines = (data / "metadata.jsonl").read_text("utf-8").splitlines()[:clips]
    folder.mkdir(parents=True)
    for line in lines:
        shutil.copy(data / json.loads(line)["file_name"], folder)
    (folder / "metadata.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    model, speech = (os.environ.get(name) for name in ("ADAPTER_HUB_REAL", "ADAPTER_HUB_REAL_SPEECH"))
    if not model or not speech:
        pytest.skip("needs ADAPTER_HUB_REAL and ADAPTER_HUB_REAL_SPEECH, folders of a Whisper and of speech")
    folder = tmp_path_factory.mktemp("home")
    some(Path(speech, "train"), 8, folder / "speech" / "train")
    some(Path(speech, "test"), 8, folder / "speech" / "test")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        yield Home(folder, Path(model))


@pytest.fixture(scope="module")
def plain(home: Home) -> Artifact:
    """A LoRA, trained and published."""
    artifact = home.train("plain", "lora")
    home.run("publish", "plain")
    return artifact


@pytest.fixture(scope="module")
def pair(home: Home, plain: Artifact) -> Artifact:
    """An expert pair with a static gate on it."""
    return home.train("pair", "expert-pair", PARENTS)


def test_the_base_model_understands_human_speech(home: Home) -> None:
    model = ("--base-model", str(home.base_model), "--language", "en")
    report = home.json("evaluate", "base-model", *model, "--data", "speech", "--beams", "1")
    counts = report["words"]
    errors = counts["substitutions"] + counts["deletions"] + counts["insertions"]
    assert errors / (counts["hits"] + counts["substitutions"] + counts["deletions"]) < 0.3


def test_what_was_trained_and_published_is_pulled_and_changes_no_other_digest(
    home: Home, plain: Artifact
) -> None:
    training = plain.manifest.training
    assert training is not None
    assert training.steps == 4
    pulled = home.json("pull", "real/plain")
    assert plain.digest in json.dumps(pulled)
    assert [row["name"] for row in home.json("list") if row["name"].startswith("real/")] == ["real/plain"]


def test_the_audit_of_what_was_published_finds_no_error_with_its_probe_run(
    home: Home, plain: Artifact
) -> None:
    model = ("--base-model", str(home.base_model))
    findings = home.json("audit", "real/plain", "--probe", *model)
    assert not [finding for finding in findings if finding["severity"] == "error"]


def test_a_recording_is_transcribed_with_the_adapter_and_without(home: Home, plain: Artifact) -> None:
    model = ("--base-model", str(home.base_model))
    own = home.run("transcribe", "real/plain", home.clip(), *model).strip()
    bare = home.run("transcribe", "base-model", home.clip(), *model, "--language", "en").strip()
    assert own
    assert bare


def test_the_adapter_is_evaluated_and_its_card_shows_it(home: Home, plain: Artifact) -> None:
    model = ("--base-model", str(home.base_model))
    home.run("evaluate", "real/plain", *model, "--data", "speech", "--beams", "1", "--attach")
    assert "| speech | test | 8 |" in home.run("card", "real/plain")


def test_a_router_takes_the_adapter_for_the_language_that_it_hears(home: Home, plain: Artifact) -> None:
    words = ("--base-model", str(home.base_model), "--languages", "en", "--json")
    (heard,) = json.loads(home.run("transcribe", "auto", home.clip(), "--adapter", "real/plain", *words))
    assert heard["adapter"] == "real/plain@1.0.0"


def test_a_folded_pair_is_one_lora_of_both_ranks(home: Home, pair: Artifact) -> None:
    home.run("fold", "./pair", "--base-model", str(home.base_model), "--out", "folded")
    folded = Artifact.open(home.folder / "folded").manifest
    assert {module.rank for module in folded.lora[0].modules} == {8}


def test_peft_files_that_were_trained_here_are_imported_as_they_are(home: Home, plain: Artifact) -> None:
    stranger = home.folder / "stranger"
    stranger.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(plain.path / name, stranger)
    words = ("--base-model", str(home.base_model), "--language", "en", "--license", "CC0-1.0")
    home.run("import", "stranger", *words, "--as", "real/stranger@1.0.0", "--out", "imported")
    imported = Artifact.open(home.folder / "imported").manifest
    assert imported.weights_digest == plain.manifest.weights_digest
    assert imported.function_digest == plain.manifest.function_digest
