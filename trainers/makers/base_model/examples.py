"""Training examples of the base model: features and segments of rendered utterances."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain
from multiprocessing import get_context
from typing import Any

import numpy as np
from transformers import WhisperFeatureExtractor

from adapter_hub.trainers.makers.corpus.plan import UtteranceSpec, plan
from adapter_hub.trainers.makers.corpus.render import render

SAMPLE_RATE = 16_000
HOP = 160  # samples a feature frame
FULL_SCALE = 32768.0  # of 16-bit samples; features expect -1 to 1


@dataclass(frozen=True)
class Segment:
    """One utterance inside an example: `[start, end]` in seconds; `end` None where the window cuts it."""

    start: float
    end: float | None
    text: str


@dataclass(frozen=True)
class Example:
    """Log-mel features `[mels, frames]` float16, up to where the audio ends, and what is said."""

    language: str
    features: np.ndarray
    floor: float  # the value of digital silence in these features
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class ExamplePlan:
    """Which utterances make one example, the silence before each, and whether the window cuts."""

    specs: tuple[UtteranceSpec, ...]
    gaps: tuple[float, ...]
    silent: bool = False


def plan_examples(settings: Mapping[str, Any], random_seed: int) -> list[ExamplePlan]:
    """Return every example of the corpus: each utterance once alone, some joined, some silent.

    Args:
        settings: the table `data` of settings.toml.
        random_seed: of the plan.
    """
    shares, rng = settings["shares"], random.Random(random_seed)
    plans: list[ExamplePlan] = []
    for language, count in settings["utterances"].items():
        specs = plan(language, "pretraining", count, random_seed)
        plans += [ExamplePlan((spec,), (_gap(rng),)) for spec in specs]
        for _ in range(int(count * shares["timestamps"] * shares["joined"])):
            chosen = tuple(rng.sample(specs, rng.choice((2, 2, 3))))
            plans.append(ExamplePlan(chosen, tuple(_gap(rng) for _ in chosen)))
        for spec in rng.sample(specs, int(count * shares["no_speech"])):
            plans.append(ExamplePlan((spec,), (0.0,), silent=True))
    return plans


def _gap(rng: random.Random) -> float:
    """Seconds of silence before a clip: usually hardly any, sometimes up to a second."""
    return rng.uniform(0.0, 0.12) if rng.random() < 0.7 else rng.uniform(0.1, 1.0)


def build(example: ExamplePlan, chunk_seconds: int, cut_share: float) -> Example | None:
    """Render an example; None where it fits the window neither whole nor cut.

    Args:
        example: what to render.
        chunk_seconds: of the window.
        cut_share: of the joined examples, how many may be cut by the window.
    """
    rng = random.Random(example.specs[0].seed)
    limit = chunk_seconds * SAMPLE_RATE
    pieces: list[np.ndarray] = []
    segments: list[Segment] = []
    length = 0
    for spec, gap in zip(example.specs, example.gaps, strict=True):
        audio = render(spec)[0].astype(np.float32) / FULL_SCALE
        silence = np.zeros(int(gap * SAMPLE_RATE), dtype=np.float32)
        start, end = length + len(silence), length + len(silence) + len(audio)
        if end > limit:
            if not segments or limit - start < SAMPLE_RATE // 2 or rng.random() > cut_share * 2:
                break
            segments.append(Segment(start / SAMPLE_RATE, None, spec.text))
        else:
            segments.append(Segment(start / SAMPLE_RATE, end / SAMPLE_RATE, spec.text))
        pieces += [silence, audio]
        length = min(end, limit)
        if segments[-1].end is None:
            break
    if not segments:
        return None
    audio = np.concatenate(pieces)[:limit]
    if example.silent:
        noise = np.random.default_rng(example.specs[0].seed)
        audio = (noise.standard_normal(len(audio)) * 10 ** noise.uniform(-4, -1.5)).astype(np.float32)
        segments = []
    features = _extractor(chunk_seconds)(audio, sampling_rate=SAMPLE_RATE, return_tensors="np")
    values = features["input_features"][0]
    frames = min(values.shape[1], -(-len(audio) // HOP) + 2)
    return Example(
        example.specs[0].language,
        values[:, :frames].astype(np.float16),
        float(values.min()),
        tuple(segments),
    )


_EXTRACTORS: dict[int, WhisperFeatureExtractor] = {}


def _extractor(chunk_seconds: int) -> WhisperFeatureExtractor:
    """The extractor's filter bank takes longer to build than a clip to process: keep it."""
    if chunk_seconds not in _EXTRACTORS:
        _EXTRACTORS[chunk_seconds] = WhisperFeatureExtractor(chunk_length=chunk_seconds)
    return _EXTRACTORS[chunk_seconds]


def _build_some(work: tuple[Sequence[ExamplePlan], int, float]) -> list[Example]:
    built = (build(plan, work[1], work[2]) for plan in work[0])
    return [example for example in built if example is not None]


def build_all(plans: Sequence[ExamplePlan], chunk_seconds: int, cut_share: float) -> Iterator[Example]:
    """Render all of `plans` in as many processes as there are cores, in order.

    Args:
        plans: what to render.
        chunk_seconds: of the window.
        cut_share: of the joined examples, how many may be cut by the window.
    """
    work = [(plans[i : i + 64], chunk_seconds, cut_share) for i in range(0, len(plans), 64)]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("forkserver")) as pool:
        results: Iterable[list[Example]] = pool.map(_build_some, work)
        yield from chain.from_iterable(results)
