"""The proof that base languages stay as they were: other rows of a batch get the new adapters.

Every batch is decoded twice. Its even rows are base-language audio with the language's own adapter, both
times; its odd rows are new-language audio, first with the base model alone, then with the new adapters.
Tokens, scores and teacher-forced logits of the even rows must agree to the last bit (invariant 6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from adapter_hub.data.dataset import Dataset
from adapter_hub.decoding.decode import DecodingResult, decode, prompt_tokens
from adapter_hub.decoding.options import DecodingOptions
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import ResidentAdapter
from adapter_hub.model.session import Session
from adapter_hub.speech.features import log_mel

PAIRS = 4  # rows of each kind in a batch


@dataclass(frozen=True)
class Neighbour:
    """A new adapter with speech for it.

    Attributes:
        name: of the training.
        adapter: loaded.
        language: its decode language.
        dataset: speech of that language.
    """

    name: str
    adapter: ResidentAdapter
    language: str
    dataset: Dataset


def compare_beside(
    base: BaseModel,
    own: ResidentAdapter,
    language: str,
    dataset: Dataset,
    neighbours: Sequence[Neighbour],
    *,
    utterances: int,
    beams: int,
) -> dict[str, Any]:
    """Decode base-language speech beside the base model's rows, then beside new adapters' rows.

    Args:
        base: the base model.
        own: the base language's adapter.
        language: the base language.
        dataset: its test set.
        neighbours: the new adapters, taken in turn.
        utterances: how many of the test set.
        beams: of the search.

    Returns:
        Counts: utterances compared, those whose tokens, scores or logits differ, the largest difference
        of a logit; and of the other rows how many were transcribed differently with their adapter.
    """
    session = Session(base)
    options = DecodingOptions(beams=beams, shrink=False)
    rows = dataset.rows[: min(utterances, len(dataset.rows))]
    found = {"utterances": len(rows), "different_tokens": 0, "different_scores": 0, "different_logits": 0}
    largest, changed, beside = 0.0, 0, 0
    for start in range(0, len(rows), PAIRS):
        batch = rows[start : start + PAIRS]
        guests = [neighbours[(start + i) % len(neighbours)] for i in range(len(batch))]
        clips, languages, before, after = [], [], [], []
        for i, (row, guest) in enumerate(zip(batch, guests, strict=True)):
            other = guest.dataset.rows[(start + i) % len(guest.dataset.rows)]
            clips += [row.clip.read(), other.clip.read()]
            languages += [language, guest.language]
            before += [own, None]
            after += [own, guest.adapter]
        features = torch.from_numpy(log_mel(base.processor.feature_extractor, clips))
        with torch.inference_mode():
            one = decode(session, features, rows=before, languages=languages, options=options)
            two = decode(session, features, rows=after, languages=languages, options=options)
            first = _logits(session, features, before, languages, one)
            second = _logits(session, features, after, languages, one)
        for i in range(0, len(clips), 2):
            found["different_tokens"] += one[i].tokens != two[i].tokens
            found["different_scores"] += one[i] != two[i]
            found["different_logits"] += not _same_bits(first[i], second[i])
        largest = max(largest, float((first[0::2] - second[0::2]).abs().max()))
        changed += sum(one[i].tokens != two[i].tokens for i in range(1, len(clips), 2))
        beside += len(batch)
    return {
        **found,
        "largest_logit_difference": largest,
        "neighbours": [guest.name for guest in neighbours],
        "neighbour_rows": beside,
        "neighbour_rows_changed": changed,
    }


def is_untouched(outcome: Mapping[str, Any]) -> bool:
    """Whether nothing at all differed, beside neighbours that were transcribed differently."""
    differing = ("different_tokens", "different_scores", "different_logits")
    return outcome["neighbour_rows_changed"] > 0 and not any(outcome[key] for key in differing)


def _logits(
    session: Session,
    features: torch.Tensor,
    rows: Sequence[ResidentAdapter | None],
    languages: Sequence[str],
    found: Sequence[DecodingResult],
) -> torch.Tensor:
    """Return the logits `[rows, tokens, vocabulary]` of the texts that were found first."""
    base = session.base
    texts = [
        [*prompt_tokens(base, language, DecodingOptions()), *text.tokens]
        for language, text in zip(languages, found, strict=True)
    ]
    longest = max(map(len, texts))
    end = int(base.model.generation_config.eos_token_id)
    inputs = torch.tensor([[*text, *[end] * (longest - len(text))] for text in texts], device=base.device)
    session.set_adapters(rows)
    logits: torch.Tensor = session.model(
        input_features=features.to(base.device, base.dtype), decoder_input_ids=inputs
    ).logits
    return logits.float()


def _same_bits(one: torch.Tensor, two: torch.Tensor) -> bool:
    return torch.equal(one.contiguous().view(torch.int32), two.contiguous().view(torch.int32))
