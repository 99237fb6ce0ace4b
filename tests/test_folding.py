"""Folding: a static pair becomes one ordinary LoRA that answers the same, in PEFT too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from command_line import Run
from peft import PeftModel
from small_whisper import make_pair
from test_composition import features_of, logits_of
from transformers import WhisperForConditionalGeneration

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import ConflictError, InvalidInputError
from adapter_hub.exchange import Places, publish
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import load_adapter
from adapter_hub.model.session import Session
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.folder import FolderStore
from adapter_hub.trainers.folding import fold


@pytest.fixture(scope="module")
def pair(base: BaseModel, adapters: Sequence[Artifact], tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A static pair whose halves differ in ranks, scaling and adapted linears."""
    folder = tmp_path_factory.mktemp("static") / "pair"
    return make_pair(folder, base, adapters[2], kind="static", seed=31, rank=3, alpha=9)


def answers(base: BaseModel, artifact: Artifact) -> torch.Tensor:
    session = Session(base)
    session.set_adapters([load_adapter(base, artifact)] * 2)
    return logits_of(session.model, base, features_of(base, 2))


def test_a_folded_pair_answers_as_the_pair_and_peft_agrees(
    base: BaseModel, base_folder: Path, pair: Artifact, tmp_path: Path
) -> None:
    folded = fold(base, pair, tmp_path / "out")
    folded.verify()
    wanted = answers(base, pair)
    torch.testing.assert_close(answers(base, folded), wanted, atol=1e-5, rtol=1e-5)
    plain = WhisperForConditionalGeneration.from_pretrained(base_folder, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(plain, folded.path).eval()
    torch.testing.assert_close(logits_of(theirs, base, features_of(base, 2)), wanted, atol=1e-4, rtol=1e-4)
    assert float((wanted - logits_of(base.model, base, features_of(base, 2))).abs().max()) > 0.1


def test_a_folded_pair_is_an_average_of_one_with_all_ancestors(
    base: BaseModel, pair: Artifact, tmp_path: Path
) -> None:
    manifest = fold(base, pair, tmp_path / "out", AdapterRef.parse("small/one@2.0.0")).manifest
    assert (manifest.ref, manifest.method) == ("small/one@2.0.0", "average")
    assert [(p.role, p.digest, p.weight) for p in manifest.parents] == [("component", pair.digest, 1.0)]
    assert set(Artifact.open(tmp_path / "out").ancestors()) == {pair.digest, *pair.ancestors()}
    ranks = {module.path: (module.rank, module.scaling) for module in manifest.lora[0].modules}
    assert ranks["model.decoder.layers.0.fc1"] == (8 + 3, 1.0)
    assert ranks["model.decoder.layers.0.fc2"] == (3, 1.0)
    assert fold(base, pair, tmp_path / "other").ref == f"{pair.manifest.name}-folded@1.0.0"


def test_what_cannot_be_folded_says_why(
    base: BaseModel, adapters: Sequence[Artifact], pair: Artifact, tmp_path: Path
) -> None:
    token = make_pair(tmp_path / "token", base, adapters[0], kind="token", seed=21)
    with pytest.raises(
        InvalidInputError, match="weighs the two LoRAs differently for every token, which one"
    ):
        fold(base, token, tmp_path / "out")
    with pytest.raises(InvalidInputError, match="its method is lora; only expert pairs can be folded"):
        fold(base, adapters[0], tmp_path / "out")
    with pytest.raises(InvalidInputError, match="is the pair's own name"):
        fold(base, pair, tmp_path / "out", AdapterRef.parse(f"{pair.manifest.name}@2.0.0"))
    with pytest.raises(InvalidInputError, match="expected NAME@VERSION"):
        fold(base, pair, tmp_path / "out", AdapterRef.parse("small/one"))
    with pytest.raises(ConflictError, match="already exists"):
        fold(base, pair, tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_folded_pair_is_published_audited_and_looked_at(
    base: BaseModel, pair: Artifact, tmp_path: Path, run: Run
) -> None:
    registry, store = FileRegistry(tmp_path / "registry.json"), FolderStore(tmp_path / "store")
    publish(pair.path, Places(registry, store))
    named = ("--base-model", base.folder)  # which a pin never names
    outcome = run(
        "--device", "cpu", "fold", pair.manifest.name, "--out", "one", "--as", "small/one@1.0.0", *named
    )
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("small/one@1.0.0 sha256:")
    assert run("publish", "one").code == 0
    audit = run("audit", "small/one")
    assert "error" not in audit.out
    lineage = run("lineage", "small/one").out
    assert f"component: {pair.ref} (expert-pair, da)" in lineage
    assert "expert: small/ja-3@1.0.0" in lineage
    assert "another adapter's function as one LoRA, rank 3, 11, for da" in run("card", "small/one").out
    assert f"{pair.ref}, weight 1" in run("show", "small/one").out
