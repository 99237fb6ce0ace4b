"""What is loaded is what the digest covers, and what transformers would load of an ordinary folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from base_model_edits import CONFIG, OTHERS, TOKENIZER, TOKENIZER_CONFIG, edit, put
from safetensors.torch import load_file, save_file
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from adapter_hub import embedded
from adapter_hub.artifact.folder import Artifact
from adapter_hub.base_model.digest import base_model_digest
from adapter_hub.decoding.probe import _Answer, check_probe
from adapter_hub.errors import IntegrityError, InvalidInputError
from adapter_hub.formats.manifest import ProbeText
from adapter_hub.model.assembling import assemble
from adapter_hub.model.base_model import load_base_model
from adapter_hub.model.loading import load_adapter

DIGEST = base_model_digest(embedded.base_model_path())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the embedded base model."""
    return shutil.copytree(embedded.base_model_path(), tmp_path / "base")


UNUSED: dict[str, tuple[str, Any]] = {
    "other weights by name": (CONFIG, {"transformers_weights": "other.safetensors"}),
    "cleaning up": (
        TOKENIZER_CONFIG,
        {
            "clean_up_tokenization_spaces": True,
            "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": True,
        },
    ),
    "another class": (
        TOKENIZER_CONFIG,
        {"tokenizer_class": "BertTokenizer", "auto_map": {"AutoTokenizer": "x.Y"}},
    ),
    "truncation": (TOKENIZER, {"truncation": {"max_length": 3, "strategy": "LongestFirst", "stride": 0}}),
}


@pytest.mark.parametrize("what", UNUSED)
def test_what_is_not_in_the_digest_has_no_effect(what: str, folder: Path) -> None:
    plain, plain_processor = assemble(folder, torch.float32)
    name, values = UNUSED[what]
    other = {key: -value for key, value in load_file(folder / "model.safetensors").items()}
    save_file(other, folder / "other.safetensors", metadata={"format": "pt"})
    edit(folder, name, put(**values))
    assert base_model_digest(folder) == DIGEST
    model, processor = assemble(folder, torch.float32)
    ids = list(range(336))
    text = processor.tokenizer.decode(ids, skip_special_tokens=True)
    assert text == plain_processor.tokenizer.decode(ids, skip_special_tokens=True)
    assert processor.tokenizer(text)["input_ids"] == plain_processor.tokenizer(text)["input_ids"]
    for one, two in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, two)


def test_what_is_built_is_what_transformers_loads(folder: Path) -> None:
    ours, processor = assemble(folder, torch.float32)
    theirs = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    their_processor = WhisperProcessor.from_pretrained(folder)
    assert ours.config.to_dict() == theirs.config.to_dict()
    assert ours.generation_config.to_dict() == theirs.generation_config.to_dict()
    assert processor.feature_extractor.to_dict() == their_processor.feature_extractor.to_dict()
    one, two = processor.tokenizer, their_processor.tokenizer
    assert one.get_vocab() == two.get_vocab()
    assert one.all_special_ids == two.all_special_ids
    assert {k: repr(v) for k, v in one.added_tokens_decoder.items()} == {
        k: repr(v) for k, v in two.added_tokens_decoder.items()
    }
    for start in range(0, len(one), 40):
        ids = list(range(start, min(start + 40, len(one))))
        assert one.decode(ids, skip_special_tokens=True) == two.decode(ids, skip_special_tokens=True)
        assert one(one.decode(ids))["input_ids"] == two(two.decode(ids))["input_ids"]


@pytest.mark.parametrize(
    "what", [what for what in OTHERS if OTHERS[what][0] in (TOKENIZER, TOKENIZER_CONFIG)]
)
def test_a_changed_tokenizer_is_built_as_transformers_loads_it(what: str, folder: Path) -> None:
    name, change = OTHERS[what]
    edit(folder, name, change)
    ours = assemble(folder, torch.float32)[1].tokenizer
    theirs = WhisperProcessor.from_pretrained(folder).tokenizer
    ids = list(range(len(theirs)))
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True)


def test_a_token_whose_id_the_tokenizer_cannot_give_it_is_refused(folder: Path) -> None:
    edit(folder, TOKENIZER, lambda tree: tree["added_tokens"][3].update(content="<|xx|>"))
    with pytest.raises(InvalidInputError, match="cannot have the id .* expected ids without gaps, each once"):
        assemble(folder, torch.float32)


def test_a_copy_that_transformers_saved_again_keeps_its_digest(folder: Path, tmp_path: Path) -> None:
    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float16)
    again = tmp_path / "again"
    model.save_pretrained(again, max_shard_size="500KB")
    WhisperProcessor.from_pretrained(folder).save_pretrained(again)
    assert len(list(again.glob("*.safetensors"))) > 3
    assert base_model_digest(again) == DIGEST
    ours, processor = assemble(folder, torch.float16)
    ours.save_pretrained(tmp_path / "ours")
    processor.save_pretrained(tmp_path / "ours")
    assert base_model_digest(tmp_path / "ours") == DIGEST


def test_a_probe_notices_another_text_though_every_logit_is_right() -> None:
    base = load_base_model(device="cpu")
    artifact = Artifact.open(embedded.store_path() / "mini/da/1.0.0")
    adapter, probe = load_adapter(base, artifact), artifact.manifest.probe
    assert probe is not None
    check_probe(base, adapter, probe)
    assert probe.adapter_text.text != probe.base_model_text.text
    for name, who in (("adapter_text", "adapter"), ("base_model_text", "base model")):
        tokens = getattr(probe, name).tokens
        other = ProbeText(tokens=(*tokens[:-1], 5), text="something else")
        with pytest.raises(IntegrityError, match=f"{who} says .*, expected 'something else'"):
            check_probe(base, adapter, probe.model_copy(update={name: other}))


def test_a_probe_s_text_ends_where_rounding_could_change_it() -> None:
    answer = _Answer(torch.zeros(16), (7, 8, 9), (0.5, 0.0019, 0.5))
    assert answer.sure(0.001) == (7,)
    assert answer.sure(0.0001) == (7, 8, 9)
    assert answer.sure(1.0) == ()
