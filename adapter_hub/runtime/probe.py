"""Proof of effect: what base model and adapted model answer to one fixed input.

    probe = measure_probe(base, adapter)       # recorded in the manifest by `train`
    check_probe(base, adapter, manifest.probe) # at load: right weights, and they do something

The input is defined by code alone. `sines/1`: one second of 24 sines whose frequencies, phases and
loudness follow low-discrepancy sequences, the base model's own features, a prompt with the first of its
languages, and the logits of 16 text tokens spread evenly over the vocabulary. In float32, whatever the
device, and with a tolerance above what CPUs differ by.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapter_hub.errors import IntegrityError, InvalidInputError
from adapter_hub.manifest import Probe
from adapter_hub.runtime.base_model import BaseModel
from adapter_hub.runtime.composition import Session
from adapter_hub.runtime.loading import ResidentAdapter, load_weights
from adapter_hub.speech.audio import SAMPLE_RATE, Audio, audio_from_samples
from adapter_hub.speech.features import log_mel

INPUT = "sines/1"
LOGITS = 16
SINES = 24
TOLERANCE = 1e-3  # of the largest logit: far above the rounding of any CPU
FLOOR = 1e-5  # of the largest logit: about what float32 rounding can move
ROUNDED = 'torch may round products of matrices here; call torch.set_float32_matmul_precision("highest")'
_GOLDEN = (5**0.5 - 1) / 2  # multiples of it, modulo 1, fill the unit interval evenly


def probe_audio() -> Audio:
    """Return the waveform of `sines/1`: one second, 16 kHz."""
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    k = np.arange(1, SINES + 1)[:, None]
    frequency = 100.0 + 3900.0 * ((k * _GOLDEN) % 1.0)
    phase = 2 * np.pi * ((k * _GOLDEN**2) % 1.0)
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * (1 + k % 5) * time + phase)
    wave = (swell * np.sin(2 * np.pi * frequency * time + phase)).sum(axis=0) * (0.5 / SINES)
    return audio_from_samples(wave.astype(np.float32), SAMPLE_RATE, where=INPUT)


def measure_probe(base: BaseModel, adapter: ResidentAdapter | Path) -> Probe:
    """Return what base model and adapted model answer.

    Args:
        base: in float32.
        adapter: loaded, or a folder in PEFT's format (as training writes it).

    Raises:
        InvalidInputError: the base model is not in float32.
        IntegrityError: the adapter moves no logit by more than rounding could.
    """
    adapter = load_weights(base, adapter) if isinstance(adapter, Path) else adapter
    plain, adapted = _logits(base, adapter)
    if not torch.isfinite(adapted).all():
        raise IntegrityError(f"{adapter.name}: on the probe {INPUT} its logits are not finite: it overflows")
    scale, effect = float(plain.abs().max()), float((plain - adapted).abs().max())
    if effect <= 2 * FLOOR * scale:
        raise IntegrityError(
            f"{adapter.name}: no effect: on the probe {INPUT} it moves no logit by more than rounding "
            f"({effect:.2g}); was it trained?"
        )
    tolerance = max(min(TOLERANCE * scale, effect / 4), FLOOR * scale)
    return Probe(
        input=INPUT,
        base_model_logits=tuple(_rounded(plain)),
        adapter_logits=tuple(_rounded(adapted)),
        tolerance=float(f"{tolerance:.3g}"),
    )


def check_probe(base: BaseModel, adapter: ResidentAdapter, probe: Probe) -> None:
    """Compare what is measured now with what the manifest records.

    Raises:
        InvalidInputError: an unknown probe, or the base model is not in float32.
        IntegrityError: other logits, or the adapted model answers as the base model does.
    """
    if probe.input != INPUT or len(probe.adapter_logits) != LOGITS or len(probe.base_model_logits) != LOGITS:
        raise InvalidInputError(f"{adapter.name}: unknown probe {probe.input!r}; expected {INPUT}")
    plain, adapted = _logits(base, adapter)
    differences = []
    for what, found, recorded in (
        ("base model", plain, probe.base_model_logits),
        ("adapter", adapted, probe.adapter_logits),
    ):
        away = float((found - torch.tensor(recorded)).abs().max())
        if not away <= probe.tolerance:  # NaN is away too
            differences.append(f"{what}'s logits are {away:.3g} off, at most {probe.tolerance:.3g} allowed")
    if float((plain - adapted).abs().max()) <= probe.tolerance:
        differences.append("the adapted model answers as the base model does")
    if differences:
        what = f"{adapter.name}: probe {probe.input}"
        raise IntegrityError(what, differences, ROUNDED if _rounds_products() else "")


@torch.inference_mode()
def _logits(base: BaseModel, adapter: ResidentAdapter) -> tuple[Tensor, Tensor]:
    """Return `[LOGITS]` float32 of the base model and of the adapted one."""
    if base.dtype != torch.float32:
        raise InvalidInputError(f"a probe needs float32 arithmetic, the base model is in {base.dtype}")
    features = torch.from_numpy(log_mel(base.processor.feature_extractor, [probe_audio()])).to(base.device)
    config = base.model.generation_config
    prompt = [config.decoder_start_token_id]
    if base.multilingual:
        prompt += [config.lang_to_id[f"<|{base.decode_languages[0]}|>"], config.task_to_id["transcribe"]]
    prompt.append(config.no_timestamps_token_id)
    ids = torch.tensor([prompt], device=base.device)
    tokens = torch.linspace(0, config.eos_token_id - 1, LOGITS).long().to(base.device)
    session = Session(base)
    if base.device.type == "cuda":
        _convolve_in_float64(session)
    out = []
    for experts in (None, adapter):
        session.seat_all(experts)
        logits = session.model(input_features=features, decoder_input_ids=ids, use_cache=False).logits
        out.append(logits[0, -1, tokens].float().cpu())
    return out[0], out[1]


def _convolve_in_float64(session: Session) -> None:
    """Let a session's convolutions compute in float64, and return float32.

    Where a GPU has TF32 torch rounds the inputs of float32 convolutions to 10 bits unless told not to, which
    moves logits further than a small tolerance allows. torch's switch would change the numbers of all threads
    while a probe runs; the modules of a session are its own.
    """
    theirs, ours = session.base.model.get_encoder(), session.model.get_encoder()
    ours.conv1.forward = partial(_in_float64, theirs.conv1)
    ours.conv2.forward = partial(_in_float64, theirs.conv2)


def _in_float64(conv: nn.Conv1d, x: Tensor) -> Tensor:
    assert conv.bias is not None
    y = F.conv1d(x.double(), conv.weight.double(), conv.bias.double(), conv.stride, conv.padding)
    return y.to(x.dtype)


def _rounds_products() -> bool:
    """Tell whether somebody let torch multiply float32 matrices in less; by default it does not."""
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # torch's older and newer switches were both used
        return True


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{value:.7g}") for value in values.tolist()]
