"""docs/python.md: its examples run, with the output that they have now, and the reference of public names.

An example is a `python` block with `>>>` lines; all of them share one namespace and a folder of their own, in
which there are two recordings. The reference is rendered from signatures and docstrings.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import os
import re
import shutil
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import adapter_hub
from adapter_hub import exchange

CLIPS = Path(__file__).parent / "clips"
BEGIN, END = "<!-- reference: begin -->", "<!-- reference: end -->"
WIDTH = 120
PUBLIC: Mapping[str, Sequence[str]] = {
    "adapter_hub": adapter_hub.__all__,
    "adapter_hub.transcription.options": ("TranscriptionOptions",),
    "adapter_hub.transcription.subtitles": ("to_srt", "to_vtt"),
    "adapter_hub.exchange": exchange.__all__,
    "adapter_hub.artifact.folder": ("Artifact",),
    "adapter_hub.formats.reference": ("AdapterRef",),
    "adapter_hub.formats.manifest": ("Manifest",),
    "adapter_hub.formats.export_record": ("ExportRecord",),
    "adapter_hub.audit": ("audit",),
    "adapter_hub.data.dataset": ("read_dataset",),
    "adapter_hub.evaluation.evaluating": ("EvaluationOptions", "evaluate"),
    "adapter_hub.trainers.training": ("train",),
    "adapter_hub.model.base_model": ("BaseModel", "load_base_model"),
    "adapter_hub.model.loading": ("ResidentAdapter", "load_adapter"),
    "adapter_hub.model.session": ("Session",),
    "adapter_hub.decoding.options": ("DecodingOptions",),
    "adapter_hub.decoding.decode": ("DecodingResult", "decode"),
}

SHOWN = {"Session": ("set_adapter", "set_adapters")}  # the others are for decoding


def python_page(text: str, run: Callable[[str, dict[str, Any]], str], block: re.Pattern[str]) -> str:
    """Return the page with every example's output and the reference as they are now.

    Args:
        text: of the page.
        run: runs the body of a block in a namespace and returns it with its output.
        block: finds blocks, with the groups `kind` and `body`.
    """
    names: dict[str, Any] = {"__name__": "python_page"}
    with recordings():
        text = block.sub(lambda match: f"```python\n{run(match['body'], names)}```", text)
    head, _, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    assert end, f"docs/python.md needs {BEGIN} and, below it, {END}"
    return f"{head}{BEGIN}\n{reference()}\n{END}{tail}"


@contextlib.contextmanager
def recordings() -> Iterator[None]:
    """Work in a new folder with two recordings, and with an empty cache and no registry of the user."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for clip in CLIPS.glob("*.flac"):
            shutil.copy(clip, folder)
        mine = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("ADAPTER_HUB_")}
        home = {name: os.environ.get(name) for name in ("XDG_DATA_HOME", "XDG_STATE_HOME")}
        os.environ |= dict.fromkeys(home, f"{folder}/home") | {"ADAPTER_HUB_CACHE": f"{folder}/cache"}
        try:
            yield
        finally:
            for name in ("ADAPTER_HUB_CACHE", *home):
                del os.environ[name]
            os.environ |= mine | {name: value for name, value in home.items() if value is not None}


def reference() -> str:
    """Return the reference: for every public name its signature and the first sentence of its docstring."""
    sections = []
    for place, names in PUBLIC.items():
        module = importlib.import_module(place)
        entries = "".join(entry(name, getattr(module, name)) for name in names)
        sections.append(f"\n### `{place}`\n\n{entries}")
    return "".join(sections)


def entry(name: str, value: Any) -> str:
    """Return a list item for a function, or for a class with its attributes and methods."""
    if not inspect.isclass(value):
        return item(name, value)
    lines = [bullet(f"`{name}`: {summary(value)}")]
    lines += [bullet(f"`{field}`: {about}", 1) for field, about in attributes(value)]
    listed = {field for field, _ in attributes(value)}
    for method, raw in vars(value).items():
        if method.startswith("_") or method in listed or method not in SHOWN.get(name, (method,)):
            continue
        function = getattr(raw, "__func__", raw)
        if isinstance(raw, property | cached_property):
            lines.append(bullet(f"`{method}`: {summary(raw)}", 1))
        elif inspect.isfunction(function):
            lines.append(item(method, function, 1))
    return "".join(lines)


def item(name: str, function: Any, depth: int = 0) -> str:
    """Return a list item for a function or method."""
    # annotations are strings, which are shown as they are written
    text = re.sub(r"(?<=: )'([^']*)'|(?<=-> )'([^']*)'", r"\1\2", str(inspect.signature(function)))
    text = re.sub(r"<function .*? at 0x\w+>", "…", text)  # a default that is a function
    return bullet(f"`{name}{re.sub(r'^[(](self|cls)(, )?', '(', text)}`: {summary(function)}", depth)


def bullet(text: str, depth: int = 0) -> str:
    """Return a list item that fits the page."""
    lines = textwrap.wrap(text, WIDTH - 2 * depth - 2, break_long_words=False, break_on_hyphens=False)
    return textwrap.indent("- " + "\n  ".join(lines), "  " * depth) + "\n"


def summary(value: Any) -> str:
    """Return the first paragraph of a docstring."""
    return " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())


def described(value: type) -> list[dataclasses.Field[Any]]:
    """Return the fields of a record that say what they mean."""
    fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
    return [field for field in fields if "meaning" in field.metadata]


def attributes(value: type) -> list[tuple[str, str]]:
    """Return what the fields of a class, or its docstring, say of its attributes."""
    if meanings := [(field.name, field.metadata["meaning"]) for field in described(value)]:
        return meanings
    _, _, section = (inspect.getdoc(value) or "").partition("\nAttributes:\n")
    body = textwrap.dedent(re.split(r"\n(?=\S)", section)[0])
    found = re.findall(r"^(\w+): (.*(?:\n +.*)*)", body, re.MULTILINE)
    return [(name, " ".join(about.split())) for name, about in found]
