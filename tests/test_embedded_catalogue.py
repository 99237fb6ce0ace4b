"""What ships with the package: the small base model and its published adapters."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import WhisperForConditionalGeneration, WhisperProcessor
from transformers.models.whisper.tokenization_whisper import LANGUAGES

import adapter_hub
from adapter_hub import embedded
from adapter_hub.artifact.folder import Artifact
from adapter_hub.audit import audit
from adapter_hub.cards import render_card
from adapter_hub.decoding.probe import check_probe
from adapter_hub.exchange import Places, check, pull
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.model.loading import load_adapter
from adapter_hub.model.session import Session
from adapter_hub.registry.file import FileRegistry
from adapter_hub.speech.audio import Audio, audio_from_samples
from adapter_hub.speech.features import log_mel
from adapter_hub.stores.cache import Cache
from adapter_hub.stores.folder import FolderStore
from adapter_hub.trainers.averaging.recomputing import differences
from adapter_hub.trainers.averaging.updates import Component
from adapter_hub.trainers.similarity import candidates
from adapter_hub.transcription.candidates import find_candidates

REGISTRY = FileRegistry(embedded.registry_path(), read_only=True)
REFS = sorted(f"{name}@{version}" for name, versions in REGISTRY.adapters.items() for version in versions)
PAIRS = [ref for ref in REFS if "-pair@" in ref]
BASE_LANGUAGES, NEW_LANGUAGES = ["pl", "pt", "it", "zh"], ["da", "el", "cy", "ja"]


@pytest.fixture(scope="module")
def mini() -> BaseModel:
    """The embedded base model."""
    return load_base_model(device="cpu")


@pytest.fixture(scope="module")
def sound() -> Audio:
    """Two seconds of noise with a swell: no speech, but every module has something to do."""
    random = np.random.default_rng(0)
    samples = random.standard_normal(32_000) * np.sin(np.linspace(0, 9, 32_000)) * 0.1
    return audio_from_samples(samples.astype(np.float32), 16_000)


def test_the_catalogue_holds_a_lora_for_each_base_language_and_three_adapters_for_each_new_one() -> None:
    methods = {
        (block.languages[0], block.method)
        for versions in REGISTRY.adapters.values()
        for block in versions.values()
    }
    assert {(language, "lora") for language in BASE_LANGUAGES + NEW_LANGUAGES} <= methods
    for method in ("warm-start", "expert-pair"):
        assert {(language, method) for language in NEW_LANGUAGES} <= methods


@pytest.mark.parametrize("ref", REFS)
def test_the_card_is_rendered_from_the_records(ref: str) -> None:
    name, _, version = ref.partition("@")
    store = FolderStore(embedded.store_path())
    manifest, claims = store.manifest(name, version)[0], store.claims(name)
    card = render_card(manifest, claims.reports, claims.status_of(version))
    assert (embedded.store_path() / name / "README.md").read_text(encoding="utf-8") == card


def test_the_average_s_card_says_where_it_is_worse_than_the_base_model_and_who_else_was_measured() -> None:
    card = (embedded.store_path() / "mini/average/README.md").read_text(encoding="utf-8")
    claims = FolderStore(embedded.store_path()).claims("mini/average")
    assert {report.data[-2:] for report in claims.reports} == {*BASE_LANGUAGES, *NEW_LANGUAGES}
    beside = {report.data[-2:]: [o.subject.name for o in report.beside or ()] for report in claims.reports}
    forgotten = [report.forgetting for report in claims.reports if report.forgetting]
    assert {item.data[-2:] for section in forgotten for item in section.sets} == {*BASE_LANGUAGES}
    assert "Forgetting: **-14.1 %**" in card
    components = [f"mini/{language}" for language in sorted(BASE_LANGUAGES)]
    assert all(names[0] is None for names in beside.values())
    for language in (*BASE_LANGUAGES, "da", "ja"):
        assert beside[language][1:] == components
    worse = card.partition("**Worse than the base model** on ")[2].partition("\n")[0]
    assert [data for data in ("da", "el", "ja") if f"spoken-numbers-{data}" in worse] == ["da", "el", "ja"]
    assert "| the base model | mini/it@1.0.0 | mini/pl@1.0.0 | mini/pt@1.0.0 | mini/zh@1.0.0 |" in card


def test_the_average_is_what_its_components_give_and_no_first_choice(mini: BaseModel) -> None:
    store = embedded.store_path() / "mini"
    parts = [Component(Artifact.open(store / name / "1.0.0"), 0.25) for name in ("it", "pl", "pt", "zh")]
    assert list(differences(mini, Artifact.open(store / "average/1.0.0"), parts)) == []
    found = find_candidates([REGISTRY], mini)
    for language in BASE_LANGUAGES:
        first = found[language]
        assert getattr(first.ref, "name", None) == f"mini/{language}"
        assert getattr(first.next and first.next.ref, "name", None) == "mini/average"
    assert candidates([REGISTRY], mini).keys() == {*BASE_LANGUAGES, *NEW_LANGUAGES}
    assert "mini/average" not in {ref.name for ref in candidates([REGISTRY], mini).values()}


def test_base_model_and_store_are_small() -> None:
    def size(folder: Path) -> int:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    assert size(embedded.base_model_path()) < 6e6
    assert size(embedded.store_path()) < 11 * 2**20


def test_the_base_model_is_a_whisper_with_whispers_tokens_in_whispers_order() -> None:
    processor = WhisperProcessor.from_pretrained(embedded.base_model_path())
    tokenizer = processor.tokenizer
    first = tokenizer.convert_tokens_to_ids("<|startoftranscript|>") + 1
    assert [tokenizer.convert_tokens_to_ids(f"<|{code}|>") for code in LANGUAGES] == list(
        range(first, first + len(LANGUAGES))
    )
    tokenizer.set_prefix_tokens(language="cy", task="transcribe")
    names = tokenizer.convert_ids_to_tokens(tokenizer.prefix_tokens)
    assert names == ["<|startoftranscript|>", "<|cy|>", "<|transcribe|>", "<|notimestamps|>"]
    stamps = tokenizer.convert_tokens_to_ids(["<|0.00|>", "<|8.00|>"])
    assert stamps[1] - stamps[0] == 400


def test_the_record_of_how_the_base_model_was_made_is_beside_it() -> None:
    record = json.loads((embedded.base_model_path() / "training.json").read_text())
    assert record["examples"] > 30_000
    assert record["losses"][-1]["loss"] < record["losses"][0]["loss"] / 2


def test_registry_and_store_agree_and_the_audit_finds_no_error() -> None:
    assert check(REGISTRY, [FolderStore(embedded.store_path())]) == []
    assert [finding for finding in audit(places=Places((REGISTRY,))) if finding.severity != "info"] == []


def test_every_adapter_has_a_score_on_at_least_300_utterances_and_a_better_one_than_no_adapter() -> None:
    for name, versions in REGISTRY.adapters.items():
        for block in versions.values():
            assert block.scores, name
            assert all(score.n >= 300 for score in block.scores), name


@pytest.mark.parametrize("ref", sorted(set(REFS) - set(PAIRS)))
def test_an_adapter_gives_the_same_logits_in_plain_peft(
    ref: str, mini: BaseModel, sound: Audio, tmp_path: Path
) -> None:
    artifact = pull(ref, Places((REGISTRY,), cache=Cache(tmp_path)))
    features = torch.from_numpy(log_mel(mini.processor.feature_extractor, [sound, sound]))
    config = mini.model.generation_config
    language = config.lang_to_id[f"<|{artifact.manifest.languages[0].decode_language}|>"]
    tokens = torch.tensor([[config.decoder_start_token_id, language, config.task_to_id["transcribe"]]] * 2)
    plain = WhisperForConditionalGeneration.from_pretrained(mini.folder, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(plain, artifact.path).eval()
    session, adapter = Session(mini), load_adapter(mini, artifact)
    session.set_adapters([adapter, None])
    with torch.no_grad():
        wanted = theirs(input_features=features, decoder_input_ids=tokens).logits[0]
        found = session.model(input_features=features, decoder_input_ids=tokens).logits
        untouched = mini.model(input_features=features, decoder_input_ids=tokens).logits[1]
    torch.testing.assert_close(found[0], wanted, atol=2e-4, rtol=1e-4)
    assert torch.equal(found[1], untouched)
    assert artifact.manifest.probe is not None
    check_probe(mini, adapter, artifact.manifest.probe)


@pytest.mark.parametrize("ref", PAIRS)
def test_an_expert_pair_does_what_its_probe_says_and_plain_peft_refuses_it(
    ref: str, mini: BaseModel, tmp_path: Path
) -> None:
    artifact = pull(ref, Places((REGISTRY,), cache=Cache(tmp_path)))
    roles = {parent.role: parent.name for parent in artifact.manifest.parents}
    assert roles["expert"] == roles["seed"]
    assert artifact.manifest.similarity
    assert artifact.manifest.probe is not None
    check_probe(mini, load_adapter(mini, artifact), artifact.manifest.probe)
    plain = WhisperForConditionalGeneration.from_pretrained(mini.folder, dtype=torch.float32)
    with pytest.raises(ValueError, match="Can't find 'adapter_config.json'"):
        PeftModel.from_pretrained(plain, artifact.path)


def test_three_lines_of_python_transcribe(sound: Audio) -> None:
    transcriber = adapter_hub.load("mini/pl")
    (transcript,) = transcriber.transcribe([sound.samples])
    assert transcript.error is None
    assert isinstance(transcript.text, str)
