"""How similar new speech is to the languages of a base model (LoRA-Whisper, arXiv 2406.06619, equation 4).

    measured = measure_similarity(base, dataset, among=("pl", "pt", "it", "zh"))
    measured.scores           # {"pl": 0.12, "pt": 0.71, …}: the share of segments for which it is the argmax

Candidates are the base languages that have an adapter to start from. Equation 4 counts how often each is
the most probable one. The mean probabilities over all languages of the base model are kept beside the
scores, since they distinguish a clear case from a close one.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from adapter_hub.data.dataset import Dataset, data_sha256
from adapter_hub.decoding.language import language_probabilities
from adapter_hub.errors import AdapterHubError, InvalidInputError
from adapter_hub.formats.canonical import sha256_hex
from adapter_hub.formats.manifest import Similarity
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.model.base_model import BaseModel
from adapter_hub.registry.contract import Registry
from adapter_hub.registry.resolution import resolve
from adapter_hub.reporting import Progress
from adapter_hub.speech.audio import ROUNDING, Audio, check_seconds
from adapter_hub.speech.features import log_mel
from adapter_hub.speech.languages import whisper_code

BATCH = 16  # segments in a forward pass
# equal inputs give equal results: a process that trains many adapters on the same data measures once
_measured: dict[tuple[object, ...], Similarity] = {}


def measure_similarity(
    base: BaseModel,
    dataset: Dataset,
    *,
    among: Sequence[str],
    segments: int = 200,
    random_seed: int = 1,
    progress: Progress | None = None,
) -> Similarity:
    """Measure equation 4 on randomly chosen utterances of `dataset`.

    Args:
        base: the base model, without any adapter.
        dataset: speech of the new language.
        among: Whisper languages of the candidates (k of equation 4).
        segments: M of equation 4; fewer if the data set is smaller.
        random_seed: decides which utterances.
        progress: called with the segments that are done and their total.

    Raises:
        InvalidInputError: no candidates, a candidate unknown to the base model, no usable audio.
    """
    if not among:
        raise InvalidInputError("similarity: no candidate languages; name some with --among pl,pt,it,zh")
    base.check_languages(among)
    data = data_sha256(dataset)
    # rows are drawn by their order, which the digest of the content leaves out
    order = sha256_hex("\n".join(row.id for row in dataset.rows).encode())
    key = (base.digest, str(base.device), str(base.dtype), data, order, tuple(among), segments, random_seed)
    if key in _measured:
        return _measured[key]
    rows = random.Random(random_seed).sample(dataset.rows, len(dataset.rows))
    clips: list[Audio] = []
    for row in rows:
        try:
            check_seconds(row.clip.seconds(), base.chunk_seconds, row.id)  # before the work of decoding
            audio = row.clip.read(base.chunk_seconds + ROUNDING)
            check_seconds(audio.seconds, base.chunk_seconds, row.id)
            clips.append(audio)
        except (AdapterHubError, OSError):
            continue  # unusable rows are reported by `data check` and dropped by training
        if len(clips) == segments:
            break
    if not clips:
        raise InvalidInputError(f"{dataset.folder}: it has no utterance of at most {base.chunk_seconds:g} s")
    batches = []
    for start in range(0, len(clips), BATCH):
        features = log_mel(base.processor.feature_extractor, clips[start : start + BATCH])
        batches.append(language_probabilities(base, torch.from_numpy(features)).double().numpy())
        if progress is not None:
            progress(min(start + BATCH, len(clips)), len(clips))
    probabilities = np.concatenate(batches)
    if not np.isfinite(probabilities).all():
        raise InvalidInputError(
            f"{base.id}: language probabilities are not finite in {base.dtype}; use float32"
        )
    columns = [base.decode_languages.index(language) for language in among]
    winners = probabilities[:, columns].argmax(axis=1)
    _measured[key] = Similarity(
        measure="argmax-share",
        scores={k: round(float((winners == i).mean()), 6) for i, k in enumerate(among)},
        mean_probabilities={
            language: round(float(mean), 6)
            for language, mean in zip(base.decode_languages, probabilities.mean(axis=0), strict=True)
        },
        segments=len(clips),
        random_seed=random_seed,
        data_sha256=data,
        base_model_digest=base.digest,
    )
    return _measured[key]


def ranked(similarity: Similarity) -> list[str]:
    """Return the candidates, most similar first; ties go to the higher mean probability."""
    means = similarity.mean_probabilities
    return sorted(similarity.scores, key=lambda k: (-similarity.scores[k], -means.get(k, 0.0), k))


def candidates(
    registries: Sequence[Registry], base: BaseModel, *, leave_out: str = ""
) -> dict[str, AdapterRef]:
    """Return the newest `lora` adapter of every language on this base model.

    Args:
        registries: searched in order; the first that has an adapter for a language decides.
        base: only adapters of this base model, for languages that it has tokens for, can be seeds.
        leave_out: the decode language of the new adapter itself.

    Returns:
        References by Whisper's code of the language, whichever script or region an adapter is for. One whose
        language only borrows a token is left out: to be similar to the lender says nothing about it.
    """
    found: dict[str, AdapterRef] = {}
    for name in sorted({name for registry in registries for name in registry.adapters}):
        try:
            resolved = resolve(AdapterRef(name), registries)
        except AdapterHubError:
            continue  # every version is retired
        block = resolved.block
        if block.method == "lora" and block.base_model.digest == base.digest:
            for language in map(whisper_code, block.languages):
                if language in base.decode_languages and language != leave_out:
                    found.setdefault(language, AdapterRef(name, resolved.version))
    return found


def base_languages(tags: Iterable[str]) -> tuple[str, ...]:
    """Return languages as a Whisper names them, each once, without script and region.

    >>> base_languages(["pt-BR", "pt", "nb", "zh-Hant"])
    ('pt', 'no', 'zh')

    Args:
        tags: BCP 47, or English names.
    """
    return tuple(dict.fromkeys(map(whisper_code, tags)))
