"""The whole life of an adapter, offline, in minutes: `adapter-hub demo`.

Spanish is not in the embedded catalogue, and the embedded base model was trained on little of it. Spanish
speech is synthesised, a seed is chosen by similarity, a warm start and a twin from scratch are trained,
evaluated, published into a scratch registry, pulled back, run, and audited. Every step shows the command
that does the same by hand. The results are printed whatever they are.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from adapter_hub import embedded
from adapter_hub.artifact.folder import Artifact
from adapter_hub.audit import audit
from adapter_hub.cards import render_card
from adapter_hub.data.dataset import read_dataset
from adapter_hub.errors import AdapterHubError
from adapter_hub.evaluation.evaluating import EvaluationOptions, evaluate
from adapter_hub.exchange import Places, attach, publish, pull
from adapter_hub.formats.claims import EvaluationReport
from adapter_hub.model.base_model import BaseModel, load_base_model
from adapter_hub.model.loading import load_adapter
from adapter_hub.model.session import Session
from adapter_hub.registry.contract import Registry
from adapter_hub.registry.file import FileRegistry
from adapter_hub.registry.lineage import lineage_graph, render_tree
from adapter_hub.reporting import Tell
from adapter_hub.speech.audio import read_audio
from adapter_hub.speech.features import log_mel
from adapter_hub.stores.cache import Cache
from adapter_hub.stores.folder import FolderStore
from adapter_hub.trainers.makers.corpus.render import write_corpus
from adapter_hub.trainers.training import train
from adapter_hub.transcription.opening import load

LANGUAGE, DATA = "es", "spoken-numbers-es"
SIZES = {"train": 500, "dev": 40, "test": 120}
QUICK_SIZES = {"train": 48, "dev": 8, "test": 8}

RECIPE = """\
[adapter]
name = "demo/{name}"
version = "1.0.0"
method = "{method}"
language = "es"
license = "Apache-2.0"
authors = ["adapter-hub demo"]
{seed}
[data]
train = "{data}/train"
dev = "{data}/dev"
license = "Apache-2.0"

[lora]
rank = 8
dtype = "float16"

