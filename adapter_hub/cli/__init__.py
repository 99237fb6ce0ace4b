"""The command line `adapter-hub`: data on stdout, messages on stderr.

    adapter-hub list
    adapter-hub --registry my/registry.json show mini/da

Exit codes: 0 fine, 1 something failed or was found (one line `error: …`), 2 wrong usage. Commands are
imported when they are asked for, and heavy libraries inside their bodies, so that `list` starts fast.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click
from click.core import ParameterSource

from adapter_hub.cli.terminal.arguments import PLACE, with_text_checked
from adapter_hub.cli.terminal.echo import confirm, echo_line, echo_warning
from adapter_hub.cli.terminal.errors import outcome_of
from adapter_hub.cli.terminal.examples import with_example
from adapter_hub.cli.terminal.global_options import (
    DTYPES,
    GlobalOptions,
    add_global_options,
    makes_a_registry,
)

# the sections of --help, and each command's line in it; a command `x-y` is `x_y` in the module `x_y` beside
# this one, with an underscore behind it where Python has taken the word
SECTIONS = {
    "Find": {
        "list": "List adapters, filtered and sorted.",
        "search": "Search the Hub for adapters.",
        "show": "Show all that is known of an adapter.",
        "card": "Print an adapter's model card.",
        "lineage": "Show what an adapter was made from.",
        "bom": "Write an adapter's bill of materials.",
        "diff": "Show how two adapters differ.",
    },
    "Use": {
        "transcribe": "Turn speech into text.",
        "serve": "Serve adapters behind OpenAI's audio API.",
        "bulk": "Transcribe thousands of hours of recordings.",
        "export": "Write an adapter for other tools.",
        "pull": "Fetch adapters and verify every byte.",
        "lock": "Pin the adapters that an application uses.",
        "sync": "Install what a lock file pins.",
        "base-model": "Fetch or identify a base model.",
    },
    "Train": {
        "data": "Check a data set before training on it.",
        "similarity": "Rank languages by similarity to new speech.",
        "recipe": "Write a recipe, the input of `train`.",
        "train": "Train an adapter from a recipe.",
        "average": "Average adapters into one.",
        "extract": "Turn a full fine-tune into an adapter.",
        "fold": "Turn a static expert pair into one LoRA.",
        "evaluate": "Measure error rates on a data set.",
        "compare": "Compare models on the same data.",
        "reproduce": "Reproduce a paper's tables.",
        "demo": "Walk through the life of an adapter, offline.",
    },
    "Share": {
        "publish": "Publish an artifact.",
        "attach": "Publish evaluation reports with their adapters.",
        "import": "Import a third-party PEFT adapter.",
        "mirror": "Copy versions from one store to another.",
        "retire": "Change the status of a published version.",
    },
    "Check": {
        "audit": "Check that every promise is kept.",
        "registry": "Check, rebuild or trust a registry.",
        "cache": "List, prune or verify the cache.",
    },
}
COMMANDS = {name: about for section in SECTIONS.values() for name, about in section.items()}
SHADOWING = {"import", "list"}  # a keyword, and a name that a module of this package would take away


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the sections."""
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command, or None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_") + ("_" if cmd_name in SHADOWING else "")
        command = getattr(importlib.import_module(f"{__name__}.{name}"), name)
        assert isinstance(command, click.Command)
        return add_global_options(with_example(with_text_checked(command), cmd_name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections, without importing anything."""
        widest = max(map(len, COMMANDS))
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:{widest}}", about) for name, about in section.items()])


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        echo_line(f"adapter-hub {version('adapter-hub')}")
        ctx.exit()


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--registry",
    envvar="ADAPTER_HUB_REGISTRY",
    show_envvar=True,
    metavar="FILE|HF",
    type=PLACE,
    help="The registry: a file, or hf://datasets/namespace/name. Default: ./registry.json if it is "
    "trusted (`registry trust`), otherwise your own.",
)
@click.option(
    "--store",
    envvar="ADAPTER_HUB_STORE",
    show_envvar=True,
    metavar="FOLDER|HF",
    type=PLACE,
    help="The store that is published to: a folder, or hf://namespace. Default: the folder `store` beside "
    "the registry file, or the namespace of a registry on the Hub.",
)
@click.option(
    "--cache",
    envvar="ADAPTER_HUB_CACHE",
    show_envvar=True,
    metavar="FOLDER",
    type=PLACE,
    help="Folder of pulled adapters and base models. Default: ~/.cache/adapter_hub.",
)
@click.option(
    "--device",
    envvar="ADAPTER_HUB_DEVICE",
    show_envvar=True,
    metavar="NAME",
    help="Device to run on: cpu, cuda, cuda:1, … Default: a GPU if there is one.",
)
@click.option(
    "--dtype",
    envvar="ADAPTER_HUB_DTYPE",
    show_envvar=True,
    type=DTYPES,
    help="Precision of transcribe and evaluate; training takes it from the recipe. Default: float32.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Print the version and exit.",
)
@click.pass_context
def cli(
    ctx: click.Context,
    registry: str | None,
    store: str | None,
    cache: str | None,
    device: str | None,
    dtype: str | None,
) -> None:
    """Publish, pull, audit and run speech-recognition adapters on a frozen Whisper.

    REF is namespace/name, namespace/name@1.2.0, namespace/name~=1.2, the same after hf:// for a repository on
    the Hub, or the folder of an artifact (./out). The options below go before the command or behind it.
    """
    typed = ctx.get_parameter_source("registry") is ParameterSource.COMMANDLINE
    can_answer = sys.stdin.isatty() and sys.stderr.isatty()
    ctx.obj = GlobalOptions(
        registry=registry,
        store=store,
        cache=cache,
        device=device,
        dtype=dtype,
        tell=echo_warning,
        ask=confirm if can_answer else None,
        must_exist=typed and not makes_a_registry(ctx),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every error is one line.

    Args:
        arguments: the words after `adapter-hub`; by default those of the process.
    """
    # searching for pydantic plugins takes a twentieth of the time of `list`, and none is used
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if not sys.stderr.isatty():  # the Hub's client would draw its progress bars into a log
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = next((word for word in words if word in COMMANDS), "")
    return outcome_of(lambda: cli.main(args=words, prog_name="adapter-hub", standalone_mode=False), name)
