"""Serving: how near common batches of many callers come to one offline call, and what a caller waits.

    OMP_NUM_THREADS=1 python benchmarks/serving.py

The speech is the two clips of the tests at several speeds, the adapters are those of the embedded catalogue,
and every answer has to be the offline one. Both sides of a ratio take turns in one process.
"""

from __future__ import annotations

import io
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import click
import numpy as np
import openai
import soundfile
import torch
from pages import page
from peer import faster_whisper_model, heard
from random_whisper import merged, peft_model, random_adapter
from timing import machine

import adapter_hub
from adapter_hub.exchange import Places, pull
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.model.loading import ResidentAdapter, load_adapter
from adapter_hub.model.quiet import quiet
from adapter_hub.serving.engine import Engine
from adapter_hub.speech.audio import read_audio
from adapter_hub.transcription.options import TranscriptionOptions
from adapter_hub.transcription.routing import FixedRoute
from adapter_hub.transcription.transcriber import Transcriber
from adapter_hub.transcription.transcript import Transcript

RATE = 16_000
CLIPS = [Path(__file__).parents[1] / f"tests/clips/{language}.flac" for language in ("da", "pl")]
ADAPTERS = ("mini/cy", "mini/da", "mini/el", "mini/it", "mini/ja", "mini/pl", "mini/pt", "mini/zh")
CLIENTS, MANY = 8, 32
PEERS = 4  # adapters, as each takes a converted model
ALONE = {"temperatures": (0.0,)}  # an adapter of another language would try each text six times
TITLE = "Serving: common batches of many callers"
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/serving.py"
ABOUT = """
The engine of `adapter-hub serve` beside the offline `transcribe` of the same clips, in turns in one process,
on the embedded base model with beams of 5: clips of one to three seconds, eight adapters. Callers are threads
that ask again as soon as they are answered; over HTTP the server is a process of its own, and texts that look
wrong are searched again at higher temperatures, on both sides. `texts` counts equal answers. One call sorts
all clips by length; of eight callers that wait for their answers, a batch takes the clips that there are.

The peers (`--part peers --real FOLDER --speech FOLDER`) run OpenAI's whisper-base with random adapters on
English clips, one request after another, and are measured by seconds of the CPU: on a CPU in float32 most of
them go into the encoder, whose cost no batch makes less.
"""
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Speech:
    """What is asked for: a clip, with an adapter."""

    samples: np.ndarray
    ref: str
    route: FixedRoute


def at_speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """Return samples that last `factor` times as long."""
    places = np.arange(0, len(samples) - 1, 1 / factor)
    return np.interp(places, np.arange(len(samples)), samples).astype(np.float32)


def speech(routes: Sequence[tuple[str, FixedRoute]], number: int) -> list[Speech]:
    """Return clips at many speeds, each with one of the routes, by their refs."""
    random = np.random.default_rng(3)
    clips = [soundfile.read(path, dtype="float32")[0] for path in CLIPS]
    return [
        Speech(at_speed(clips[i % 2], random.uniform(0.7, 1.3)), *routes[i % len(routes)])
        for i in range(number)
    ]


def offline(auto: Transcriber, asked: Sequence[Speech], **options: Any) -> list[str]:
    """Return the texts of one call."""
    refs = [item.ref for item in asked]
    found = auto.transcribe([(item.samples, RATE) for item in asked], adapters=refs, **options)
    return [item.text for item in found]


