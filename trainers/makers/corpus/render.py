"""From a plan to sound, and to data folders: `audio/*.flac` and `metadata.jsonl`.

A folder is written so that an interrupted run can go on: every clip appears under its name only when it is
complete, and `metadata.jsonl` comes last. `plan.sha256` says which plan the clips follow; a folder of
another plan is refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from adapter_hub.errors import ConflictError, InvalidInputError
from adapter_hub.reporting import Progress
from adapter_hub.trainers.makers.corpus.noise import noise
from adapter_hub.trainers.makers.corpus.plan import SETTINGS, UtteranceSpec, plan, shortened
from adapter_hub.trainers.makers.corpus.synthesis import SAMPLE_RATE, in_processes, synthesise

Words = tuple[tuple[float, float], ...]

PEAK = 0.95
"""Largest amplitude at a gain of 0 dB."""

CORPUS_SPLITS = {"train": "adaptation", "dev": "dev", "test": "test"}
"""The folders of a language's corpus, and the split that each one holds."""


def render(spec: UtteranceSpec) -> tuple[npt.NDArray[np.int16], Words]:
    """16 kHz samples of the utterance and the (start, end) seconds of its words.

    Args:
        spec: of the utterance.
    """
    speech = synthesise(
        spec.text,
        voice=spec.voice,
        rate=spec.rate,
        pitch=spec.pitch,
        pitch_range=spec.pitch_range,
        seed=spec.seed,
    )
    samples = speech.samples.astype(np.float64)
    if spec.snr_db is not None:
        background = noise(spec.noise, len(samples), SAMPLE_RATE, spec.seed)
        samples += background * np.sqrt(np.mean(samples**2)) * 10 ** (-spec.snr_db / 20)
    samples *= PEAK / np.abs(samples).max() * 10 ** (spec.gain_db / 20)
    # the rounding to 16 bits hides differences in the last bits of a float between computers
    return np.round(samples * 32767).astype(np.int16), speech.words


def fitted(spec: UtteranceSpec) -> tuple[UtteranceSpec, npt.NDArray[np.int16], Words]:
    """The utterance, with fewer numbers where it lasts longer than the model's input, and its sound.

    Args:
        spec: of the utterance.
    """
    while True:
        samples, words = render(spec)
        if len(samples) <= SETTINGS["limits"]["longest_seconds"] * SAMPLE_RATE:
            return spec, samples, words
        spec = shortened(spec)


def write_folder(
    specs: Sequence[UtteranceSpec],
    folder: Path | str,
    *,
    processes: int = 1,
    progress: Progress | None = None,
) -> Path:
    """Write a data folder and return the path of its `metadata.jsonl`.

    Args:
        specs: the utterances, from `plan`.
        folder: new, or of the same plan.
        processes: that synthesise at the same time.
        progress: called with (done, all); the default draws a line on a terminal's stderr.

    Raises:
        ConflictError: the folder holds speech of another plan.
    """
    folder = Path(folder)
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    _claim(folder, plan_digest(specs))
    rows = []
    progress = progress or _draw_progress
    for row in in_processes(partial(_write_clip, folder=folder), specs, processes=processes):
        rows.append(row)
        progress(len(rows), len(specs))
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    metadata = folder / "metadata.jsonl"
    _replace(metadata, "".join(lines).encode())
    return metadata


def write_corpus(
    folder: Path | str,
    language: str,
    splits: Mapping[str, int],
    *,
    seed: int = 0,
    processes: int = 1,
    progress: Progress | None = None,
) -> Path:
    """Write `folder/train`, `folder/dev`, `folder/test`.

    Args:
        folder: new, or begun with the same arguments.
        language: one of `numbers.LANGUAGES`.
        splits: how many utterances each has.
        seed: of the plan.
        processes: that synthesise at the same time.
        progress: called with (done, all); the default draws a line on a terminal's stderr.

    Returns:
        The folder.

    Raises:
        InvalidInputError: an unknown language or split. ConflictError: see `write_folder`.
    """
    for name in splits:
        if name not in CORPUS_SPLITS:
            raise InvalidInputError(f"no split {name!r}: choose among {', '.join(CORPUS_SPLITS)}")
    for name, count in splits.items():
        specs = plan(language, CORPUS_SPLITS[name], count, seed)
        write_folder(specs, Path(folder) / name, processes=processes, progress=progress)
    return Path(folder)


def plan_digest(specs: Sequence[UtteranceSpec]) -> str:
    """The identity of a plan: what decides every sample that will be written."""
    # "spoken" was a field of its own once: folders that were begun then can still be completed
    rows = [{**asdict(spec), "spoken": spec.text} for spec in specs]
    content = {"version": SETTINGS["version"], "specs": rows}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _claim(folder: Path, digest: str) -> None:
    """Keep finished clips of this plan only."""
    claim = folder / "plan.sha256"
    if claim.exists():
        if claim.read_text(encoding="utf-8").strip() != digest:
            raise ConflictError(
                f"{folder} holds speech of another plan: choose another folder, or remove it first"
            )
    elif any((folder / "audio").iterdir()):
        raise ConflictError(f"{folder} holds audio that no plan accounts for: choose an empty folder")
    else:
        _replace(claim, f"{digest}\n".encode())


def _write_clip(spec: UtteranceSpec, folder: Path) -> dict[str, object]:
    """Write one clip if it is not there yet; the line of metadata about it."""
    path = folder / "audio" / f"{spec.id}.flac"
    if not path.exists():
        spec, samples, _ = fitted(spec)
        content = io.BytesIO()
        with soundfile.SoundFile(content, "w", SAMPLE_RATE, 1, format="FLAC", subtype="PCM_16") as sound:
            sound.title = spec.text  # `fitted` may have shortened it: a resumed run must know
            sound.write(samples)
        _replace(path, content.getvalue())
    with soundfile.SoundFile(path) as sound:
        return {
            "file_name": f"audio/{path.name}",
            "text": sound.title,
            "language": spec.language,
            "speaker": spec.speaker,
            "duration": round(sound.frames / sound.samplerate, 3),
        }


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def _draw_progress(done: int, count: int) -> None:
    if sys.stderr.isatty() and (done % 50 == 0 or done == count):
        sys.stderr.write(f"\r{done}/{count} clips" + ("\n" if done == count else ""))
        sys.stderr.flush()
