"""The wheel, built, installed in a clean environment and started there, away from the checkout.

The clean environment takes the third-party packages from this one through a `.pth` file: nothing is
downloaded twice, and editable installs of this environment are invisible there, because Python reads
`.pth` files of site folders only. `pip check` compares what the wheel asks for with what is there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command with nothing of this checkout in its environment and return its stdout."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "ADAPTER_HUB", "VIRTUAL_ENV"))
    }
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment | {"HOME": str(cwd), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build sdist, then the wheel from the sdist: what is not in the sdist cannot be in the wheel."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    wheels = list(out.glob("*.whl"))
    assert len(wheels) == 1
    return wheels[0]


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of commands of an environment that holds the wheel."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=False)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = (sys.executable, "-m", "pip", "--python", scripts / "python", "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    site = run(
        scripts / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder
    ).strip()
    Path(site, "third_party.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    run(*pip, "check", cwd=folder)
    return scripts


def test_the_wheel_holds_code_data_and_catalogue_and_no_stranger(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"adapter_hub"}
    for name in (
        "py.typed",
        "embedded/registry.json",
        "embedded/base_model/config.json",
        "embedded/base_model/model.safetensors",
        "cards/templates/card.md.j2",
        "formats/schemas/adapter.json",
        "trainers/makers/corpus/settings.toml",
    ):
        assert f"adapter_hub/{name}" in names
    assert any(name.endswith("/adapter_model.safetensors") for name in names)
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert not [name for name in names if "/tests/" in name or "__pycache__" in name]


def test_the_installed_wheel_is_the_one_that_runs(clean: Path) -> None:
    place = run(clean / "python", "-c", "import adapter_hub; print(adapter_hub.__file__)", cwd=clean)
    assert Path(place.strip()).is_relative_to(clean.parent)


def test_the_installed_command_finds_the_catalogue_and_audits_it(clean: Path, tmp_path: Path) -> None:
    listed = json.loads(run(clean / "adapter-hub", "list", "--json", cwd=tmp_path))
    checkout = json.loads((ROOT / "registry.json").read_bytes())["adapters"]
    assert {(row["name"], row["version"]) for row in listed} == {
        (name, version) for name, versions in checkout.items() for version in versions
    }
    assert listed
    findings = json.loads(run(clean / "adapter-hub", "audit", "--json", cwd=tmp_path))
    assert not [finding for finding in findings if finding["severity"] == "error"]


def test_the_installed_embedded_model_loads_and_is_the_one_that_the_catalogue_pins(
    clean: Path, tmp_path: Path
) -> None:
    program = (
        "from adapter_hub import embedded\n"
        "from adapter_hub.base_model.digest import base_model_digest\n"
        "from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor\n"
        "folder = embedded.base_model_path()\n"
        "AutoProcessor.from_pretrained(folder); AutoModelForSpeechSeq2Seq.from_pretrained(folder)\n"
        "print(base_model_digest(folder))"
    )
    digest = run(clean / "python", "-c", program, cwd=tmp_path).strip().splitlines()[-1]
    listed = json.loads(run(clean / "adapter-hub", "list", "--json", cwd=tmp_path))
    assert {row["base_model"]["digest"] for row in listed} == {digest}


def test_a_card_is_rendered_from_the_template_in_the_wheel(clean: Path, tmp_path: Path) -> None:
    listed = json.loads(run(clean / "adapter-hub", "list", "--json", cwd=tmp_path))
    ref = f"{listed[0]['name']}@{listed[0]['version']}"
    assert run(clean / "adapter-hub", "card", ref, cwd=tmp_path).startswith("---\nlanguage:\n")


TRAINING_ONLY = ("accelerate", "peft", "tensorboard", "tensorboard_data_server", "grpc", "grpcio", "werkzeug")


@pytest.fixture(scope="module")
def bare(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return Python in an environment like `clean` without what only the extra `train` brings."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-c", query, cwd=folder).strip())
    own = Path(run(clean / "python", "-c", query, cwd=folder).strip())
    for entry in (*Path(sysconfig.get_path("purelib")).iterdir(), *own.glob("adapter_hub*")):
        package = entry.name.split(".")[0].split("-")[0]
        if package not in TRAINING_ONLY and entry.suffix != ".pth" and not (site / entry.name).exists():
            (site / entry.name).symlink_to(entry)
    return python


def test_without_the_extra_train_adapters_are_run_and_averaged_and_training_names_the_extra(
    bare: Path, tmp_path: Path
) -> None:
    program = "import sys; from adapter_hub.cli import main; sys.exit(main(sys.argv[1:]))"
    clip = ROOT / "tests" / "clips" / "da.flac"
    said = run(bare, "-c", program, "transcribe", "mini/da", clip, cwd=tmp_path)
    assert said == "firetusind trehundrede og otteogtredive\n"
    run(
        bare,
        "-c",
        program,
        "average",
        "mini/it",
        "mini/pl",
        "--as",
        "a/b@1.0.0",
        "--out",
        "mean",
        cwd=tmp_path,
    )
    assert (tmp_path / "mean" / "adapter.json").is_file()
    recipe = ("recipe", "new", "lora", "--language", "es", "--namespace", "a", "--base-model")
    run(bare, "-c", program, *recipe, "adapter-hub/whisper-mini", "--out", "es.toml", cwd=tmp_path)
    refused = subprocess.run(
        [bare, "-c", program, "train", "es.toml", "--out", "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith(
        "error: training needs accelerate and peft: run `pip install '.[train]'`"
    )
