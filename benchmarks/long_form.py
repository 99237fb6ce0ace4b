"""Hours of audio in two languages: memory, speed, and whether every phrase comes out once, in order.

    OMP_NUM_THREADS=1 python benchmarks/long_form.py --hours 0.1 --hours 3

The audio is the two clips of the tests over and over, in random order with pauses of 0.6 to 2.5 seconds and
faint noise throughout. `transcribe auto` runs on it in a process of its own, whose memory is looked at every
second. A phrase counts as right where language and text are those that the clip has when it is alone.
"""

from __future__ import annotations

import difflib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import soundfile

RATE = 16_000
CLIPS = {language: Path(__file__).parents[1] / f"tests/clips/{language}.flac" for language in ("da", "pl")}


def transcribe(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "adapter_hub", "--device", "cpu", "transcribe", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def phrases_alone() -> dict[str, str]:
    """Return what each clip is transcribed as when it is alone."""
    out, _ = transcribe("auto", *map(str, CLIPS.values()), "--json").communicate()
    return {language: row["text"] for language, row in zip(CLIPS, json.loads(out), strict=True)}


def synthesise(path: Path, hours: float, random_seed: int = 0) -> list[str]:
    """Write the audio; return the languages of its phrases."""
    random = np.random.default_rng(random_seed)
    clips = {language: soundfile.read(path, dtype="float32")[0] for language, path in CLIPS.items()}
    said: list[str] = []
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        while file.frames < hours * 3600 * RATE:
            language = str(random.choice(list(clips)))
            samples = np.concatenate([clips[language], np.zeros(int(random.uniform(0.6, 2.5) * RATE))])
            file.write(samples + 1e-4 * random.standard_normal(len(samples)))
            said.append(language)
    return said


def memory(process: int, field: str) -> float:
    """Return a process's memory in MB, as the kernel counts it; 0 where it has ended."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), 0.0)


def measure(hours: float, alone: dict[str, str], options: tuple[str, ...]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        audio, out = Path(folder) / "long.flac", Path(folder) / "out.json"
        said = synthesise(audio, hours)
        started = time.monotonic()
        process = transcribe("auto", str(audio), "--json", "--out", str(out), *options)
        seen: list[float] = []
        peak = 0.0
        while process.poll() is None:
            seen.append(memory(process.pid, "VmRSS"))
            peak = max(peak, memory(process.pid, "VmHWM"))
            time.sleep(1)
        wall = time.monotonic() - started
        _, errors = process.communicate()
        if process.returncode:
            raise SystemExit(errors)
        (found,) = json.loads(out.read_bytes())
    wanted = [(language, alone[language]) for language in said]
    found_texts = [(item["language"], item["text"]) for item in found["segments"]]
    same = difflib.SequenceMatcher(None, wanted, found_texts, autojunk=False).get_matching_blocks()
    quarters = [round(max(seen[i * len(seen) // 4 : (i + 1) * len(seen) // 4 + 1])) for i in range(4)]
    return {
        "hours": round(found["duration"] / 3600, 3),
        "seconds": round(wall, 1),
        "speed": round(found["duration"] / wall, 1),
        "peak_megabytes": round(peak),
        "megabytes_by_quarter": quarters,
        "phrases": len(said),
        "segments": len(found_texts),
        "right": sum(block.size for block in same),
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| hours | x real time | peak memory, MB | in each quarter of the time | phrases | found | right |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        quarters = ", ".join(map(str, row["megabytes_by_quarter"]))
        lines.append(
            f"| {row['hours']} | {row['speed']} | {row['peak_megabytes']} | {quarters} "
            f"| {row['phrases']} | {row['segments']} | {row['right']} |"
        )
    return "\n".join(lines)


@click.command()
@click.option("--hours", type=float, multiple=True, default=(0.1, 3.0))
@click.option("--option", "options", multiple=True, help="Of transcribe, like --option=--beams=1.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results")
def main(hours: tuple[float, ...], options: tuple[str, ...], out: Path) -> None:
    alone = phrases_alone()
    rows = [measure(length, alone, options) for length in hours]
    machine = f"{platform.processor() or platform.machine()}, {os.environ.get('OMP_NUM_THREADS', '?')} thread"
    machine += f" of {os.cpu_count()}, Python {platform.python_version()}, torch {version('torch')}"
    command = " ".join(["python benchmarks/long_form.py", *(f"--hours {h:g}" for h in hours)])
    command += "".join(f" --option={option}" for option in options)
    result = {"machine": machine, "command": command, "load_average": os.getloadavg()[0], "rows": rows}
    text = f"# Hours of audio\n\n`{command}`\n\n{machine}; load {os.getloadavg()[0]:.1f}\n\n{table(rows)}\n"
    out.mkdir(parents=True, exist_ok=True)
    (out / "long_form.json").write_text(json.dumps(result, indent=2) + "\n")
    (out / "long_form.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
