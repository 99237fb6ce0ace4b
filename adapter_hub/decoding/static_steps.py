"""Decoder steps with fixed addresses and shapes, so that they can be recorded and replayed.

    steps = StaticSteps(session, encoder_output, beams=5)       # used as `DecoderSteps`

Rows are padded to one of a few numbers, the caches of the tokens are read up to one of a few lengths, and
what changes from step to step is in tensors: tokens, positions, slots, mask. The matrices of the adapters are
in the session's own memory. So one recording (see `adapter_hub.model.cuda_graphs`) serves all batches of up
to that many rows, and all steps until the texts outgrow its length; rows that are done leave when the
remaining ones fit the next smaller number.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adapter_hub.decoding.decoder import DecoderSteps
from adapter_hub.model.cuda_graphs import RecordedSteps, padded_row_count
from adapter_hub.model.low_rank_updates import address
from adapter_hub.model.session import Session

SLOTS = 64  # the shortest length of caches; each longer one is twice as long


def padded_slots(needed: int, all_: int) -> int:
    """Return how many of `all_` slots a step reads that needs the first `needed` ones.

    >>> [padded_slots(needed, 448) for needed in (1, 64, 65, 300)]
    [64, 64, 128, 448]
    """
    slots = SLOTS
    while slots < needed:
        slots *= 2
    return min(slots, all_)


class StaticSteps(DecoderSteps):
    """The decoder of one batch, for a session that records its steps."""

    def __init__(self, session: Session, encoder_output: Tensor, *, beams: int) -> None:
        """Compute the audio's keys and values; arguments as `DecoderSteps`."""
        assert session.recorded_steps is not None
        self._recorded_steps: RecordedSteps = session.recorded_steps
        self._recorded = False  # whether the current step is one that is recorded
        self._reach = 0
        super().__init__(session, encoder_output, beams=beams)

    def prefill(self, prompts: Sequence[Sequence[int]], length: int, peek: Sequence[int] = ()) -> Tensor:
        """Read the prompts; as `DecoderSteps.prefill`."""
        self.session.pad(self._padded_rows)
        more = self._padded_rows - self.rows
        filled, peeks = [*prompts, *[prompts[-1]] * more], [*peek, *list(peek[-1:]) * more]
        logits = super().prefill(filled, length, peeks)
        buffer = self.session.buffer
        self._positions = buffer("positions", (self._padded_rows, 1), torch.long).copy_(self._positions)
        self._slots = buffer("slots", (self.beams,), torch.long)
        self._slots.copy_(torch.arange(self.prompt, self.prompt + self.beams))
        self._diagonal = buffer("diagonal", (self.beams, self.beams)).copy_(self._diagonal)
        self._look()
        self._tokens.zero_()
        return logits[: self.rows]

    def advance(self, tokens: Tensor) -> Tensor:
        """Append a token to every beam; as `DecoderSteps.advance`."""
        self._pause()
        self._tokens[: self.rows].copy_(tokens)
        self._reach = padded_slots(self.filled + self.beams, self._mask.shape[2])
        self._recorded = True
        self._recorded_steps.run((self._reach, self._key), self._step)
        self._recorded = False
        self.filled += self.beams
        return self._logits_of_all[: self.rows]

    def worth_shrinking(self, left: int) -> bool:
        """Whether to go on with `left` rows alone: where they fit a smaller recording."""
        return padded_row_count(left) < self._padded_rows

    def keep(self, order: list[int]) -> None:
        """Go on with some of the rows; as `DecoderSteps.keep`."""
        super().keep(order)
        self._look()

    def _look(self) -> None:
        """Look up what a step reads and writes, at its current addresses."""
        buffer, shape = self.session.buffer, (self._padded_rows, self.beams)
        self._tokens = buffer("tokens", shape, torch.long)
        vocabulary = self._head.weight.shape[0]
        self._logits_of_all = buffer("logits", (*shape, vocabulary), torch.float32)
        tensors = [
            self._tokens, self._positions, self._slots, self._diagonal, self._mask, self._logits_of_all,
            *(tensor for pair in (*self._own, *self._audio) for tensor in pair),
        ]  # fmt: skip
        self._key = self._recorded_steps.number((*map(address, tensors), self.session.addresses()))

    def _step(self) -> None:
        """Compute one step, only from tensors with fixed addresses and shapes."""
        x = self._embed(self._tokens) + self._places[self._positions]
        self._mask.index_copy_(2, self._slots, self._diagonal.expand(self._padded_rows, -1, -1))
        x = self._run(x, self._mask[:, :, : self._reach])
        self._logits_of_all.copy_(self._head(x))
        self._slots += self.beams
        self._positions += 1

    def _padded(self, rows: int) -> int:
        return padded_row_count(rows)

    def _capacity(self, slots: int) -> int:
        # for the longest text after the shortest prompt: the same for prompts of any length
        return -(-self.beams * self.length // SLOTS) * SLOTS

    def _allocate(self) -> None:
        super()._allocate()
        for keys, values in self._own:  # masked values are multiplied by zero, so they have to be numbers
            keys.zero_()
            values.zero_()

    def _store(self, number: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        if not self._recorded:
            return super()._store(number, keys, values)
        own_keys, own_values = self._own[number]
        own_keys.index_copy_(2, self._slots, keys)
        own_values.index_copy_(2, self._slots, values)
        return own_keys[:, :, : self._reach], own_values[:, :, : self._reach]


def decoder_steps(session: Session, encoder_output: Tensor, *, beams: int) -> DecoderSteps:
    """Return the decoder of a batch: with recorded steps where the session records.

    Args:
        session: with the adapters of these rows set.
        encoder_output: `[rows, time, width]`.
        beams: hypotheses of each row.
    """
    kind = DecoderSteps if session.recorded_steps is None else StaticSteps
    return kind(session, encoder_output, beams=beams)