[training]
epochs = {epochs}
batch_size = 16
peak_learning_rate = 2e-3
audio_length = "batch"
spec_augment = true
random_seed = 1
"""
SEED = '\n[seed]\nadapter = "nearest"\nsegments = 100\n'


MARKER = ".adapter-hub-demo"
MADE = (  # what a demo leaves in its folder
    MARKER,
    "registry.json",
    "registry.json.lock",
    "store",
    "cache",
    "other-cache",
    DATA,
    "spoken-numbers-pl",
    "card.md",
    *(f"{name}{end}" for name in ("es", "es-scratch") for end in ("", ".toml", ".training")),
)


@dataclass
class Stage:
    """Where the demo works, and its results so far."""

    out: Path
    say: Tell
    quick: bool
    base: BaseModel
    registry: FileRegistry
    store: FolderStore
    cache: Cache
    began: float = field(default_factory=time.monotonic)
    reports: dict[str, EvaluationReport] = field(default_factory=dict)

    @property
    def registries(self) -> tuple[Registry, ...]:
        """The scratch registry, then the embedded catalogue."""
        return (self.registry, FileRegistry(embedded.registry_path(), read_only=True))

    @contextmanager
    def step(self, title: str, command: str = "") -> Iterator[None]:
        """Announce a step, and say afterwards how long it took.

        Args:
            title: a heading.
            command: what does the same by hand, without the program's name; empty for none.
        """
        began = time.monotonic()
        self.say(f"\n== {title}")
        if command:
            self.say(f"$ adapter-hub --registry {self.registry.path} {command}")
        yield
        self.say(f"   ({time.monotonic() - began:.1f} s)")


def demonstrate(out: Path, *, say: Tell, quick: bool = False) -> None:
    """Run the demo in folder `out`, where speech and adapters are kept.

    Args:
        out: a folder of a previous demo is replaced, anything else is left alone.
        say: receives every line.
        quick: a fraction of the data and steps, to see that everything works.

    Raises:
        AdapterHubError: `out` is something else, or a step failed.
    """
    stage = _prepare(out, say, quick)
    data = _speech(stage)
    _evaluate(stage, "base-model", "base-model", data)
    child, twin = _train_both(stage)
    for artifact in (child, twin):
        _publish(stage, artifact)
        _evaluate(stage, artifact.ref, artifact.ref, data)
    _pull_and_transcribe(stage, child, data)
    _polish(stage, child)
    _account(stage, child)
    _table(stage, child, twin)


def _prepare(out: Path, say: Tell, quick: bool) -> Stage:
    marker = out / MARKER
    if out.exists():
        if not marker.is_file() or out.is_symlink():
            raise AdapterHubError(f"{out}: exists and is not the folder of a demo; choose another --out")
        if others := sorted({path.name for path in out.iterdir()} - set(MADE)):
            raise AdapterHubError(
                f"{out}: holds {others[0]}, which the demo did not make and would delete; move it elsewhere, "
                "or choose another --out"
            )
        shutil.rmtree(out)
    out.mkdir(parents=True)
    marker.touch()
    registry = FileRegistry(out / "registry.json")
    registry.memory.forget_place()  # a scratch registry is not missed, whoever has deleted it
    return Stage(
        out,
        say,
        quick,
        load_base_model(cache=out / "cache"),
        registry,
        FolderStore(out / "store"),
        Cache(out / "cache"),
    )


def _speech(stage: Stage) -> Path:
    """Synthesise Spanish spoken numbers, with different voices and numbers for training, dev and test."""
    sizes = QUICK_SIZES if stage.quick else SIZES
    with stage.step(f"Speech: {sum(sizes.values())} Spanish utterances by espeak-ng"):
        write_corpus(stage.out / DATA, LANGUAGE, sizes, processes=2, progress=lambda *_: None)
        row = read_dataset(stage.out / DATA, "test").rows[0]
        stage.say(f"   {row.path.relative_to(stage.out)}: {row.text!r}")
    return stage.out / DATA


def _evaluate(stage: Stage, title: str, ref: str, data: Path) -> None:
    with stage.step(f"Evaluate {title}", f"evaluate {ref} --data {data} --language es"):
        transcriber = load(
            ref, language=LANGUAGE, registry=str(stage.registry.path), cache=str(stage.cache.folder)
        )
        report = evaluate(
            transcriber, read_dataset(data, "test"), EvaluationOptions(language=LANGUAGE, batch_size=16)
        )
        stage.reports[ref] = report
        stage.say(f"   WER {100 * report.words.rate:.1f} %, CER {100 * report.characters.rate:.1f} %")
        worst = max(report.rows, key=lambda row: row.seconds)
        stage.say(f"   reference:  {worst.reference}\n   hypothesis: {worst.hypothesis}")
        if report.subject.name is not None:
            attach(report, Places(stage.registry, stage.store))


def _train_both(stage: Stage) -> tuple[Artifact, Artifact]:
    """Train the child of the nearest language and its twin from scratch, with the same steps."""
    made = []
    for name, method, seed in (("es", "warm-start", SEED), ("es-scratch", "lora", "")):
        recipe = stage.out / f"{name}.toml"
        epochs = 1 if stage.quick else 6
        recipe.write_text(RECIPE.format(name=name, method=method, seed=seed, data=DATA, epochs=epochs))
        with stage.step(f"Train demo/{name} ({method})", f"train {recipe} --out {stage.out / name}"):
            lines = _last_of_each(stage.say)
            out = stage.out / name
            train(recipe, out, registries=stage.registries, cache=stage.cache, device="cpu", tell=lines)
            made.append(Artifact.open(out))
    return made[0], made[1]


def _last_of_each(say: Tell) -> Tell:
    """Return a `Tell` for training that shows of its steps only those with a dev loss."""

    def tell(line: str) -> None:
        if not line.startswith("step ") or "dev loss" in line:
            say(f"   {line}")

    return tell


def _publish(stage: Stage, artifact: Artifact) -> None:
    with stage.step(f"Publish {artifact.ref} into a scratch registry", f"publish {artifact.path}"):
        publish(artifact.path, Places(stage.registry, stage.store))
        stage.say(f"   {artifact.digest}")


def _pull_and_transcribe(stage: Stage, child: Artifact, data: Path) -> None:
    with stage.step(f"Pull {child.ref} back into an empty cache", f"pull {child.ref}"):
        pulled = pull(child.ref, Places(stage.registries, cache=Cache(stage.out / "other-cache")))
        stage.say(f"   every file and digest verified: {pulled.digest == child.digest}")
    row = read_dataset(data, "test").rows[-1]
    with stage.step("Transcribe a file", f"transcribe {child.ref} {row.path}"):
        transcriber = load(child.ref, registry=str(stage.registry.path), cache=str(stage.out / "other-cache"))
        stage.say(f"   reference:  {row.text}\n   hypothesis: {transcriber.transcribe(row.path)[0].text}")


def _polish(stage: Stage, child: Artifact) -> None:
    """Show that Polish rows are bit-identical when another adapter works in the rows beside them."""
    with stage.step("Polish, before and beside the child"):
        folder = write_corpus(stage.out / "spoken-numbers-pl", "pl", {"test": 4}, progress=lambda *_: None)
        clips = [read_audio(row.path) for row in read_dataset(Path(folder), "test").rows]
        polish = load_adapter(stage.base, pull("mini/pl", Places(stage.registries, cache=stage.cache)))
        spanish = load_adapter(stage.base, child)
        features = torch.from_numpy(log_mel(stage.base.processor.feature_extractor, clips))
        before = _logits(stage.base, features, [polish, None, polish, None])
        beside = _logits(stage.base, features, [polish, spanish, polish, spanish])
        same = torch.equal(before[0::2], beside[0::2])
        effect = float((before[1::2] - beside[1::2]).abs().max())
        stage.say(
            f"   mini/pl rows bit-identical: {same} (the child moves its own rows' logits by {effect:.2f})"
        )


def _logits(base: BaseModel, features: torch.Tensor, rows: list[object]) -> torch.Tensor:
    session = Session(base)
    session.set_adapters(rows)  # type: ignore[arg-type]
    start = torch.full((features.shape[0], 1), base.model.generation_config.decoder_start_token_id)
    with torch.no_grad():
        logits: torch.Tensor = session.model(input_features=features, decoder_input_ids=start).logits
    return logits


def _account(stage: Stage, child: Artifact) -> None:
    with stage.step("Lineage", f"lineage {child.ref}"):
        graph = lineage_graph(stage.registries, child.ancestors())
        for line in render_tree(graph, child.digest).splitlines():
            stage.say(f"   {line}")
    with stage.step("Audit", "audit"):
        findings = audit(places=Places(stage.registries))
        for finding in findings:
            stage.say(f"   {finding.severity}: {finding.ref}: {finding.message} [{finding.code}]")
        errors = sum(finding.severity == "error" for finding in findings)
        adapters = sum(len(versions) for found in stage.registries for versions in found.adapters.values())
        stage.say(f"   {errors} errors in {adapters} adapters, the embedded catalogue's included")
    card = stage.out / "card.md"
    with stage.step("Card", f"card {child.ref}"):
        card.write_text(render_card(child.manifest, [stage.reports[child.ref]]), encoding="utf-8")
        stage.say(f"   {card}")


def _table(stage: Stage, child: Artifact, twin: Artifact) -> None:
    stage.say(f"\n== Results, after {time.monotonic() - stage.began:.0f} s")
    rows: Iterable[tuple[str, str]] = (
        ("base model", "base-model"),
        ("LoRA from scratch", twin.ref),
        ("LoRA warm start", child.ref),
    )
    stage.say(f"   {'Spanish, test split':24}{'WER %':>8}{'CER %':>8}   95 % interval of the WER")
    for title, ref in rows:
        report = stage.reports[ref]
        interval = f"{100 * report.interval.low:.1f} - {100 * report.interval.high:.1f}"
        stage.say(
            f"   {title:24}{100 * report.words.rate:8.1f}{100 * report.characters.rate:8.1f}   {interval}"
        )
    if stage.quick:
        stage.say("   (--quick: too little data and too few steps for the numbers to mean anything)")
