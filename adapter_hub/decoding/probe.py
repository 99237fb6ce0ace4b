"""Proof of effect: the answers of base model and adapted model to one fixed input.

    probe = measure_probe(base, adapter)       # recorded in the manifest by `train`
    check_probe(base, adapter, manifest.probe) # at load: right weights, and they do something

The input is defined by code alone. `sines/2`: one second of 24 sines whose frequencies, phases and
loudness follow low-discrepancy sequences, the base model's own features, the logits of 16 tokens spread
evenly over the vocabulary, and the text that a greedy search finds, of at most 8 tokens. A Whisper's logits
are those after a prompt with the first of its languages, a Parakeet CTC's those of the frame in the middle.
In float32 on every device, with a tolerance above the differences between CPUs.

The text ends before the first token whose lead over the second best is less than twice the tolerance: two
computers whose logits are within the tolerance choose the same tokens up to there. (Of a Parakeet no frame up
to the token's may have a smaller lead.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from adapter_hub.base_model.families import PARAKEET, WHISPER
from adapter_hub.decoding.ctc import collapse, frame_logits, parakeet_features
from adapter_hub.decoding.decoder import DecoderSteps
from adapter_hub.decoding.token_rules import TokenRules
from adapter_hub.errors import IntegrityError, InvalidInputError
from adapter_hub.escaping import shown
from adapter_hub.formats.manifest import Probe, ProbeText
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import ResidentAdapter, load_weights
from adapter_hub.model.session import RowAdapters, Session
from adapter_hub.speech.audio import SAMPLE_RATE, Audio, audio_from_samples
from adapter_hub.speech.features import log_mel

INPUT = "sines/2"
LOGITS = 16
SINES = 24
TOKENS = 8  # of the text, the end among them
TOLERANCE = 1e-3  # of the largest logit: far above the rounding of any CPU
FLOOR = 1e-5  # of the largest logit: about what float32 rounding can move
ROUNDED = 'torch may round products of matrices here; call torch.set_float32_matmul_precision("highest")'
_GOLDEN = (5**0.5 - 1) / 2  # multiples of it, modulo 1, fill the unit interval evenly


def probe_audio() -> Audio:
    """Return the waveform of `sines/2`: one second, 16 kHz."""
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    k = np.arange(1, SINES + 1)[:, None]
    frequency = 100.0 + 3900.0 * ((k * _GOLDEN) % 1.0)
    phase = 2 * np.pi * ((k * _GOLDEN**2) % 1.0)
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * (1 + k % 5) * time + phase)
    wave = (swell * np.sin(2 * np.pi * frequency * time + phase)).sum(axis=0) * (0.5 / SINES)
    return audio_from_samples(wave.astype(np.float32), SAMPLE_RATE, where=INPUT)


def measure_probe(base: BaseModel, adapter: ResidentAdapter | Path) -> Probe:
    """Return the answers of the base model and of the adapted model to the probe's input.

    Args:
        base: in float32.
        adapter: loaded, or a folder in PEFT's format (as training writes it).

    Raises:
        InvalidInputError: the base model is not in float32.
        IntegrityError: the adapter moves no logit by more than rounding could.
    """
    adapter = load_weights(base, adapter) if isinstance(adapter, Path) else adapter
    plain, adapted = _answers(base, adapter)
    if not torch.isfinite(adapted.logits).all():
        raise IntegrityError(f"{adapter.name}: on the probe {INPUT} its logits are not finite: it overflows")
    scale, effect = float(plain.logits.abs().max()), float((plain.logits - adapted.logits).abs().max())
    if effect <= 2 * FLOOR * scale:
        raise IntegrityError(
            f"{adapter.name}: no effect: on the probe {INPUT} it moves no logit by more than rounding "
            f"({effect:.2g}); was it trained?"
        )
    tolerance = float(f"{max(min(TOLERANCE * scale, effect / 4), FLOOR * scale):.3g}")
    return Probe(
        input=INPUT,
        base_model_logits=tuple(_rounded(plain.logits)),
        adapter_logits=tuple(_rounded(adapted.logits)),
        tolerance=tolerance,
        base_model_text=_text(base, plain.sure(tolerance)),
        adapter_text=_text(base, adapted.sure(tolerance)),
    )


@torch.inference_mode()
def probe_logits(model: BaseModel) -> Tensor:
    """Return a whole model's answer to the probe's input, `[LOGITS]` float32.

    Args:
        model: in float32.

    Raises:
        InvalidInputError: it is not in float32.
    """
    return _answer(_session(model), None).logits.clone()


def check_probe(base: BaseModel, adapter: ResidentAdapter, probe: Probe) -> None:
    """Compare the answers of base model and adapter now with those in the manifest.

    Args:
        base: in float32.
        adapter: loaded.
        probe: of its manifest.

    Raises:
        InvalidInputError: an unknown probe, or the base model is not in float32.
        IntegrityError: other logits or another text, or the adapted model answers as the base model does.
    """
    if probe.input != INPUT or len(probe.adapter_logits) != LOGITS or len(probe.base_model_logits) != LOGITS:
        raise InvalidInputError(f"{adapter.name}: unknown probe {probe.input!r}; expected {INPUT}")
    plain, adapted = _answers(base, adapter)
    differences = []
    for what, found, logits, text in (
        ("base model", plain, probe.base_model_logits, probe.base_model_text),
        ("adapter", adapted, probe.adapter_logits, probe.adapter_text),
    ):
        away = float((found.logits - torch.tensor(logits)).abs().max())
        if not away <= probe.tolerance:  # also true for NaN
            differences.append(f"{what}'s logits are {away:.3g} off, at most {probe.tolerance:.3g} allowed")
        answer = _text(base, found.tokens[: len(text.tokens)])
        if answer != text:
            differences.append(f"{what} says {shown(answer.text, 60)!r}, expected {shown(text.text, 60)!r}")
    if float((plain.logits - adapted.logits).abs().max()) <= probe.tolerance:
        differences.append("the adapted model answers as the base model does")
    if differences:
        what = f"{adapter.name}: probe {probe.input}"
        raise IntegrityError(what, differences, ROUNDED if _rounds_products() else "")


@dataclass(frozen=True)
class _Answer:
    """The answer of a model: `[LOGITS]` float32, the most probable tokens, and the lead of each."""

    logits: Tensor
    tokens: tuple[int, ...]
    leads: tuple[float, ...]

    def sure(self, tolerance: float) -> tuple[int, ...]:
        """Return the tokens that stay the same wherever logits are within `tolerance`."""
        count = next((k for k, lead in enumerate(self.leads) if lead < 2 * tolerance), len(self.tokens))
        return self.tokens[:count]


@torch.inference_mode()
def _answers(base: BaseModel, adapter: ResidentAdapter) -> tuple[_Answer, _Answer]:
    """Return the answers of the base model and of the adapted model."""
    session = _session(base)
    return _answer(session, None), _answer(session, adapter)


def _session(base: BaseModel) -> Session:
    """Return a session of the base model that computes in full precision."""
    if base.dtype != torch.float32:
        raise InvalidInputError(f"a probe needs float32 arithmetic, the base model is in {base.dtype}")
    session = Session(base)
    if base.device.type == "cuda":
        _convolve_in_float64(session)
    return session


def _answer(session: Session, experts: RowAdapters) -> _Answer:
    session.set_adapters([experts])
    return ANSWERS[session.base.family](session)


def _whisper_answer(session: Session) -> _Answer:
    base = session.base
    features = torch.from_numpy(log_mel(base.processor.feature_extractor, [probe_audio()])).to(base.device)
    config = base.model.generation_config
    prompt = [config.decoder_start_token_id]
    if base.multilingual:
        prompt += [config.lang_to_id[f"<|{base.decode_languages[0]}|>"], config.task_to_id["transcribe"]]
    prompt.append(config.no_timestamps_token_id)
    tokens = torch.linspace(0, config.eos_token_id - 1, LOGITS).long().to(base.device)
    steps = DecoderSteps(session, session.model.get_encoder()(features).last_hidden_state, beams=1)
    logits = steps.prefill([prompt], min(len(prompt) + TOKENS, base.model.config.max_target_positions))
    measured = logits[0, -1, tokens].float().cpu()
    rules = TokenRules.of(base, timestamps=False)
    state, chosen, leads = rules.start(1, 1), list[int](), list[float]()
    while len(chosen) < steps.length - steps.prompt and rules.end not in chosen:
        if chosen:
            logits = steps.advance(torch.tensor([[chosen[-1]]], device=base.device))
        rules.apply(logits, state, first=not chosen)
        best = logits[0, -1].topk(2)
        chosen.append(int(best.indices[0]))
        leads.append(float(best.values[0] - best.values[1]))
    return _Answer(measured, tuple(chosen), tuple(leads))


def _ctc_answer(session: Session) -> _Answer:
    base = session.base
    ((logits, _),) = frame_logits(session, *parakeet_features(base, [probe_audio()]))
    tokens = torch.linspace(0, logits.shape[-1] - 1, LOGITS).long()
    measured = logits[len(logits) // 2].cpu()[tokens]
    best = logits.topk(2)
    runs = collapse(best.indices[:, 0].tolist(), base.model.config.pad_token_id)[:TOKENS]
    # a token is certain where all frames up to its first one are
    leads = (best.values[:, 0] - best.values[:, 1]).cummin(0).values.tolist()
    return _Answer(
        measured, tuple(token for token, _, _ in runs), tuple(leads[first] for _, first, _ in runs)
    )


# the answer of a session to the probe's input, by the family of its base model
ANSWERS: Mapping[str, Callable[[Session], _Answer]] = {WHISPER: _whisper_answer, PARAKEET: _ctc_answer}


def _text(base: BaseModel, tokens: tuple[int, ...]) -> ProbeText:
    return ProbeText(tokens=tokens, text=base.text_of(tokens))


def _convolve_in_float64(session: Session) -> None:
    """Let a session's convolutions compute in float64, and return float32.

    Where a GPU has TF32 torch rounds the inputs of float32 convolutions to 10 bits unless told not to, which
    moves logits further than a small tolerance allows. torch's switch would change the numbers of all threads
    while a probe runs; the modules of a session are its own.
    """
    for conv in session.model.modules():
        if type(conv) in (nn.Conv1d, nn.Conv2d):
            conv.forward = partial(_in_float64, conv)


def _in_float64(conv: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    bias = None if conv.bias is None else conv.bias.double()
    return conv._conv_forward(x.double(), conv.weight.double(), bias).to(x.dtype)


def _rounds_products() -> bool:
    """Tell whether torch was allowed to multiply float32 matrices in less; by default it is not."""
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # torch's older and newer switches were both used
        return True


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{value:.7g}") for value in values.tolist()]
