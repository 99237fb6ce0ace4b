"""What a real Whisper writes where nobody speaks, beside faster-whisper: twelve inputs, made here.

    pip install faster-whisper
    OMP_NUM_THREADS=1 python benchmarks/quiet_and_noise.py --base-model base --speech jfk.flac --noise noise

Silence, dither, hiss, hum, tones, clicks, recorded noise, and eleven seconds of speech before, after and in
them. Both sides have their defaults and are told the language. Where nobody speaks every word is invented.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import click
import jiwer
import numpy as np
from pages import page
from peer import faster_whisper_model, heard
from resumed import read_rows, write_rows

import adapter_hub
from adapter_hub.speech.audio import SAMPLE_RATE, read_audio
from adapter_hub.speech.normalisers import normalise

SAID = (
    "And so, my fellow Americans, ask not what your country can do for you, ask what you can do for your "
    "country."
)
COMMAND = (
    "OMP_NUM_THREADS=1 python benchmarks/quiet_and_noise.py --base-model base --speech jfk.flac --noise noise"
)
ABOUT = """
What whisper-base writes where it is quiet or noisy, beside faster-whisper; both with their defaults (beam 5,
temperatures from 0 to 1.0 while a text repeats itself or is improbable), told that the language is English.
`wrong` counts words: where nobody speaks, all that are written; where somebody does, substitutions, deletions
and insertions against the 22 words that were said.
"""
Samples = np.ndarray


def inputs(speech: Samples, noises: dict[str, Samples]) -> dict[str, tuple[Samples, str]]:
    """Return the samples of every input, and what is said in them."""
    random = np.random.default_rng(0)
    time = np.arange(30 * SAMPLE_RATE) / SAMPLE_RATE

    def hiss(seconds: float, level: float) -> Samples:
        return level * random.standard_normal(round(seconds * SAMPLE_RATE))

    def tones(level: float, *frequencies: float) -> Samples:
        return level * np.mean([np.sin(2 * np.pi * f * time) for f in frequencies], axis=0)

    clicks = hiss(30, 1e-4)
    clicks[:: SAMPLE_RATE // 2] += 0.5
    rumble = np.cumsum(hiss(30, 1.0))
    rumble -= np.convolve(rumble, np.ones(1600) / 1600, mode="same")  # Brownian, without its drift
    made = {
        "digital silence, 30 s": (np.zeros(30 * SAMPLE_RATE), ""),
        "dither, 30 s": (random.integers(-1, 2, 30 * SAMPLE_RATE) / 32768, ""),
        "hiss at -50 dB, 30 s": (hiss(30, 10 ** (-50 / 20)), ""),
        "mains hum, 30 s": (tones(0.05, 50, 100, 150, 250) + hiss(30, 1e-4), ""),
        "a tone of 440 Hz, 30 s": (tones(0.1, 440), ""),
        "a dial tone, 30 s": (tones(0.2, 350, 440) + hiss(30, 1e-3), ""),
        "two clicks a second, 30 s": (clicks, ""),
        "rumble, 30 s": (0.05 * rumble / np.std(rumble), ""),
        **{f"{name}, 20 s": (samples, "") for name, samples in noises.items()},
        "speech, then a minute of dither": (
            np.concatenate([speech, random.integers(-1, 2, 60 * SAMPLE_RATE) / 32768]),
            SAID,
        ),
        "half a minute of hiss, then speech in it": (
            np.concatenate([np.zeros(30 * SAMPLE_RATE), speech])
            + hiss(30 + len(speech) / SAMPLE_RATE, 10 ** (-50 / 20)),
            SAID,
        ),
    }
    made["speech in hiss as loud"] = (speech + hiss(len(speech) / SAMPLE_RATE, float(np.std(speech))), SAID)
    return {name: (samples.astype(np.float32), said) for name, (samples, said) in made.items()}


def wrong(said: str, text: str) -> int:
    """Return the number of wrong words."""
    wanted, found = (normalise("basic/1", item, "en") for item in (said, text))
    if not wanted:
        return len(found.split())
    counts = jiwer.process_words(wanted, found)
    return counts.substitutions + counts.deletions + counts.insertions


def short(text: str) -> str:
    """Return the beginning of a text for a cell of the table."""
    cut = text if len(text) <= 60 else f"{text[:60]}…"
    return cut.replace("|", "/") if cut else "nothing"


@click.command()
@click.option("--base-model", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--speech", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--noise", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--converted", type=click.Path(path_type=Path), default=Path("runs/converted"))
@click.option("--only", default="", help="Inputs whose names have this.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/quiet_and_noise"))
def main(base_model: Path, speech: Path, noise: Path, converted: Path, only: str, out: Path) -> None:
    noises = {path.stem.replace("_", " "): read_audio(path).samples for path in sorted(noise.glob("*.flac"))}
    made = inputs(read_audio(speech).samples, noises)
    peer = faster_whisper_model(base_model, converted)
    ours = adapter_hub.load("base-model", base_model=str(base_model), language="en", device="cpu")
    sides: dict[str, Callable[[Samples], str]] = {
        "ours": lambda samples: ours.transcribe(samples)[0].text,
        "peer": lambda samples: " ".join(text for _, _, text in heard(peer, samples, "en")),
    }
    rows = read_rows(out.with_suffix(".json"))
    packages = ", ".join(f"{item} {version(item)}" for item in ("faster-whisper", "ctranslate2", "torch"))
    for name, (samples, said) in made.items():
        row = rows.setdefault(name, {})
        for side, run in sides.items():
            if only in name and side not in row:
                text = run(samples)
                row |= {side: text, f"{side}_wrong": wrong(said, text)}
                print(name, side, row[f"{side}_wrong"], text, flush=True)
                write_rows(out.with_suffix(".json"), rows, packages=packages)
    lines = [
        "| input | ours, wrong | faster-whisper, wrong | ours | faster-whisper |",
        "|---|--:|--:|---|---|",
    ]
    for name, row in rows.items():
        if len(row) < 4:
            continue
        cells = [name, row["ours_wrong"], row["peer_wrong"], short(row["ours"]), short(row["peer"])]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    text = page("Where it is quiet or noisy", ABOUT, COMMAND, "\n".join(lines), packages)
    out.with_suffix(".md").write_text(text)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
