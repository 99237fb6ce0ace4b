"""Background noise of five colours, decided by its length and seed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from adapter_hub.errors import InvalidInputError

Samples: TypeAlias = npt.NDArray[np.float64]

COLOURS = ("white", "pink", "brown", "hum", "babble")
SLOWEST_SHAPED = 20.0
"""Hertz below which pink and brown noise are flat: more would be inaudible and take all the power."""


def noise(colour: str, length: int, sample_rate: int, seed: int) -> Samples:
    """Noise of mean power 1.

    Args:
        colour: one of `COLOURS`.
        length: samples.
        sample_rate: samples per second.
        seed: that decides every sample.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    if colour == "white":
        samples = generator.standard_normal(length)
    elif colour == "pink":
        samples = _shaped(length, generator, partial(_slope, 0.5), sample_rate)
    elif colour == "brown":
        samples = _shaped(length, generator, partial(_slope, 1.0), sample_rate)
    elif colour == "hum":
        samples = _hum(length, sample_rate, generator)
    elif colour == "babble":
        samples = _babble(length, sample_rate, generator)
    else:
        raise InvalidInputError(f"no noise of colour {colour!r}: choose one of {', '.join(COLOURS)}")
    scaled: Samples = samples / np.sqrt(np.mean(samples**2))
    return scaled


def _shaped(
    length: int, generator: np.random.Generator, amplitude: Callable[[Samples], Samples], sample_rate: int
) -> Samples:
    """Noise whose amplitude at each frequency is given."""
    whole = 1 << (length - 1).bit_length()  # Fourier transforms of other lengths are slow
    frequencies: Samples = np.fft.rfftfreq(whole, 1 / sample_rate).astype(np.float64)
    parts = generator.standard_normal((len(frequencies), 2))
    spectrum = (parts[:, 0] + 1j * parts[:, 1]) * amplitude(frequencies)
    return np.fft.irfft(spectrum, whole)[:length]


def _slope(power: float, hertz: Samples) -> Samples:
    amplitude: Samples = np.maximum(hertz, SLOWEST_SHAPED) ** -power
    return amplitude


def _hum(length: int, sample_rate: int, generator: np.random.Generator) -> Samples:
    """A mains or motor tone with its harmonics, over a quiet hiss."""
    time = np.arange(length) / sample_rate
    fundamental = generator.uniform(45.0, 180.0)
    samples = 0.1 * generator.standard_normal(length)
    for harmonic in range(1, 9):
        amplitude = generator.uniform(0.2, 1.0) / np.sqrt(harmonic)
        samples += amplitude * np.sin(2 * np.pi * (fundamental * harmonic * time + generator.random()))
    return samples


def _band(centre: float, hertz: Samples) -> Samples:
    amplitude: Samples = np.exp(-0.5 * ((hertz - centre) / (0.2 * centre)) ** 2)
    return amplitude


def _babble(length: int, sample_rate: int, generator: np.random.Generator) -> Samples:
    """Six bands where voices have their formants, each swelling at the pace of syllables."""
    time = np.arange(length) / sample_rate
    samples = np.zeros(length)
    for _ in range(6):
        centre = float(np.exp(generator.uniform(np.log(200.0), np.log(3500.0))))
        carrier = _shaped(length, generator, partial(_band, centre), sample_rate)
        # speech is weaker at high frequencies
        carrier /= np.sqrt(np.mean(carrier**2)) * (centre / 200.0) ** 0.5
        syllables = generator.uniform(2.0, 8.0)
        swell = np.maximum(0.0, np.sin(2 * np.pi * (syllables * time + generator.random()))) + 0.1
        samples += carrier * swell
    return samples
