"""Beam search, greedy search and sampling, for all rows and beams of a batch at once.

    found = beam_search(steps, logits, rules, SearchLimits(length=448))    # logits after the prompt
    found = token_by_token(steps, logits, rules, limits, temperature=0.4)  # 0 is greedy
    found[0].tokens, found[0].score

Beam search is that of transformers: the same candidates, the same length penalty, the same end. A row that is
done leaves the batch. There is no loop over rows or beams, except for those that leave.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from adapter_hub.decoding.decoder import DecoderSteps
from adapter_hub.decoding.token_rules import TokenRules, TokenState

IMPOSSIBLE = -1e9  # below the score of any text
BLOCK = 64  # the vocabulary is searched block by block: the best of each block first


@dataclass(frozen=True)
class SearchLimits:
    """When to stop.

    Attributes:
        length: tokens of prompt and text together, at most.
        length_penalty: a text's score is its log probability over its length to this power.
        early_stopping: True ends a row as soon as it has as many texts as beams; False when no beam can
            become better at its present length; "never" when none can at any length.
        shrink: rows that are done leave the batch. False keeps the batch's shape to the end, so that every
            number of a row is bit-identical whatever the other rows are.
    """

    length: int
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    shrink: bool = True


@dataclass(frozen=True)
class Hypothesis:
    """The text that was found for one row.

    Attributes:
        tokens: without prompt and end.
        score: by which it was chosen: log probability, in beam search with the length penalty applied.
        log_probability: the sum over its tokens, the end included where it was reached.
        ended: whether the end of text was reached before the limit.
        no_speech: the probability of `<|nospeech|>` at the start of the text.
    """

    tokens: tuple[int, ...]
    score: float
    log_probability: float
    ended: bool
    no_speech: float = 0.0


def beam_search(
    steps: DecoderSteps, logits: Tensor, rules: TokenRules, limits: SearchLimits
) -> list[Hypothesis]:
    """Return the best text of every row.

    Args:
        steps: that have read the prompts, with the beams to search with.
        logits: after the prompts, `[rows, 1, vocabulary]`.
        rules: which tokens are allowed.
        limits: when to stop.
    """
    beams = _BeamState(steps, rules, limits)
    found: list[Hypothesis | None] = [None] * steps.rows
    rows = list(range(steps.rows))  # the row of the batch that each row of the tensors is
    logits = logits.expand(-1, steps.beams, -1)
    while True:
        parents, tokens = beams.choose(logits)
        done = beams.done().tolist()
        for place, row in enumerate(rows):
            if done[place] and found[row] is None:
                found[row] = beams.best(place)
        if all(done):
            return [item for item in found if item is not None]
        if any(done) and limits.shrink and steps.worth_shrinking(done.count(False)):
            order = remaining(done)
            rows = [rows[place] for place in order]
            steps.keep(order)
            index = torch.tensor(order, device=tokens.device)
            beams.keep(index)
            parents, tokens = parents[index], tokens[index]
        steps.reorder(parents)
        logits = steps.advance(tokens)


def token_by_token(
    steps: DecoderSteps,
    logits: Tensor,
    rules: TokenRules,
    limits: SearchLimits,
    *,
    temperature: float = 0.0,
    random_seed: int = 0,
) -> list[Hypothesis]:
    """Return one text for every row: the most probable token each time, or one sampled at `temperature`.

    Args:
        steps: that have read the prompts, with one beam.
        logits: after the prompts, `[rows, 1, vocabulary]`.
        rules: which tokens are allowed.
        limits: when to stop.
        temperature: 0 is greedy search.
        random_seed: of the sampling; every row has the same draws, whatever its place in the batch.
    """
    room = limits.length - steps.prompt
    generator = torch.Generator().manual_seed(random_seed)
    draws = torch.rand(room, generator=generator).to(logits.device) if temperature else None
    state, rows = rules.start(steps.rows, 1), list(range(steps.rows))
    tokens: list[list[int]] = [[] for _ in rows]
    sums, found = [0.0] * len(rows), dict[int, Hypothesis]()
    for count in range(room):
        rules.apply(logits, state, first=count == 0)
        scores = logits.log_softmax(-1)
        if draws is None:
            chosen = top_tokens(scores, 1)[1][..., 0]
        else:
            chosen = sample(scores, temperature, draws[count].expand(len(rows)))
        values = scores.gather(-1, chosen[..., None]).flatten().tolist()
        done = []
        for row, token, value in zip(rows, chosen[:, 0].tolist(), values, strict=True):
            ended = token == rules.end
            if row not in found:
                sums[row] += value
                tokens[row] += [] if ended else [token]
                if ended or count + 1 == room or not math.isfinite(value):
                    found[row] = Hypothesis(tuple(tokens[row]), sums[row], sums[row], ended)
            done.append(row in found)
        if all(done):
            break
        if any(done) and limits.shrink and steps.worth_shrinking(done.count(False)):
            order = remaining(done)
            rows = [rows[place] for place in order]
            steps.keep(order)
            index = torch.tensor(order, device=chosen.device)
            chosen, state = chosen[index], state.keep(index)
        state = rules.append(state, chosen)
        logits = steps.advance(chosen)
    return [found[row] for row in range(len(tokens))]


class _BeamState:
    """The hypotheses of every row that is still searched; tensors start with `[rows, ...]`."""

    def __init__(self, steps: DecoderSteps, rules: TokenRules, limits: SearchLimits) -> None:
        rows, self.size, device = steps.rows, steps.beams, rules.always.device
        self.rules, self.limits, self.count = rules, limits, 0
        self.room = limits.length - steps.prompt

        def full(value: float) -> Tensor:
            return torch.full((rows, self.size), value, device=device)

        self.running = full(IMPOSSIBLE)
        self.running[:, 0] = 0.0  # all start alike, so only one of them chooses the first token
        self.state: TokenState = rules.start(rows, self.size)
        self.tokens = torch.zeros(rows, self.size, self.room, dtype=torch.long, device=device)
        self.ended, self.ended_scores = full(0.0).bool(), full(IMPOSSIBLE)
        self.ended_tokens, self.ended_lengths = torch.zeros_like(self.tokens), full(0.0).long()
        self.open = torch.ones(rows, 1, dtype=torch.bool, device=device)

    def choose(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the parents and the tokens of the beams that go on, `[rows, beams]` each."""
        self.count += 1
        scores = logits.log_softmax(-1)
        self.rules.apply(scores, self.state, first=self.count == 1)
        # twice as many candidates as beams, so that enough go on if all the best ones end
        values, ids = top_tokens(scores, 2 * self.size)
        totals, places = (values + self.running[..., None]).flatten(1).topk(2 * self.size)
        parents, tokens = places // ids.shape[-1], ids.flatten(1).gather(1, places)
        ends = (tokens == self.rules.end) | (self.count == self.room)
        self._end(totals, parents, tokens, ends)
        alive = totals + ends * IMPOSSIBLE
        onward = alive.topk(self.size).indices
        parents, tokens = parents.gather(1, onward), tokens.gather(1, onward)
        self.running = alive.gather(1, onward)
        self.tokens = self._sequences(parents, tokens)
        self.state = self.rules.append(self.state.follow(parents), tokens)
        self._close()
        return parents, tokens

    def _sequences(self, parents: Tensor, tokens: Tensor) -> Tensor:
        """Return the tokens of `parents` with one more appended."""
        sequences = self.tokens.gather(1, parents[..., None].expand(-1, -1, self.room))
        sequences[..., self.count - 1] = tokens
        return sequences

    def _end(self, totals: Tensor, parents: Tensor, tokens: Tensor, ends: Tensor) -> None:
        """Keep the best of the texts that have ended, now or earlier."""
        final = ends & (torch.arange(2 * self.size, device=ends.device) < self.size)
        # on a GPU, looking would mean waiting for it
        if final.device.type == "cpu" and not final.any():
            return
        shut = ~self.open
        if self.limits.early_stopping is True:
            shut = shut | self.ended.all(1, keepdim=True)
        scores = totals / self.count**self.limits.length_penalty
        scores = scores + shut * IMPOSSIBLE + ~final * IMPOSSIBLE
        best = torch.cat([self.ended_scores, scores], 1).topk(self.size)
        self.ended_scores, places = best.values, best.indices

        def pick(before: Tensor, now: Tensor) -> Tensor:
            both = torch.cat([before, now], 1)
            index = places if both.dim() == 2 else places[..., None].expand(-1, -1, both.shape[2])
            return both.gather(1, index)

        self.ended = pick(self.ended, final)
        self.ended_lengths = pick(self.ended_lengths, torch.full_like(tokens, self.count))
        self.ended_tokens = pick(self.ended_tokens, self._sequences(parents, tokens))

    def _close(self) -> None:
        """Update which rows can still become better."""
        far = self.limits.early_stopping == "never" and self.limits.length_penalty > 0
        hoped = self.running[:, :1] / (self.room if far else self.count) ** self.limits.length_penalty
        worst = torch.where(self.ended, self.ended_scores.amin(1, keepdim=True), IMPOSSIBLE)
        self.open = self.open & (hoped > worst).any(1, keepdim=True)

    def done(self) -> Tensor:
        """Return which rows are done, `[rows]` bool."""
        done = ~self.open[:, 0]
        if self.limits.early_stopping is True:
            done = done | self.ended.all(1)
        return done | (self.count == self.room)

    def best(self, place: int) -> Hypothesis:
        """Return the best text of a row."""
        length, score = int(self.ended_lengths[place, 0]), float(self.ended_scores[place, 0])
        if math.isnan(float(self.running[place, 0])):  # `topk` sorts NaN first
            return Hypothesis((), math.nan, math.nan, ended=False)
        tokens = self.ended_tokens[place, 0, :length].tolist()
        ended = bool(tokens) and tokens[-1] == self.rules.end
        total = score * length**self.limits.length_penalty
        return Hypothesis(tuple(tokens[: length - ended]), score, total, ended)

    def keep(self, order: Tensor) -> None:
        """Go on with some of the rows."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[order])
        self.state = self.state.keep(order)


def top_tokens(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the best scores over the vocabulary, best first, and their token ids.

    The best of every block of the vocabulary tell which blocks to look into: several times faster on a CPU
    than `topk` over the whole.

    Args:
        scores: `[..., vocabulary]`.
        count: how many.

    Returns:
        Scores and ids, `[..., count]` each.
    """
    size = scores.shape[-1]
    if size < 2 * count * BLOCK:
        values, ids = scores.topk(min(count, size))
        return values, ids
    whole = size // BLOCK * BLOCK
    blocks = scores[..., :whole].unflatten(-1, (-1, BLOCK))
    where = blocks.amax(-1).topk(count).indices[..., None]
    inside = torch.arange(BLOCK, device=scores.device)
    values = blocks.gather(-2, where.expand(*where.shape[:-1], BLOCK)).flatten(-2)
    ids = (where * BLOCK + inside).flatten(-2)
    if whole < size:
        rest = torch.arange(whole, size, device=scores.device).expand(*scores.shape[:-1], -1)
        values, ids = torch.cat([values, scores[..., whole:]], -1), torch.cat([ids, rest], -1)
    values, places = values.topk(count)
    return values, ids.gather(-1, places)


def sample(scores: Tensor, temperature: float, draws: Tensor) -> Tensor:
    """Return a sampled token of each row.

    Args:
        scores: log probabilities `[rows, 1, vocabulary]`.
        temperature: above 0.
        draws: uniform from 0 to 1, `[rows, 1]`.

    Returns:
        Token ids `[rows, 1]`.
    """
    shares = (scores[:, 0] / temperature).softmax(-1).cumsum(-1)
    # `right`: a token without probability adds nothing to the sum and is passed over
    chosen = torch.searchsorted(shares, draws[:, None] * shares[:, -1:], right=True)
    return chosen.clamp_(max=scores.shape[-1] - 1)


def remaining(done: list[bool]) -> list[int]:
    """Return the rows to keep, ordered so that few change place.

    >>> remaining([False, True, False, False])
    [0, 3, 2]
    """
    count = len(done) - sum(done)
    behind = [place for place in range(len(done) - 1, count - 1, -1) if not done[place]]
    return [place if not done[place] else behind.pop(0) for place in range(count)]
