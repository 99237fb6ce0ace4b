"""Training on a small real Whisper: what comes out, what is refused, what survives an interruption."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from making import manifest_fields
from peft import PeftModel
from safetensors.torch import load_file
from small_training import places, recipe
from small_whisper import make_adapter, write_peft
from transformers import WhisperForConditionalGeneration

from adapter_hub.artifact.folder import seal
from adapter_hub.errors import ConflictError, DivergedError, InvalidInputError, NotFoundError
from adapter_hub.exchange import Places, publish
from adapter_hub.model.base_model import BaseModel
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.folder import FolderStore
from adapter_hub.trainers.loop.checkpoints import last_checkpoint
from adapter_hub.trainers.published_recipe import published_recipe
from adapter_hub.trainers.recipe import read_recipe
from adapter_hub.trainers.recipe_tables import NEAREST
from adapter_hub.trainers.training import train


def test_training_writes_an_artifact_that_is_whole_and_does_something(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    path, said = recipe(tmp_path, base_folder), []
    artifact = train(path, tmp_path / "out", tell=said.append, **places(tmp_path))
    artifact.verify()
    manifest = artifact.manifest
    assert manifest.recipe == published_recipe(read_recipe(path))
    assert (manifest.method, manifest.lora[0].dtype, manifest.rank) == ("lora", "float16", 4)
    assert manifest.training is not None
    assert manifest.training.steps == 6
    assert manifest.data[0].utterances == 12
    assert manifest.probe is not None
    assert manifest.probe.adapter_logits != manifest.probe.base_model_logits
    assert not (tmp_path / "out.training").exists()
    assert any("dev loss" in line and "left" in line for line in said)
    costs = next(line for line in said if "audio_length" in line)
    assert "of its work); the recipe has 'batch'" in costs


def test_the_same_recipe_again_gives_the_same_weights_and_a_finished_one_is_not_trained_again(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    path = recipe(tmp_path, base_folder)
    first = train(path, tmp_path / "one", **places(tmp_path))
    second = train(path, tmp_path / "two", **places(tmp_path))
    assert first.manifest.weights_digest == second.manifest.weights_digest
    assert train(path, tmp_path / "one", **places(tmp_path)).digest == first.digest
    path.write_text(path.read_text().replace("epochs = 2", "epochs = 1"))
    with pytest.raises(ConflictError, match="was not made by this recipe; choose another --out"):
        train(path, tmp_path / "one", **places(tmp_path))


def test_plain_peft_loads_what_was_trained(
    tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    artifact = train(recipe(tmp_path, base_folder), tmp_path / "out", **places(tmp_path))
    plain = WhisperForConditionalGeneration.from_pretrained(base_folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(plain, artifact.path).eval()
    weights = load_file(artifact.path / "adapter_model.safetensors")
    found = dict(model.named_parameters())
    for name, tensor in weights.items():
        loaded = found[name.replace(".weight", ".default.weight")]
        assert torch.equal(loaded, tensor.float()), name


def test_a_warm_start_begins_where_its_seed_stands_also_at_a_higher_rank(
    tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    from adapter_hub.trainers.methods.table import make_trainable
    from adapter_hub.trainers.recipe import read_recipe

    seed = make_adapter(tmp_path / "seed", base, seed=5, language="pl")
    extra = f'[seed]\nadapter = "{seed.path}"'
    file = read_recipe(recipe(tmp_path, base_folder, extra=extra, method='"warm-start"', rank=6))
    features = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 80, 400)).astype(np.float32))
    ids = torch.tensor([[1, 2, 3]])
    plain = WhisperForConditionalGeneration.from_pretrained(base_folder, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(plain, seed.path).eval()
    wanted = theirs(input_features=features, decoder_input_ids=ids).logits
    fresh = WhisperForConditionalGeneration.from_pretrained(base_folder, dtype=torch.float32)
    ours = make_trainable(fresh, file.recipe, {"seed": seed}).whisper.eval()
    torch.testing.assert_close(ours(input_features=features, decoder_input_ids=ids).logits, wanted)


def test_a_seed_that_this_clock_says_is_not_made_yet_is_refused_before_the_training(
    tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    write_peft(tmp_path / "seed", base, seed=5)
    later = {"created": "2999-01-01T00:00:00Z", "base_model": base.pin}
    seed = seal(tmp_path / "seed", manifest_fields("small/pl", **later))
    extra = f'[seed]\nadapter = "{seed.path}"'
    path, said = recipe(tmp_path, base_folder, extra=extra, method='"warm-start"'), []
    with pytest.raises(InvalidInputError, match="created 2999-01-01T00:00:00Z, this machine's clock says"):
        train(path, tmp_path / "out", tell=said.append, **places(tmp_path))
    assert not any("loss" in line for line in said)
    assert not (tmp_path / "out").exists()


def test_a_warm_start_records_its_seed_and_why_it_is_the_nearest(
    tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    registry = FileRegistry(tmp_path / "registry.json")
    seeds = {
        tag[:2]: make_adapter(tmp_path / tag, base, seed=5, language=tag, token=tag[:2])
        for tag in ("pl-PL", "zh-Hant")
    }
    for artifact in seeds.values():
        publish(artifact.path, Places(registry, FolderStore(tmp_path / "store")))
    extra = f'[seed]\nadapter = "{NEAREST}"\nsegments = 6\namong = ["pl", "zh-Hans", "ja"]'
    path, said = recipe(tmp_path, base_folder, extra=extra, method='"warm-start"'), list[str]()
    artifact = train(path, tmp_path / "out", tell=said.append, **places(tmp_path))
    (measured,) = artifact.manifest.similarity
    assert set(measured.scores) == {"pl", "zh", "ja"}
    assert measured.segments == 6
    (parent,) = artifact.manifest.parents
    seed = max(seeds.items(), key=lambda item: measured.scores[item[0]])[1]
    assert (parent.role, parent.digest) == ("seed", seed.digest)
    assert any(line.startswith("similarity: ") and "pl " in line for line in said)
    assert seed.digest in artifact.ancestors()


def test_a_seed_that_does_not_fit_is_refused(
    tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    seed = make_adapter(tmp_path / "seed", base, seed=5, rank=8)
    extra = f'[seed]\nadapter = "{seed.path}"'
    path = recipe(tmp_path, base_folder, extra=extra, method='"warm-start"', rank=4)
    with pytest.raises(InvalidInputError, match=r"rank 8 at .*, above the recipe's; raise lora.rank"):
        train(path, tmp_path / "out", **places(tmp_path))
    assert not (tmp_path / "out").exists()


def test_nearest_without_any_adapter_to_start_from_says_so(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    extra = f'[seed]\nadapter = "{NEAREST}"'
    path = recipe(tmp_path, base_folder, extra=extra, method='"warm-start"')
    with pytest.raises(NotFoundError, match="no registry holds a lora adapter for this base model"):
        train(path, tmp_path / "out", **places(tmp_path))


def test_an_exploding_loss_stops_with_advice(tmp_path: Path, data: Path, base_folder: Path) -> None:
    path = recipe(tmp_path, base_folder, rate=1e30, epochs=4)
    with pytest.raises(DivergedError, match="the loss is nan at step .*; lower peak_learning_rate"):
        train(path, tmp_path / "out", **places(tmp_path))
    assert not (tmp_path / "out").exists()


def test_a_module_that_the_base_model_lacks_is_named(tmp_path: Path, data: Path, base_folder: Path) -> None:
    path = recipe(tmp_path, base_folder)
    path.write_text(path.read_text().replace("[lora]", '[lora]\nmodules = ["q_proj", "w_proj"]'))
    with pytest.raises(InvalidInputError, match="the base model has no linear named 'w_proj'"):
        train(path, tmp_path / "out", **places(tmp_path))


@pytest.mark.parametrize(
    ("module", "kind", "path"),
    [
        ("conv1", "Conv1d", "model.encoder.conv1"),
        ("embed_tokens", "Embedding", "model.decoder.embed_tokens"),
    ],
)
def test_a_module_that_is_no_linear_is_refused_before_the_first_step(
    module: str, kind: str, path: str, base_folder: Path, tmp_path: Path
) -> None:
    from adapter_hub.trainers.methods.table import make_trainable
    from adapter_hub.trainers.recipe import read_recipe

    written = recipe(tmp_path, base_folder)
    written.write_text(written.read_text().replace("[lora]", f'[lora]\nmodules = ["q_proj", "{module}"]'))
    whisper = WhisperForConditionalGeneration.from_pretrained(base_folder, dtype=torch.float32)
    with pytest.raises(
        InvalidInputError, match=rf"lora\.modules: '{module}' is a {kind}, not a linear \({path}\)"
    ):
        make_trainable(whisper, read_recipe(written).recipe, {})


def test_a_language_without_token_has_to_borrow_one(tmp_path: Path, data: Path, base_folder: Path) -> None:
    path = recipe(tmp_path, base_folder)
    path.write_text(path.read_text().replace('language = "da"', 'language = "mdw"'))
    with pytest.raises(InvalidInputError, match="mdw"):
        train(path, tmp_path / "out", **places(tmp_path))
    path.write_text(path.read_text().replace('"mdw"', '"mdw"\ndecode_language = "da"'))
    artifact = train(path, tmp_path / "out", **places(tmp_path))
    assert artifact.manifest.languages[0].tag == "mdw"
    assert artifact.manifest.languages[0].decode_language == "da"


CHILD = """
import sys, time
from pathlib import Path
from adapter_hub.stores.cache import Cache
from adapter_hub.registry.file import FileRegistry
from adapter_hub.trainers.training import train
folder = Path(sys.argv[1])
def tell(line):
    print(line, flush=True)
    if "dev loss" in line:
        time.sleep(0.5)
