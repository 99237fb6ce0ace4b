"""Whisper's decoder, one step at a time, over the weights of transformers' model.

    steps = DecoderSteps(session, encoder_output, beams=5)
    logits = steps.prefill(prompts, length=64)  # [rows, 1, vocabulary]
    logits = steps.advance(tokens)              # [rows, beams, vocabulary]
    steps.reorder(parents)                      # the beams that go on
    steps.keep([0, 2])                          # the rows that go on

What the beams of a row share is kept once. Keys and values of the audio are `[rows, heads, time, width]`, and
the beams are queries of the same attention. Keys and values of the tokens are kept in the order in which they
were computed, for all beams of a row together, and are never moved: a mask tells which of them are a beam's
own history. So reordering beams copies a small mask instead of the cache.

A step attends to the slots that are filled. Where steps are recorded, `adapter_hub.decoding.static_steps`
keeps their shapes the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from adapter_hub.errors import InvalidInputError
from adapter_hub.model.low_rank_updates import move
from adapter_hub.model.session import Session

NEVER = float("-inf")


class DecoderSteps:
    """The decoder of one batch: its caches, and the steps over them. A session has one at a time.

    Attributes:
        rows: that are still decoded.
        beams: of each.
        length: tokens of prompt and text together, at most.
        prompt: tokens of the longest prompt; shorter ones are padded on the left.
        filled: how many slots of the caches are in use: the prompt's, then `beams` per step.
    """

    def __init__(self, session: Session, encoder_output: Tensor, *, beams: int) -> None:
        """Compute the keys and values of the audio, once for all steps and beams.

        Args:
            session: with the adapters of these rows set.
            encoder_output: `[rows, time, width]`.
            beams: hypotheses of each row.
        """
        self.session, self.beams, self.rows = session, beams, encoder_output.shape[0]
        self._padded_rows = self._padded(self.rows)  # rows of the tensors
        session.pack()
        decoder = session.model.model.decoder
        self._embed, self._places = decoder.embed_tokens, decoder.embed_positions.weight
        self._norm, self._head = decoder.layer_norm, session.model.proj_out
        self._heads: int = decoder.config.decoder_attention_heads
        self._layers: list[Any] = list(decoder.layers)
        self._device, self._dtype = encoder_output.device, encoder_output.dtype
        # small products over long keys: faster than the fused kernel on a CPU with the keys transposed
        self._transposed = encoder_output.device.type == "cpu" and encoder_output.dtype == torch.float32
        self.length = self.prompt = self.filled = 0
        self._own: list[tuple[Tensor, Tensor]] = []
        self._mask = self._positions = self._diagonal = encoder_output.new_empty(0)
        self._audio = [
            self._audio_keys_values(number, layer.encoder_attn, encoder_output)
            for number, layer in enumerate(self._layers)
        ]

    def prefill(self, prompts: Sequence[Sequence[int]], length: int, peek: Sequence[int] = ()) -> Tensor:
        """Read the prompts.

        Args:
            prompts: of every row, at least one token each.
            length: of prompt and text together, at most.
            peek: for every row the index of another token of its prompt whose logits are wanted too.

        Returns:
            `[rows, 1, vocabulary]` float32 logits after the prompt, or `[rows, 2, vocabulary]` with `peek`.

        Raises:
            InvalidInputError: a prompt that leaves no room for text, or more tokens than the model has
                positions for.
        """
        self.prompt, self.length = max(map(len, prompts)), length
        if not self.prompt < length <= self._places.shape[0]:
            raise InvalidInputError(
                f"a prompt of {self.prompt} tokens and text up to {length}: "
                f"the base model has {self._places.shape[0]} positions; shorten the prompt"
            )
        pads = [self.prompt - len(prompt) for prompt in prompts]
        tokens = torch.tensor([[0] * pad + list(p) for pad, p in zip(pads, prompts, strict=True)]).to(
            self._device
        )
        padded = torch.tensor(pads).to(self._device)[:, None]
        place = torch.arange(self.prompt, device=self._device)
        self._allocate()
        self._positions = self.prompt - padded  # of the next token
        hidden = place[None, :] < padded  # [rows, prompt]
        self._plain = self.beams == 1 and not any(pads)
        mask = torch.full(
            (self._padded_rows, self.prompt, self.prompt), NEVER, dtype=self._dtype, device=self._device
        )
        mask = mask.triu(1).masked_fill_(hidden[:, None, :], NEVER)
        mask.diagonal(dim1=1, dim2=2).zero_()  # padding sees itself: no row of an attention may be empty
        self._mask[:, :, : self.prompt].zero_().masked_fill_(hidden[:, None, :], NEVER)
        x = self._embed(tokens) + self._places[(place[None, :] - padded).clamp_(min=0)]
        x = self._run(x, mask)
        self.filled = self.prompt
        if not peek:
            return self._logits(x[:, -1:])
        peeked = torch.tensor([pad + i for pad, i in zip(pads, peek, strict=True)], device=self._device)
        return self._logits(
            torch.cat([x[:, -1:], x[torch.arange(self._padded_rows), peeked][:, None]], dim=1)
        )

    def advance(self, tokens: Tensor) -> Tensor:
        """Append a token to every beam.

        Args:
            tokens: `[rows, beams]`.

        Returns:
            `[rows, beams, vocabulary]` float32 logits of what comes next.
        """
        self._pause()
        x = self._embed(tokens) + self._places[self._positions]
        stop = self.filled + self.beams
        self._mask[:, :, self.filled : stop] = self._diagonal
        logits = self._logits(self._run(x, None if self._plain else self._mask[:, :, :stop]))
        self._positions += 1
        self.filled = stop
        return logits

    def _pause(self) -> None:
        if self.session.between_steps is not None:
            self.session.between_steps()

    def reorder(self, parents: Tensor) -> None:
        """Let every beam go on from the history of another.

        Args:
            parents: the beam that each goes on from, `[rows, beams]`.
        """
        seen = self._mask[: self.rows, :, : self.filled]
        seen.copy_(seen.gather(1, parents[:, :, None].expand(-1, -1, self.filled)))

    def worth_shrinking(self, left: int) -> bool:
        """Whether to go on with `left` rows alone."""
        return left < self.rows

    def keep(self, order: list[int]) -> None:
        """Go on with some of the rows.

        Args:
            order: the rows; one that comes earlier now is moved there, in place.
        """
        self.rows = len(order)
        self._padded_rows = padded_rows = self._padded(self.rows)
        self.session.keep(order, padded_rows)
        self._audio = [(move(k, order, padded_rows), move(v, order, padded_rows)) for k, v in self._audio]
        self._own = [(move(k, order, padded_rows), move(v, order, padded_rows)) for k, v in self._own]
        self._mask, self._positions = (
            move(self._mask, order, padded_rows),
            move(self._positions, order, padded_rows),
        )

    def _padded(self, rows: int) -> int:
        """Return how many rows are computed if `rows` are needed."""
        return rows

    def _capacity(self, slots: int) -> int:
        """Return how many slots are allocated if `slots` are needed."""
        return slots

    def _allocate(self) -> None:
        slots = self._capacity(self.prompt + self.beams * (self.length - self.prompt))
        shape = (self._padded_rows, self._heads, slots, self._embed.weight.shape[1] // self._heads)
        buffer = self.session.buffer
        self._own = [
            (buffer(f"own keys {i}", shape), buffer(f"own values {i}", shape))
            for i in range(len(self._layers))
        ]
        self._mask = buffer("mask", (self._padded_rows, self.beams, slots)).fill_(NEVER)
        self._diagonal = torch.full((self.beams, self.beams), NEVER, dtype=self._dtype, device=self._device)
        self._diagonal.fill_diagonal_(0.0)
        self.filled = 0

    def _audio_keys_values(
        self, number: int, attention: Any, encoder_output: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return one layer's keys and values of the audio, in buffers of the session."""
        keys, values = (
            self._split(linear(encoder_output)) for linear in (attention.k_proj, attention.v_proj)
        )
        keys = keys.transpose(2, 3) if self._transposed else keys
        return self._kept(f"audio keys {number}", keys), self._kept(f"audio values {number}", values)

    def _kept(self, name: str, tensor: Tensor) -> Tensor:
        """Copy a tensor of the rows to a buffer of the session."""
        buffer = self.session.buffer(name, (self._padded_rows, *tensor.shape[1:]))
        buffer[: self.rows].copy_(tensor)
        buffer[self.rows :].zero_()
        return buffer

    def _run(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return the last layer's output for `x` `[rows, n, width]`; its keys and values are stored.

        Args:
            x: embedded tokens.
            mask: `[rows, n, slots]`, added to the scores.
        """
        for number, layer in enumerate(self._layers):
            x = x + self._attend_own(number, layer.self_attn, layer.self_attn_layer_norm(x), mask)
            x = x + self._attend_audio(number, layer.encoder_attn, layer.encoder_attn_layer_norm(x))
            x = x + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(x))))
        return self._norm(x)

    def _attend_own(self, number: int, attention: Any, x: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (
            self._split(linear(x)) for linear in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        keys, values = self._store(number, k, v)
        added = None if mask is None else mask[:, None]
        y = F.scaled_dot_product_attention(q, keys, values, attn_mask=added, scale=attention.scaling)
        return self._merged(attention, y)

    def _store(self, number: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values of new tokens to those of a layer; returns all of them."""
        own_keys, own_values = self._own[number]
        stop = self.filled + keys.shape[2]
        own_keys, own_values = own_keys[:, :, :stop], own_values[:, :, :stop]
        own_keys[:, :, self.filled :] = keys
        own_values[:, :, self.filled :] = values
        return own_keys, own_values

    def _attend_audio(self, number: int, attention: Any, x: Tensor) -> Tensor:
        q = self._split(attention.q_proj(x))
        keys, values = self._audio[number]
        if self._transposed:
            y = torch.matmul(torch.matmul(q * attention.scaling, keys).softmax(-1), values)
        else:
            y = F.scaled_dot_product_attention(q, keys, values, scale=attention.scaling)
        return self._merged(attention, y)

    def _merged(self, attention: Any, y: Tensor) -> Tensor:
        projected: Tensor = attention.out_proj(y.transpose(1, 2).flatten(2))
        return projected

    def _logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self._head(x)
        return logits.float()

    def _split(self, x: Tensor) -> Tensor:
        """Return `[rows, heads, n, width of a head]` of `[rows, n, width]`."""
        return x.unflatten(-1, (self._heads, -1)).transpose(1, 2)
