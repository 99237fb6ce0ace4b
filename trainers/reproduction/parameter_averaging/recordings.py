"""The speech of a reproduction on recordings: folders of audio, whole, or in part and with noise.

A set that is used as it is becomes a link to its folder; any other is written, clip by clip, and gets its
name when it is complete.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from adapter_hub.data.dataset import Dataset, Utterance, read_dataset
from adapter_hub.errors import NotFoundError
from adapter_hub.speech.audio import find_audio, read_audio
from adapter_hub.trainers.reproduction.parameter_averaging.settings import ORIGINAL, DomainSettings, Settings

PEAK = 0.99  # largest amplitude of a clip with noise


@dataclass(frozen=True)
class Part:
    """Which recordings make a set, and what is done to them.

    Attributes:
        folder: with metadata.
        most: utterances.
        random_seed: of what is left out, and of the noise.
        first: utterance that may be taken.
        every: so manieth utterance is taken.
        noise: folder of recordings to mix in.
        snr_db: range of the noise.
    """

    folder: Path
    most: int
    random_seed: int
    first: int = 0
    every: int = 1
    noise: Path | None = None
    snr_db: tuple[float, float] | None = None


def collect(settings: Settings, folder: Path, name: str) -> Path:
    """Bring the splits of a domain, or the sets of the original domain, together, and return their folder.

    Args:
        settings: of the run.
        folder: new, or begun with the same settings.
        name: of a domain, or `original`.

    Raises:
        NotFoundError, InvalidInputError: a folder is missing, or is no data set.
    """
    root, original = Path(str(settings.data)), settings.original
    if name == "original":
        sizes = {"clean": original.clean, "other": original.other}
        for test in (*original.dev_sets, *ORIGINAL):
            place = root / original.folders[test]
            _write(Part(place, sizes.get(test, original.dev), original.random_seed), folder / test)
        return folder
    domain = settings.domains[name]
    for split, most in (("train", domain.train), ("test", domain.test)):
        _write(_part(root, domain, split, most), folder / split)
    return folder


def _part(root: Path, domain: DomainSettings, split: str, most: int) -> Part:
    first, every = domain.every if domain.every and split == "train" else (0, 1)
    noise = root / domain.noise if domain.noise else None
    place = root / str(domain.folder) / split
    return Part(place, most, domain.random_seed, first, every, noise, domain.snr_db)


def _write(part: Part, out: Path) -> None:
    """Write a set, or link to it; one that is there is kept."""
    if out.exists():
        return
    if not part.folder.is_dir():
        raise NotFoundError(f"{part.folder}: no such folder; --data has to name the folder that it is in")
    dataset = read_dataset(part.folder)
    chosen = _chosen(part, dataset)
    out.parent.mkdir(parents=True, exist_ok=True)
    if part.noise is None and len(chosen) == len(dataset.rows):
        out.symlink_to(part.folder.resolve(), target_is_directory=True)
        return
    begun = out.with_name(f"{out.name}.part")
    shutil.rmtree(begun, ignore_errors=True)
    (begun / "audio").mkdir(parents=True)
    with (begun / "metadata.jsonl").open("w", encoding="utf-8") as metadata:
        for number, (row, samples, rate) in enumerate(_clips(part, chosen)):
            file = f"audio/{number:06d}.flac"
            soundfile.write(begun / file, samples, rate, subtype="PCM_16")
            record = {"file_name": file, "text": row.text}
            metadata.write(json.dumps(record | ({"speaker": row.speaker} if row.speaker else {})) + "\n")
    begun.rename(out)


def _chosen(part: Part, dataset: Dataset) -> list[Utterance]:
    """Return the utterances of a set: a random choice where there are too many, in their own order."""
    rows = list(dataset.rows)[part.first :: part.every]
    if len(rows) > part.most:
        kept = random.Random(part.random_seed).sample(range(len(rows)), part.most)
        rows = [rows[index] for index in sorted(kept)]
    return rows


def _clips(part: Part, rows: list[Utterance]) -> Iterator[tuple[Utterance, npt.NDArray[np.float32], int]]:
    """Decode the clips, with noise mixed in if it is asked for."""
    noises = [read_audio(path) for path in find_audio(part.noise)] if part.noise else []
    for row in rows:
        audio = row.clip.read()
        samples = audio.samples
        if noises and part.snr_db:
            generator = random.Random(f"{part.random_seed} {row.id}")
            background = generator.choice(noises).samples
            start = generator.randrange(len(background))
            repeated = np.resize(np.roll(background, -start), len(samples))
            samples = _mixed(samples, repeated, generator.uniform(*part.snr_db))
        yield row, samples, audio.sample_rate


def _mixed(
    speech: npt.NDArray[np.float32], noise: npt.NDArray[np.float32], snr_db: float
) -> npt.NDArray[np.float32]:
    """Return speech with noise at a ratio of their mean powers, made softer where it would clip.

    Args:
        speech: `[samples]`.
        noise: `[samples]`.
        snr_db: how much more power the speech has, in dB.
    """
    power = float(np.mean(np.square(speech, dtype=np.float64)))
    other = float(np.mean(np.square(noise, dtype=np.float64)))
    factor = np.sqrt(power / other) * 10 ** (-snr_db / 20) if other > 0 else 0.0
    mixed = speech + np.float32(factor) * noise
    loudest = float(np.abs(mixed).max())
    softer: npt.NDArray[np.float32] = mixed * np.float32(min(1.0, PEAK / loudest)) if loudest > 0 else mixed
    return softer
