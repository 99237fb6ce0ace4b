"""Where an adapter is and what it says of itself: folders, pages, base models and languages of others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from safetensors.torch import load_file, save_file
from small_whisper import write_peft

from adapter_hub.artifact.folder import Artifact
from adapter_hub.audit import audit
from adapter_hub.base_model.digest import EMBEDDED_ID, base_model_digest, linear_shapes
from adapter_hub.errors import InvalidInputError
from adapter_hub.exchange.peft_sources import hub_place
from adapter_hub.exchange.places import Places
from adapter_hub.model.base_model import BaseModel

COMMIT = "a" * 40


@pytest.fixture(scope="module")
def made(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_peft(tmp_path_factory.mktemp("made") / "theirs", base, seed=1, targets=["q_proj"])


@pytest.fixture
def theirs(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "theirs")


def configure(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def write_card(folder: Path, matter: str) -> None:
    (folder / "README.md").write_text(f"---\n{matter}\n---\n# An adapter\n")


def refused(answer: Any, *said: str) -> None:
    assert answer.code == 1
    assert answer.out == ""
    assert answer.err.count("\n") == 1
    assert len(answer.err) < 1920  # a screen
    for words in said:
        assert words in answer.err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("text", "revision", "subfolder"),
    [
        ("hf://alice/da", "main", ""),
        ("hf://alice/da@v1", "v1", ""),
        ("hf://alice/da@refs/pr/3", "refs/pr/3", ""),
        ("hf://models/alice/da", "main", ""),
        ("hf://alice/da/last", "main", "last"),
        ("hf://alice/da/out/best/@v1", "v1", "out/best"),
        (f"hf://alice/da@{COMMIT}/out/best", COMMIT, "out/best"),
        ("https://huggingface.co/alice/da", "main", ""),
        ("https://huggingface.co/alice/da/", "main", ""),
        ("http://www.huggingface.co/alice/da?library=peft#use", "main", ""),
        ("huggingface.co/alice/da", "main", ""),
        ("https://hf.co/alice/da", "main", ""),
        ("https://huggingface.co/alice/da/tree/main", "main", ""),
        (f"https://huggingface.co/alice/da/tree/{COMMIT}/out/best", COMMIT, "out/best"),
        ("https://huggingface.co/alice/da/blob/v2/adapter_config.json", "v2", ""),
        ("https://huggingface.co/alice/da/resolve/main/last/adapter_model.safetensors", "main", "last"),
        ("https://huggingface.co/alice/da/discussions", "main", ""),
    ],
)
def test_an_address_of_a_page_is_that_of_the_repository(text: str, revision: str, subfolder: str) -> None:
    place = hub_place(text)
    assert place is not None
    assert (place.repo.id, place.revision, place.subfolder) == ("alice/da", revision, subfolder)


@pytest.mark.parametrize(
    "text",
    [
        "hf://datasets/alice/da",
        "https://huggingface.co/datasets/alice/da",
        "https://huggingface.co/spaces/alice/da",
        "https://huggingface.co/alice",
        "https://example.com/alice/da",
        "https://huggingface.co/alice/da/tree/../../x",
    ],
)
def test_an_address_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="expected"):
        hub_place(text)


def test_a_bare_name_is_answered_with_the_hubs_form(run: Run) -> None:
    refused(run("import", "alice/da", "--language", "da"), "no such folder; the Hub's is hf://alice/da")
    refused(run("import", "alice/da@main", "--language", "da"), "the Hub's is hf://alice/da@main")
    refused(run("import", "nowhere", "--language", "da"), "nowhere: no such folder\n")
    refused(run("import", "x" * 98_000, "--language", "da"), "no such folder")


def test_adapters_in_sub_folders_are_listed_and_one_is_taken(
    run: Run, theirs: Path, base_folder: Path, tmp_path: Path
) -> None:
    top = tmp_path / "run"
    for name in ("checkpoint-1000", "checkpoint-900"):
        shutil.copytree(theirs, top / name)
    words = ("import", "run", "--language", "da", "--base-model", str(base_folder), "--out", "out")
    listed = "but in checkpoint-900, checkpoint-1000; name one of them, like --subfolder checkpoint-1000"
    refused(run(*words), f"no adapter_config.json, {listed}")
    refused(
        run(*words, "--subfolder", "checkpoint-5"), "no adapter_config.json; expected a LoRA as PEFT saves"
    )
    refused(run(*words, "--subfolder", "../theirs"), "not a path inside a repository")
    done = run(*words, "--subfolder", "checkpoint-900/")
    assert (done.code, done.out) == (0, "imported/run@1.0.0  out\n")


def test_a_whole_model_is_told_from_an_adapter(run: Run, base_folder: Path) -> None:
    shutil.copytree(base_folder, "whole")
    refused(run("import", "whole", "--language", "da"), "a whole model, of which `adapter-hub extract` makes")


@pytest.mark.parametrize(
    "named",
    [
        "/content/drive/MyDrive/whisper",
        "./models/base",
        "C:\\models\\base",
        "whisper-small",
        ["a/b"],
        7,
        None,
        "",
        {},
    ],
)
def test_a_base_model_of_somebodys_machine_is_one_line_that_says_what_to_do(
    named: Any, run: Run, theirs: Path
) -> None:
    configure(theirs, base_model_name_or_path=named)
    said = ("adapter_config.json names", "its card nothing", "--base-model openai/whisper-small")
    refused(run("import", "theirs", "--language", "da", "--out", "out"), *said)
    write_card(theirs, "base_model: [1, 2]")
    refused(
        run("import", "theirs", "--language", "da", "--out", "out"), "its card [1, 2]: no id of one model"
    )


@pytest.mark.parametrize("matter", [f"base_model: {EMBEDDED_ID}", f"base_model:\n- {EMBEDDED_ID}\n- ./here"])
def test_the_card_of_a_folder_names_what_the_config_does_not(
    matter: str, run: Run, theirs: Path, base_folder: Path
) -> None:
    configure(theirs, base_model_name_or_path="/home/me/whisper")
    write_card(theirs, f"{matter}\nlanguage: da\nlicense: mit")
    answer = run("import", "theirs", "--out", "out")
    refused(answer, f"on base model {EMBEDDED_ID}")  # found, and of another shape
    assert run("import", "theirs", "--out", "out", "--base-model", base_folder, "--force").code == 0
    manifest = Artifact.open("out").manifest
    assert (manifest.license, manifest.languages[0].tag) == ("MIT", "da")


def test_openais_models_are_known_in_any_case(run: Run, theirs: Path, base_folder: Path) -> None:
    configure(theirs, base_model_name_or_path="OpenAI/Whisper-Base")
    answer = run("import", "theirs", "--language", "da", "--out", "out")
    refused(answer, "adapter-hub base-model fetch openai/whisper-base")


def test_another_base_model_than_the_adapter_names_needs_force_and_is_recorded(
    run: Run, theirs: Path, base_folder: Path
) -> None:
    configure(theirs, base_model_name_or_path=EMBEDDED_ID)
    words = ("import", "theirs", "--language", "da", "--out", "out", "--base-model", str(base_folder))
    refused(run(*words), f"it names {EMBEDDED_ID} as its base model, --base-model is", "--force")
    assert run(*words, "--force").code == 0
    artifact = Artifact.open("out")
    artifact.verify()
    assert artifact.manifest.named_base_model == EMBEDDED_ID
    (unknown,) = (item for item in audit(["out"], Places(())) if item.code == "provenance-unknown")
    assert f"while its own config names {EMBEDDED_ID}" in unknown.message
    assert f"its own configuration names `{EMBEDDED_ID}`" in run("card", "./out").out


def test_models_of_one_shape_are_told_apart_by_their_names(run: Run, theirs: Path) -> None:
    configure(theirs, base_model_name_or_path="openai/whisper-large-v3")
    answer = run("import", "theirs", "--language", "da", "--out", "out", "--base-model", EMBEDDED_ID)
    refused(answer, "names openai/whisper-large-v3", f"--base-model is {EMBEDDED_ID}")


def test_a_folder_that_may_be_the_base_model_that_the_adapter_names_is_taken_for_it_and_that_is_said(
    run: Run, theirs: Path, base_folder: Path
) -> None:
    configure(theirs, base_model_name_or_path="someone/unknown")  # not here: nobody can say
    answer = run("import", "theirs", "--language", "da", "--out", "out", "--base-model", base_folder)
    assert answer.code == 0
    assert "it names someone/unknown as its base model, which base0 is taken to be" in answer.err
    assert Artifact.open("out").manifest.named_base_model is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--language", "zz"], "language 'zz': the base model has no token for it"),
        (["--language", "qq-Latn"], "language 'qq-Latn': the base model has no token for it"),
        (["--language", "e n"], "language 'e n'"),
        (["--language", "danisch"], "nearest: da (Danish)"),
        (["--language", "hindi"], "language 'hindi': the base model has no token for it"),
        (["--language", "mdw"], "name the one whose token it was trained with by --decode-language"),
        (["--language", ""], "expected some text"),
        (["--language", " "], "expected some text"),
        (
            ["--language", "da", "--decode-language", "qq"],
            "decode language 'qq': the base model has no token",
        ),
        (["--language", "da", "--decode-language", ""], "expected some text"),
        (
            ["--language", "da", "--decode-language", "da", "--decode-language", "en"],
            "2 languages to decode in",
        ),
        (["--language", "d@", "--decode-language", "da"], "language 'd@': expected a BCP 47 tag"),
        (["--language", "x" * 90_000], "language 'xxx"),
    ],
)
def test_a_language_that_the_base_model_cannot_decode_is_refused(
    words: list[str], said: str, run: Run, theirs: Path, base_folder: Path
) -> None:
    answer = run("import", "theirs", "--out", "out", "--base-model", base_folder, *words)
    assert answer.code in (1, 2)
    assert answer.err.count("error:") == 1
    assert "Traceback" not in answer.err
    assert len(answer.err) < 1920
    assert said in answer.err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("words", "tag", "decode"),
    [
        (["Danish"], "da", "da"),
        (["da_DK"], "da-DK", "da"),
        (["zh-Hant-TW"], "zh-Hant-TW", "zh"),
        (["mdw", "--decode-language", "English"], "mdw", "en"),
    ],
)
def test_a_language_that_it_has_a_token_for_is_taken(
    words: list[str], tag: str, decode: str, run: Run, theirs: Path, base_folder: Path
) -> None:
    done = run("import", "theirs", "--out", "out", "--base-model", base_folder, "--language", *words)
    assert done.code == 0
    (language,) = Artifact.open("out").manifest.languages
    assert (language.tag, language.decode_language) == (tag, decode)


@pytest.mark.parametrize("words", [["da"], ["mdw", "--decode-language", "da"], ["danish"]])
def test_an_english_only_base_model_takes_english_alone(
    words: list[str], run: Run, theirs: Path, base_folder: Path
) -> None:
    english = shutil.copytree(base_folder, Path("english"))
    path = english / "generation_config.json"
    kept = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("lang_to_id", "task_to_id")}
    path.write_text(json.dumps(kept | {"is_multilingual": False}))
    start = ("import", "theirs", "--out", "out", "--base-model", "./english", "--language")
    refused(run(*start, *words), "the base model is English-only; expected en")
    assert run(*start, "en-GB").code == 0


def test_a_card_of_nonsense_is_one_line(run: Run, theirs: Path, base_folder: Path) -> None:
    words = ("import", "theirs", "--out", "out", "--base-model", str(base_folder))
    for matter in (f"language: [{'x' * 90_000}]", "language: [multilingual]", "language: 7", "language: [[["):
        write_card(theirs, matter)
        refused(run(*words), "language")


@pytest.mark.parametrize(
    "changes",
    [
        {"base_model_name_or_path": "x" * 98_000},
        {"target_modules": ["y" * 8000] * 8},
        {"modules_to_save": ["fc1"] * 3000},
        {f"feature_{n}{'w' * 500}": "v" * 3000 for n in range(40)},
        {"rank_pattern": {f"{'u' * 2000}{n}(": 1 for n in range(40)}},
        {"peft_type": "t" * 98_000},
        {"init_lora_weights": "s" * 98_000},
        {"exclude_modules": ".*" + "r" * 9000},
    ],
)
def test_an_error_is_never_longer_than_a_screen(
    changes: Any, run: Run, theirs: Path, base_folder: Path
) -> None:
    configure(theirs, **changes)
    refused(run("import", "theirs", "--language", "da", "--out", "out"))
    if changes.keys() != {"base_model_name_or_path"}:
        refused(run("import", "theirs", "--language", "da", "--out", "out", "--base-model", base_folder))


def test_the_head_is_a_linear_whether_or_not_the_file_holds_its_copy(
    run: Run, base: BaseModel, base_folder: Path
) -> None:
    adapter = write_peft(Path("head"), base, seed=2, targets=["proj_out"])
    made = {}
    for name, keeps in (("with", True), ("without", False)):
        folder = shutil.copytree(base_folder, Path(name))
        tensors = load_file(folder / "model.safetensors")
        copy = tensors["model.decoder.embed_tokens.weight"].clone()
        tensors = {k: v for k, v in tensors.items() if k != "proj_out.weight"}
        save_file(tensors | ({"proj_out.weight": copy} if keeps else {}), folder / "model.safetensors")
        words = ("--base-model", f"./{name}", "--language", "da", "--out", f"out-{name}")
        assert run("import", adapter, *words).code == 0
        made[name] = Artifact.open(f"out-{name}").manifest
    assert base_model_digest(Path("with")) == base_model_digest(Path("without"))
    assert linear_shapes(Path("with")) == linear_shapes(Path("without"))
    assert made["with"].function_digest == made["without"].function_digest
