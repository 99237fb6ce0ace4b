"""The speech of the miniature: the corpus's utterances, spoken so that domains really differ."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from adapter_hub.trainers.makers.corpus.plan import UtteranceSpec, plan
from adapter_hub.trainers.makers.corpus.render import write_folder
from adapter_hub.trainers.makers.corpus.voices import espeak_voice
from adapter_hub.trainers.reproduction.parameter_averaging.settings import (
    DEV,
    ORIGINAL,
    DomainSettings,
    Settings,
)

ADAPTATION = {"train": "adaptation", "test": "test"}  # whose voices and numbers a domain's splits have


def domain_specs(language: str, domain: DomainSettings, split: str) -> list[UtteranceSpec]:
    """Return what is said in a domain, and how.

    Args:
        language: of the speech.
        domain: what makes it differ.
        split: train or test.
    """
    count = domain.train if split == "train" else domain.test
    return [_changed(spec, domain) for spec in plan(language, ADAPTATION[split], count, domain.random_seed)]


def original_specs(settings: Settings, name: str) -> list[UtteranceSpec]:
    """Return what is said in the original domain.

    Args:
        settings: how many utterances.
        name: one of `DEV` or `ORIGINAL`; dev-clean is what follows clean in the same plan.
    """
    sizes = settings.original
    split = {
        "dev-clean": "pretraining-test",
        "dev-other": "dev",
        "clean": "pretraining-test",
        "other": "test",
    }
    count = {"dev-clean": sizes.clean + sizes.dev, "dev-other": sizes.dev}.get(name) or getattr(sizes, name)
    specs = plan(settings.language, split[name], count, sizes.random_seed)
    return specs[sizes.clean :] if name == "dev-clean" else specs


def write_speech(settings: Settings, folder: Path, name: str) -> Path:
    """Write the splits of a domain, or the sets of the original domain, and return their folder.

    Args:
        settings: of the run.
        folder: new, or begun with the same settings.
        name: of a domain, or `original`.
    """
    splits: dict[str, Sequence[UtteranceSpec]]
    if name == "original":
        splits = {split: original_specs(settings, split) for split in (*DEV, *ORIGINAL)}
    else:
        splits = {s: domain_specs(settings.language, settings.domains[name], s) for s in ADAPTATION}
    for split, specs in splits.items():
        write_folder(specs, folder / split, progress=lambda *_: None)
    return folder


def _changed(spec: UtteranceSpec, domain: DomainSettings) -> UtteranceSpec:
    """Return an utterance as it is spoken in a domain."""
    generator = random.Random(spec.seed)
    if domain.snr_db is not None:
        spec = replace(spec, snr_db=round(generator.uniform(*domain.snr_db), 2))
    if domain.rate is not None:
        spec = replace(spec, rate=generator.randint(*domain.rate))
    if domain.pitch_range is not None:
        spec = replace(spec, pitch_range=generator.randint(*domain.pitch_range))
    if domain.voice is not None:
        spec = replace(spec, voice=espeak_voice(domain.voice, spec.speaker))
    if domain.phrases:
        spec = replace(spec, text=generator.choice(domain.phrases))
    return spec