def served(
    ask: Callable[[Speech, int], Transcript], asked: Sequence[Speech], clients: int
) -> tuple[list[str], list[float]]:
    """Return texts and seconds of waiting, where clients ask for one clip after another."""
    texts, waited = [""] * len(asked), [0.0] * len(asked)
    turn = count()

    def client(number: int) -> None:
        while (i := next(turn)) < len(asked):
            started = time.perf_counter()
            texts[i] = ask(asked[i], number).text
            waited[i] = time.perf_counter() - started

    threads = [threading.Thread(target=client, args=[number]) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return texts, waited


def asking(engine: Engine) -> Callable[[Speech, int], Transcript]:
    options = TranscriptionOptions(**ALONE)

    def ask(item: Speech, client: int) -> Transcript:
        job = engine.submit((item.samples, RATE), router=item.route, options=options, client=client)
        return job.result(600)

    return ask


def timed(run: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> tuple[float, Any]:
    started = clock()
    found = run()
    return clock() - started, found


@contextmanager
def server() -> Iterator[Callable[[Speech, int], Transcript]]:
    """Run `adapter-hub serve` in a process of its own; yields what asks it, through connections that stay."""
    command = [sys.executable, "-m", "adapter_hub", "--device", "cpu", "serve", "--port", "0", "--json"]
    process = subprocess.Popen(
        [*command, *ADAPTERS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    facts = "".join(iter(process.stdout.readline, "}\n")) + "}"
    url = json.loads(facts)["url"]
    clients = [openai.OpenAI(base_url=f"{url}/v1", api_key="none") for _ in range(CLIENTS)]

    def ask(item: Speech, client: int) -> Transcript:
        file = io.BytesIO()
        soundfile.write(file, item.samples, RATE, format="WAV", subtype="FLOAT")
        answer = clients[client].audio.transcriptions.create(
            model=item.ref, file=("clip.wav", file.getvalue())
        )
        return Transcript("", text=answer.text)

    try:
        yield ask
    finally:
        for client in clients:
            client.close()
        process.terminate()
        process.wait()


@contextmanager
def engine_alone(auto: Transcriber) -> Iterator[Callable[[Speech, int], Transcript]]:
    engine = Engine(auto.base)
    yield asking(engine)
    engine.close()


def throughput(auto: Transcriber, asked: Sequence[Speech], repeats: int, clients: int, *, http: bool) -> Row:
    """Clients with eight adapters, beside one offline call."""
    options = {} if http else ALONE
    with server() if http else engine_alone(auto) as ask:
        wanted = offline(auto, asked, **options)
        served(ask, asked[:CLIENTS], clients)
        ours, theirs = [], []
        for _ in range(repeats):
            theirs.append(timed(lambda: offline(auto, asked, **options))[0])
            seconds, (texts, _) = timed(lambda: served(ask, asked, clients))
            ours.append(seconds)
    turns = [a / b for a, b in zip(theirs, ours, strict=True)]
    return {
        "what": f"{clients} clients, {len(ADAPTERS)} adapters{by(http)}: share of the throughput of one call",
        "goal": "0.9 or more",
        "found": f"{statistics.median(turns):.2f} ({min(turns):.2f} - {max(turns):.2f})",
        "about": f"{statistics.median(ours):.2f} s and {statistics.median(theirs):.2f} s",
        "texts": same(texts, wanted),
    }


def by(http: bool) -> str:
    return ", over HTTP" if http else ""


def latency(auto: Transcriber, asked: Sequence[Speech], repeats: int, *, http: bool) -> Row:
    """One client and one clip, beside a call of `transcribe`."""
    options = {} if http else ALONE
    wanted, texts, more, calls = [], [], [], []
    with server() if http else engine_alone(auto) as ask:
        for item in asked:
            ask(item, 0)
        for item in [*asked] * repeats:
            theirs, (text,) = timed(lambda item=item: offline(auto, [item], **options))
            ours, found = timed(lambda item=item: ask(item, 0))
            wanted.append(text)
            texts.append(found.text)
            more.append(1000 * (ours - theirs))
            calls.append(1000 * theirs)
    low, middle, high = np.quantile(more, (0.25, 0.5, 0.75))
    return {
        "what": f"one client, one clip{by(http)}: more than a call in a warm process",
        "goal": "30 ms or less",
        "found": f"{middle:.0f} ms ({low:.0f} - {high:.0f})",
        "about": f"a call takes {statistics.median(calls):.0f} ms",
        "texts": same(texts, wanted),
    }


def beside_a_long_one(auto: Transcriber, asked: Sequence[Speech], clients: int) -> Row:
    """Short clips beside a long recording, and without it."""
    engine, wanted = Engine(auto.base), offline(auto, asked, **ALONE)
    clip = np.concatenate([asked[0].samples, asked[1].samples])
    long = np.concatenate([clip, np.full(RATE // 2, 1e-4, np.float32)] * 400)
    texts, alone = served(asking(engine), asked, clients)
    options = TranscriptionOptions(**ALONE)
    job = engine.submit(
        (long, RATE), router=FixedRoute(auto.base, None, "da"), options=options, client="long"
    )
    while not engine.statistics().windows:
        time.sleep(0.01)
    before = engine.statistics().compute_seconds.get("base-model", 0.0)
    _, (beside_texts, beside) = timed(lambda: served(asking(engine), asked, clients))
    assert not job.done
    share = engine.statistics().compute_seconds.get("base-model", 0.0) - before
    total = sum(beside) / clients
    job.cancel()
    engine.close()
    first, second = (float(np.quantile(waited, 0.95)) for waited in (alone, beside))
    return {
        "what": f"clips of {clients} clients beside a recording of {len(long) / RATE / 60:.0f} minutes: p95",
        "goal": "2 times or less",
        "found": f"{second / first:.2f} times",
        "about": f"{1000 * second:.0f} ms and {1000 * first:.0f} ms; the long one has {share / total:.0%}",
        "texts": same([*texts, *beside_texts], [*wanted, *wanted]),
    }


def peers(folder: Path, speech_folder: Path, clips: int) -> list[Row]:
    """Merged models of faster-whisper, and PEFT that switches, on a real Whisper: CPU seconds."""
    base = load_base_model(str(folder), device="cpu")
    adapters = [random_adapter(base, seed) for seed in range(PEERS)]
    for adapter in adapters:
        adapter.buffer.mul_(0.5)  # texts stay those of speech
    samples = [read_audio(path).samples for path in sorted(speech_folder.rglob("*.*")) if is_audio(path)][
        :clips
    ]
    asked = [Speech(item, "", FixedRoute(base, adapters[i % PEERS], "en")) for i, item in enumerate(samples)]
    engine = Engine(base)
    served(asking(engine), asked[:1], 1)
    ours, (wanted, _) = timed(lambda: served(asking(engine), asked, CLIENTS), time.process_time)
    engine.close()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for peer, goal, run in (
            ("faster-whisper (float32) with merged models", "2", merged_models(base, adapters, Path(name))),
            ("PEFT, which switches adapters", "4", switching(base, adapters)),
        ):
            run(0, samples[0])
            theirs, texts = timed(
                lambda run=run: [run(i % PEERS, item) for i, item in enumerate(samples)], time.process_time
            )
            rows.append(
                {
                    "what": f"{CLIENTS} clients, {PEERS} adapters of whisper-base: throughput, beside {peer}",
                    "goal": f"{goal} times",
                    "found": f"{theirs / ours:.2f} times",
                    "about": f"{ours:.1f} s and {theirs:.1f} s of the CPU",
                    "texts": same(texts, wanted),
                }
            )
    return rows


def is_audio(path: Path) -> bool:
    return path.suffix in (".wav", ".flac", ".ogg", ".mp3")


def merged_models(
    base: BaseModel, adapters: Sequence[ResidentAdapter], folder: Path
) -> Callable[[int, np.ndarray], str]:
    """Return faster-whisper, with a model for each adapter."""
    models = []
    for number, adapter in enumerate(adapters):
        place = folder / str(number)
        merged(base, adapter).save_pretrained(place)
        base.processor.save_pretrained(place)
        models.append(faster_whisper_model(place, folder / f"converted-{number}"))
        shutil.rmtree(place)
    limits = ("no_speech_threshold", "log_prob_threshold", "compression_ratio_threshold")
    options = {"temperature": 0.0, "condition_on_previous_text": False, "without_timestamps": True}

    def run(number: int, samples: np.ndarray) -> str:
        found = heard(models[number], samples, "en", **options, **dict.fromkeys(limits))
        return " ".join(text for _, _, text in found)

    return run


def switching(base: BaseModel, adapters: Sequence[ResidentAdapter]) -> Callable[[int, np.ndarray], str]:
    """Return transformers' `generate` on PEFT's model of all adapters."""
    model, processor = peft_model(base, list(adapters)), base.processor

    def run(number: int, samples: np.ndarray) -> str:
        model.set_adapter(f"a{number}")
        features = processor(samples, sampling_rate=RATE, return_tensors="pt").input_features
        with torch.inference_mode():
            found = model.generate(input_features=features, language="en", task="transcribe", num_beams=5)
        return str(processor.batch_decode(found, skip_special_tokens=True)[0]).strip()

    return run


def same(texts: Sequence[str], wanted: Sequence[str]) -> str:
    return f"{sum(a == b for a, b in zip(texts, wanted, strict=True))} of {len(texts)}"


def resident() -> float:
    """Return the process's memory in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def memory_with(adapters: int) -> Row:
    """Return the memory of an engine that has answered with every one of some adapters, in MB."""
    base = adapter_hub.load("base-model").base
    artifacts = [pull(ref, Places()) for ref in ADAPTERS]
    loaded = [load_adapter(base, artifacts[i % len(artifacts)]) for i in range(adapters)]
    engine = Engine(base)
    routes = [FixedRoute(base, adapter) for adapter in loaded] or [FixedRoute(base, None, "da")]
    asked = speech([("", route) for route in routes], 64)
    served(asking(engine), asked, CLIENTS)
    engine.close()
    return {"adapters": adapters, "mb": resident(), "bytes": sum(item.bytes for item in loaded) / 2**20}


def memory() -> Row:
    """Measure the memory with some adapters, each in a process of its own."""
    rows = []
    for adapters in (0, 1, 8, 64):
        command = [sys.executable, __file__, "--memory-of", str(adapters)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    more = [row["mb"] - rows[0]["mb"] - row["bytes"] for row in rows[1:]]
    sizes = ", ".join(f"{row['adapters']}: {row['mb']:.0f} MB" for row in rows)
    return {
        "what": "memory with 1, 8, 64 adapters, less that of the base model and of the adapters' bytes",
        "goal": "a constant",
        "found": ", ".join(f"{value:.0f} MB" for value in more),
        "about": f"{sizes}; the adapters alone {rows[-1]['bytes']:.0f} MB",
        "texts": "",
    }


@click.command()
@click.option("--clips", default=64, help="Short clips in a turn.")
@click.option("--repeats", default=3, help="Turns that are timed.")
@click.option("--part", "parts", multiple=True, default=("throughput", "latency", "long", "memory"))
@click.option("--real", type=click.Path(path_type=Path), help="For the part peers: a real Whisper's folder.")
@click.option(
    "--speech", "voices", type=click.Path(path_type=Path), help="For the part peers: English clips."
)
@click.option("--memory-of", type=int, default=None, hidden=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("benchmarks/results/serving"))
def main(
    clips: int,
    repeats: int,
    parts: tuple[str, ...],
    real: Path | None,
    voices: Path | None,
    memory_of: int | None,
    out: Path,
) -> None:
    if memory_of is not None:
        with quiet():
            print(json.dumps(memory_with(memory_of)))
        return
    with quiet():
        auto = adapter_hub.load("auto", adapters=ADAPTERS)
        routes = [(ref, FixedRoute(auto.base, auto.router.load(ref))) for ref in ADAPTERS]
        asked = speech(routes, clips)
        runs: dict[str, Callable[[], list[Row]]] = {
            "throughput": lambda: [
                throughput(auto, asked, repeats, clients, http=http)
                for clients, http in ((CLIENTS, False), (MANY, False), (CLIENTS, True))
            ],
            "latency": lambda: [latency(auto, asked[:8], repeats, http=http) for http in (False, True)],
            "long": lambda: [beside_a_long_one(auto, asked, clients) for clients in (1, CLIENTS)],
            "memory": lambda: [memory()],
            "peers": lambda: peers(real or Path(), voices or Path(), clips),
        }
        for part in parts:
            rows = runs[part]()
            print(*rows, sep="\n", flush=True)
            write(out, part, rows, f"{clips} clips, {repeats} turns; {machine('float32')}")


def write(out: Path, part: str, rows: Sequence[Row], note: str) -> None:
    """Write the rows of a part into the results, beside those of the others."""
    file = out.with_suffix(".json")
    found = json.loads(file.read_text()) if file.is_file() else {}
    found[part] = {"rows": rows, "about": note}
    out.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=2) + "\n")
    lines = ["| what | goal | found | about | texts |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(row.values())} |" for item in found.values() for row in item["rows"]]
    notes = "\n".join(f"- {part}: {item['about']}" for part, item in found.items())
    out.with_suffix(".md").write_text(page(TITLE, ABOUT, COMMAND, "\n".join(lines), notes))


if __name__ == "__main__":
    main()
