"""What is published stays for ever: no token, no path of a machine, no name of a person goes with it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from making import (
    lora_tensors,
    make_artifact,
    make_places,
    make_report,
    manifest_fields,
    write_safetensors,
    write_weights,
)
from small_training import places, recipe

from adapter_hub.artifact.folder import Artifact, seal
from adapter_hub.artifact.privacy import disclosures, without_names
from adapter_hub.artifact.safetensors_file import copy_without_notes, read_metadata, tensor_rows
from adapter_hub.audit import audit
from adapter_hub.base_model.finding import public_base_model
from adapter_hub.errors import InvalidInputError
from adapter_hub.exchange import Places, attach, publish
from adapter_hub.formats.claims import EvaluationReport
from adapter_hub.model.base_model import BaseModel
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.folder import FolderStore
from adapter_hub.trainers.published_recipe import published_recipe
from adapter_hub.trainers.recipe import read_recipe
from adapter_hub.trainers.training import train

HOME = "/" + "home/ana"  # no file of the project may hold such a path
SECRETS = {
    "hugging-face": "hf_" + "aB3" * 12,
    "github": "ghp_" + "a1B2" * 9,
    "github-fine": "github_pat_" + "A1" * 20,
    "gitlab": "glpat-" + "x1" * 12,
    "openai": "sk-" + "proj-" + "a1B2" * 8,
    "stripe": "sk_" + "live_" + "a1B2" * 8,
    "aws": "AKIA" + "A1B2" * 4,
    "google": "AIza" + "a1B2c" * 7,
    "slack": "xoxb-" + "12345-" * 4,
    "pypi": "pypi-" + "AgEI" * 10,
    "jwt": ".".join(["eyJ" + "hbGci" * 4, "eyJ" + "zdWIi" * 4, "SflKx" * 4]),
    "pem": "-----BEGIN " + "RSA PRIVATE KEY-----",
    "url": "https://ana:" + "tiger@example.org/data",
    "assigned": "api_key = 'Tr0ub4dor" + "&3'",
}
PATHS = [
    f"{HOME}/speech",
    f"see {HOME}/speech for more",
    "/" + "Users/ana/x",
    "/data/patients/x.wav",
    "/data",
    "C:" + "\\Users\\ana",
    "d:/corpora/x",
    "\\\\server\\share",
    "~/speech",
    "~ana/speech",
    "file:///data/x",
    "../../../speech/0001.wav",
    "a/../../b",
]
HARMLESS = [
    "openai/whisper-small",
    "hf://datasets/google/fleurs@" + "a" * 40,
    "https://www.apache.org/licenses/LICENSE-2.0",
    "Apache-2.0 OR MIT",
    "and/or",
    "x86_64 CPU, 2 cores",
    "spoken-numbers-da/train",
    "(model|base)/layers",
    "sha256:" + "a" * 64,
    "A password is needed",
    "2.13.0+cpu",
    "ana@example.org",
    "task-sklearn-and-other-words-in-a-row",
    "…/…",
]


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())
def test_what_opens_an_account_is_found_and_never_repeated(secret: str) -> None:
    found = list(disclosures({"recipe": f"# mine: {secret}\nx = 1"}, "adapter.json"))

    assert {item.kind for item in found} >= {"secret"}
    assert all(item.place == "adapter.json.recipe" for item in found)
    assert secret not in " ".join(map(str, found))


@pytest.mark.parametrize("text", PATHS)
def test_a_path_of_a_machine_is_found(text: str) -> None:
    assert [item.kind for item in disclosures([text], "id")][:1] == ["path"]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_looks_a_little_like_it_is_let_through(text: str) -> None:
    assert list(disclosures({"id": text})) == []


def test_a_key_of_an_object_may_not_hold_one_either() -> None:
    assert [item.kind for item in disclosures({"packages": {f"{HOME}/torch": "2"}})] == ["path"]


@pytest.mark.parametrize("piece", ["eyJ", "a", "sk-", "/a", "~", "..", "hf_", "a:", "secret=", "-----BEGIN "])
def test_no_text_takes_more_than_linear_time(piece: str) -> None:
    started = time.perf_counter()
    list(disclosures({"recipe": piece * (400_000 // len(piece))}))

    assert time.perf_counter() - started < 5.0  # quadratic would take minutes


def publish_it(artifact: Artifact, folder: Path) -> tuple[FileRegistry, FolderStore]:
    registry, store = make_places(folder)
    publish(artifact.path, Places(registry, store))
    return registry, store


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"license": f"LicenseRef-{HOME}/licence"}, "adapter.json.license"),
        ({"authors": ["Ana " + SECRETS["hugging-face"]]}, "adapter.json.authors.0"),
        ({"recipe": f"# {HOME}/es.toml\n"}, "adapter.json.recipe"),
        (
            {
                "data": [
                    {"id": "../../x", "split": "train", "hours": 1.0, "utterances": 1, "sha256": "a" * 64}
                ]
            },
            "adapter.json.data.0.id",
        ),
    ],
)
def test_publishing_refuses_a_manifest_that_tells_of_its_maker(
    run: Run, tmp_path: Path, changes: dict[str, Any], place: str
) -> None:
    make_artifact(tmp_path / "da", **changes)

    outcome = run("publish", "./da")

    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert f"{place}: " in outcome.err
    assert HOME not in outcome.err.replace(str(tmp_path), "")
    assert SECRETS["hugging-face"] not in outcome.err
    assert not (tmp_path / "registry.json").exists()
    assert not (tmp_path / "store").exists()


def test_the_notes_in_a_weights_file_are_looked_at_too(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "da"
    write_weights(folder)
    with_notes(folder / "adapter_model.safetensors", {"ss_train_data_dir": f"{HOME}/speech"})
    seal(folder, manifest_fields())

    outcome = run("publish", "./da")

    assert outcome.code == 1
    assert "adapter_model.safetensors.ss_train_data_dir: a path on somebody's machine" in outcome.err


def test_importing_leaves_such_notes_behind_and_every_tensor_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    source, copy = tmp_path / "theirs" / "w.safetensors", tmp_path / "ours.safetensors"
    with_notes(source, {"ss_train_data_dir": f"{HOME}/speech", "format": "pt"})

    copy_without_notes(source, copy)

    assert read_metadata(copy) == {"format": "pt"}
    assert tensor_rows(copy, "") == tensor_rows(source, "")
    assert b"ana" not in copy.read_bytes()


def with_notes(path: Path, notes: dict[str, str]) -> None:
    write_safetensors(path, lora_tensors())
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length]) | {"__metadata__": notes}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])


def test_a_base_model_in_a_manifest_is_never_a_path(tmp_path: Path) -> None:
    pin = manifest_fields()["base_model"]
    for path in (f"{HOME}/whisper", "../whisper", "./whisper", "~/whisper", "a/b/c", "openai/..", "", "x y"):
        with pytest.raises(InvalidInputError, match="base_model.id: expected namespace/name as on the Hub"):
            make_artifact(tmp_path / "da", base_model={**pin, "id": path})


@pytest.mark.parametrize(
    ("folder", "name", "commit"),
    [
        ("my whisper", "my-whisper", None),
        ("...", "base-model", None),
        (f"models--openai--whisper-base/snapshots/{'a' * 40}", "openai/whisper-base", "a" * 40),
    ],
)
def test_a_base_model_in_a_folder_goes_by_a_name(
    tmp_path: Path, folder: str, name: str, commit: str | None
) -> None:
    place = tmp_path / folder

    assert public_base_model(str(place), place) == (name, commit)


def test_a_trained_adapter_says_nothing_of_the_machine(
    tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    path = recipe(tmp_path, base_folder)
    text = path.read_text().replace('"data/train"', f'"{data / "train"}"')
    path.write_text(f"# token {SECRETS['hugging-face']}\n{text}# {HOME}\n")

    artifact = train(path, tmp_path / "out", **places(tmp_path))

    everything = (artifact.path / "adapter.json").read_text()
    everything += (artifact.path / "adapter_config.json").read_text()
    assert str(tmp_path) not in everything
    assert SECRETS["hugging-face"] not in everything
    assert HOME not in everything
    manifest = artifact.manifest
    assert manifest.recipe == published_recipe(read_recipe(path))
    assert 'train = "data/train"' in manifest.recipe
    assert manifest.base_model.id == base_folder.name
    assert manifest.base_model.digest == base.digest
    publish_it(artifact, tmp_path)


def test_the_published_recipe_is_a_recipe_and_does_not_depend_on_comments_or_folders(
    tmp_path: Path, base_folder: Path
) -> None:
    path = recipe(tmp_path, base_folder)
    text = published_recipe(read_recipe(path))
    (tmp_path / "again.toml").write_text(text)
    again = read_recipe(tmp_path / "again.toml")
    plain = path.read_text()
    path.write_text("# a comment\n" + plain.replace("rank = 4", "rank =    4 # small"))

    assert published_recipe(read_recipe(path)) == text
    assert published_recipe(again) == text
    assert "#" not in text
    assert again.recipe.lora == read_recipe(path).recipe.lora


def test_an_adapter_that_a_recipe_names_by_its_folder_is_called_by_its_reference(
    tmp_path: Path, base_folder: Path
) -> None:
    seed = make_artifact(tmp_path / "seed")
    path = recipe(
        tmp_path, base_folder, method='"warm-start"', extra=f'[seed]\nadapter = "{tmp_path / "seed"}"\n'
    )

    assert f'adapter = "test/da@1.0.0#{seed.digest}"' in published_recipe(read_recipe(path))


def report_with_people(artifact: Artifact) -> EvaluationReport:
    """Return a report of three utterances by two people, two of the same recording."""
    report = make_report(artifact)
    row = report.rows[0]
    named = [("b" * 64, "Ana", "ana-1.wav"), ("a" * 64, "Bo", "../../bo.wav"), ("b" * 64, "Ana", "ana-2.wav")]
    rows = tuple(
        row.model_copy(update={"id": file, "speaker": who, "audio_sha256": digest})
        for digest, who, file in named
    )
    words = report.words + report.words + report.words
    characters = report.characters + report.characters + report.characters
    return report.model_copy(update={"rows": rows, "words": words, "characters": characters})


def test_an_attached_report_has_numbers_for_speakers_and_digests_for_files(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "da")
    registry, store = publish_it(artifact, tmp_path)
    attach(report_with_people(artifact), Places(registry, store))

    (report,) = store.claims("test/da").reports
    assert [row.id for row in report.rows] == ["b" * 64, "a" * 64, f"{'b' * 64}-2"]
    assert [row.speaker for row in report.rows] == ["speaker-2", "speaker-1", "speaker-2"]
    assert without_names(report) == report
    assert "people-named" not in codes(registry)


def test_names_are_published_only_where_they_are_asked_for_and_the_audit_tells(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "da")
    registry, store = publish_it(artifact, tmp_path)
    report = report_with_people(artifact)
    rows = tuple(row.model_copy(update={"id": f"{n}.wav"}) for n, row in enumerate(report.rows))
    attach(report.model_copy(update={"rows": rows}), Places(registry, store), with_speakers=True)

    assert [row.speaker for row in store.claims("test/da").reports[0].rows] == ["Ana", "Bo", "Ana"]
    assert "people-named" in codes(registry)


def codes(registry: FileRegistry) -> set[str]:
    return {finding.code for finding in audit(["test/da@1.0.0"], Places([registry]))}


def test_the_audit_finds_what_others_published(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "da", recipe=f"# {HOME}/x, {SECRETS['hugging-face']}\n")
    found = {finding.code: finding for finding in audit([str(artifact.path)], Places([]))}

    assert found["secret-published"].severity == "error"
    assert found["machine-path"].severity == "warning"
    assert SECRETS["hugging-face"] not in found["secret-published"].message


def test_evaluate_with_speakers_without_attach_says_where_names_are(run: Run) -> None:
    outcome = run("evaluate", "mini/da", "--data", "nowhere", "--with-speakers")

    assert outcome.code == 1
    assert "--with-speakers: needs --attach" in outcome.err
