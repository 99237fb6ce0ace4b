"""Which tokens are allowed next: suppressed tokens, the first token, and the rules of timestamps.

    rules = TokenRules.of(base, timestamps=True)
    state = rules.start(rows, beams)
    rules.apply(scores, state, first=True)     # in place: what is not allowed gets -inf
    state = rules.append(state.follow(parents), tokens)

The rules are those of transformers' `SuppressTokensLogitsProcessor`, `SuppressTokensAtBeginLogitsProcessor`
and `WhisperTimeStampLogitsProcessor`, in their order, for all beams at once: what they look up in a beam's
tokens is kept as three numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adapter_hub.model.base_model import BaseModel

NEVER = float("-inf")


def first_timestamp(base: BaseModel) -> int:
    """Return the id of `<|0.00|>`; every later id is a timestamp too."""
    return int(base.model.generation_config.no_timestamps_token_id) + 1


@dataclass(frozen=True)
class TokenState:
    """What the rules need to know of every beam, each `[rows, beams]`.

    Attributes:
        last: whether its last token is a timestamp.
        before: whether the token before that is; True where there is none.
        latest: its latest timestamp; the id below the first timestamp where there is none.
    """

    last: Tensor
    before: Tensor
    latest: Tensor

    def follow(self, parents: Tensor) -> TokenState:
        """Return the state of beams that go on from others.

        Args:
            parents: the beam that each goes on from, `[rows, beams]`.
        """
        return TokenState(*(item.gather(1, parents) for item in (self.last, self.before, self.latest)))

    def keep(self, order: Tensor) -> TokenState:
        """Return the state of some of the rows.

        Args:
            order: their indices, `[kept rows]`.
        """
        return TokenState(self.last[order], self.before[order], self.latest[order])


@dataclass(frozen=True)
class TokenRules:
    """The rules of one search.

    Attributes:
        end: the end of text.
        always: ids that are never allowed, `[n]`.
        first: ids that are not allowed first, `[n]`.
        stamp: the id of `<|0.00|>`.
        timestamps: whether timestamps are wanted; otherwise none are allowed.
        latest_first: the latest timestamp that is allowed first, None for any.
    """

    end: int
    always: Tensor
    first: Tensor
    stamp: int
    timestamps: bool
    latest_first: int | None

    @classmethod
    def of(cls, base: BaseModel, *, timestamps: bool) -> TokenRules:
        """Return the rules that the base model's generation configuration asks for.

        Args:
            base: the base model.
            timestamps: whether timestamp tokens are wanted.
        """
        config, stamp = base.model.generation_config, first_timestamp(base)
        latest = getattr(config, "max_initial_timestamp_index", None)
        always = {*(config.suppress_tokens or ()), *([stamp - 1] if timestamps else [])}
        return cls(
            end=int(config.eos_token_id),
            always=torch.tensor(sorted(always), dtype=torch.long, device=base.device),
            first=torch.tensor(
                list(config.begin_suppress_tokens or ()), dtype=torch.long, device=base.device
            ),
            stamp=stamp,
            timestamps=timestamps,
            latest_first=None if latest is None else stamp + int(latest),
        )

    def start(self, rows: int, beams: int) -> TokenState:
        """Return the state before the first token.

        Args:
            rows: of the batch.
            beams: of each row.
        """
        true = torch.ones(rows, beams, dtype=torch.bool, device=self.always.device)
        # both True: after the first token there is none before it
        return TokenState(true, true, torch.full_like(true, self.stamp - 1, dtype=torch.long))

    def append(self, state: TokenState, tokens: Tensor) -> TokenState:
        """Return the state after one more token.

        Args:
            state: before it.
            tokens: of every beam, `[rows, beams]`.
        """
        if not self.timestamps:
            return state
        stamped = tokens >= self.stamp
        return TokenState(stamped, state.last, torch.where(stamped, tokens, state.latest))

    def apply(self, scores: Tensor, state: TokenState, *, first: bool) -> None:
        """Set the scores of tokens that are not allowed to -inf, in place.

        Args:
            scores: `[rows, beams, vocabulary]`.
            state: of every beam.
            first: whether the text's first token is chosen.
        """
        if first and len(self.first):
            scores.index_fill_(-1, self.first, NEVER)
        if len(self.always):
            scores.index_fill_(-1, self.always, NEVER)
        if not self.timestamps:
            scores[..., self.stamp :] = NEVER
            return
        text, stamps = scores[..., : self.stamp], scores[..., self.stamp :]
        if first:
            text.fill_(NEVER)
            if self.latest_first is not None:
                scores[..., self.latest_first + 1 :] = NEVER
        else:
            self._pair(scores, state)
        # where timestamps together are more probable than any text token, one has to come
        likelier = stamps.logsumexp(-1) > text.amax(-1)
        text.masked_fill_(likelier[..., None], NEVER)

    def _pair(self, scores: Tensor, state: TokenState) -> None:
        """Timestamps come in pairs, except before the end, and never decrease."""
        open_, closed = state.last & ~state.before, state.last & state.before
        scores[..., : self.end].masked_fill_(open_[..., None], NEVER)
        stamps = scores[..., self.stamp :]
        # the second of a pair may repeat the first; otherwise timestamps increase
        least = torch.where(closed, scores.shape[-1], state.latest + (~open_).long())
        ids = torch.arange(self.stamp, scores.shape[-1], device=scores.device)
        stamps.masked_fill_(ids < least[..., None], NEVER)