train(Path(sys.argv[2]), folder / sys.argv[3], registries=(FileRegistry(folder / "registry.json"),),
      cache=Cache(folder / "cache"), device="cpu", tell=tell)
"""


@pytest.mark.parametrize("way", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_an_interrupted_training_goes_on_and_ends_with_the_same_weights(
    way: signal.Signals, tmp_path: Path, data: Path, base_folder: Path
) -> None:
    path = recipe(tmp_path, base_folder, epochs=4)
    whole = train(path, tmp_path / "whole", **places(tmp_path))
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(path), "out"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    seen = 0
    for line in child.stdout:
        seen += "dev loss" in line
        if seen == 2:  # the first epoch's checkpoint is on disk by then
            child.send_signal(way)
            break
    _, errors = child.communicate(timeout=120)
    assert child.returncode != 0
    assert not (tmp_path / "out").exists()
    if way == signal.SIGINT:
        assert "run the same command to resume" in errors
    said: list[str] = []
    resumed = train(path, tmp_path / "out", tell=said.append, **places(tmp_path))
    assert any("resuming from checkpoint" in line for line in said)
    assert resumed.manifest.weights_digest == whole.manifest.weights_digest


def test_a_half_written_checkpoint_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    for step, content in ((3, '{"global_step": 3}'), (6, '{"global_st'), (9, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if content is not None:
            (folder / "trainer_state.json").write_text(content)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-3"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]
    assert last_checkpoint(tmp_path / "nothing") is None


def test_a_second_training_into_the_same_folder_is_refused(
    tmp_path: Path, data: Path, base_folder: Path
) -> None:
    (tmp_path / "out.training").mkdir()
    with (
        FileLock(tmp_path / "out.training" / "lock"),
        pytest.raises(ConflictError, match="another training is running there"),
    ):
        train(recipe(tmp_path, base_folder), tmp_path / "out", **places(tmp_path))


FULL_DISK = """
import resource, sys
from pathlib import Path
from adapter_hub.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
sys.exit(main(["train", sys.argv[1], "--out", sys.argv[2]]))
"""


# within the checkpoint's weights, within its optimiser state
@pytest.mark.parametrize("limit", [pytest.param(4_000, marks=pytest.mark.slow), 40_000])
def test_a_full_disk_is_one_line_and_leaves_nothing_that_looks_whole(
    limit: int, tmp_path: Path, data: Path, base_folder: Path
) -> None:
    path, out = recipe(tmp_path, base_folder), tmp_path / "out"
    command = [sys.executable, "-c", FULL_DISK, str(path), str(out), str(limit)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 1, outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert outcome.stderr.splitlines()[-1].startswith("error: ")
    assert not out.exists()
    train(path, out, **places(tmp_path)).verify()
