"""Language identification by the base model: the whole distribution, not only its peak.

    probabilities = language_probabilities(base, features)       # [rows, languages]
    base.decode_languages[int(probabilities[0].argmax())]

    encoder_output = encode(base, features)                      # one encoder pass for both:
    probabilities = language_probabilities(base, encoder_output=encoder_output)
    decode(session, features, rows=rows, languages=languages, options=options, encoder_output=encoder_output)

Always by the base model, since an adapter is for one language already. So the encoder's output can be used
for decoding only in rows whose adapter leaves the encoder as it is. Equation 4 of LoRA-Whisper (the
similarity of languages) and routing rest on it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adapter_hub.model.base_model import BaseModel


@torch.inference_mode()
def encode(base: BaseModel, features: Tensor) -> Tensor:
    """Return the output of the base model's encoder, without adapters.

    Args:
        base: the base model.
        features: log-mel features `[rows, mels, frames]`, padded to the chunk.

    Returns:
        `[rows, time, width]` in the base model's dtype, on its device.
    """
    encoder_output = base.model.get_encoder()(features.to(base.device, base.dtype)).last_hidden_state
    assert isinstance(encoder_output, Tensor)
    return encoder_output


@torch.inference_mode()
def language_probabilities(
    base: BaseModel, features: Tensor | None = None, *, encoder_output: Tensor | None = None
) -> Tensor:
    """Return the probability of every language token at the first position (Whisper, section 2.3).

    Args:
        base: the base model; to an English-only one all speech is English.
        features: log-mel features `[rows, mels, frames]`, padded to the chunk.
        encoder_output: returned by `encode` for them, instead of the features.

    Returns:
        `[rows, len(base.decode_languages)]` float32 on the CPU, in that order; a row sums to 1.
    """
    if encoder_output is None:
        assert features is not None
        encoder_output = encode(base, features)
    if not base.multilingual:
        return torch.ones(encoder_output.shape[0], 1)
    config = base.model.generation_config
    tokens = [config.lang_to_id[f"<|{language}|>"] for language in base.decode_languages]
    start = torch.full((encoder_output.shape[0], 1), config.decoder_start_token_id, device=base.device)
    logits = base.model(encoder_outputs=(encoder_output,), decoder_input_ids=start, use_cache=False).logits[
        :, -1
    ]
    return logits.float()[:, tokens].softmax(-1).cpu()
