"""The command line `adapter-hub`: verbs on adapters, data on stdout, messages on stderr.

    adapter-hub list
    adapter-hub --registry my/registry.json show mini/da

Exit codes: 0 fine, 1 something failed or was found (one line `error: …`), 2 wrong usage. Commands are
imported when they are called for, and heavy libraries inside their bodies, so that `list` starts fast.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from adapter_hub.cli.terminal.arguments import PLACE, with_text_checked
from adapter_hub.cli.terminal.boundary import outcome_of
from adapter_hub.cli.terminal.echo import echo_line
from adapter_hub.cli.terminal.settings import Settings

# name: where the command is, and its line in --help; the order is the one of --help
COMMANDS = {
    "list": ("adapter_hub.cli.catalogue:list_adapters", "List adapters, filtered and sorted."),
    "show": ("adapter_hub.cli.catalogue:show", "Show all that is known of an adapter."),
    "diff": ("adapter_hub.cli.catalogue:diff", "Show how two adapters differ."),
    "lineage": ("adapter_hub.cli.catalogue:lineage", "Show what came from what."),
    "card": ("adapter_hub.cli.catalogue:card", "Print an adapter's model card."),
    "transcribe": ("adapter_hub.cli.transcribing:transcribe", "Turn speech into text."),
    "evaluate": ("adapter_hub.cli.speech:evaluate", "Measure error rates on a data set."),
    "data": ("adapter_hub.cli.training:data", "Look at a data set before training on it."),
    "similarity": ("adapter_hub.cli.training:similarity", "Rank languages by similarity to new speech."),
    "recipe": ("adapter_hub.cli.training:recipe", "Write a recipe, the input of train."),
    "train": ("adapter_hub.cli.training:train", "Train an adapter as a recipe says."),
    "fold": ("adapter_hub.cli.composing:fold", "Make a static expert pair one ordinary LoRA."),
    "publish": ("adapter_hub.cli.exchange:publish", "Put an artifact into a store and list it."),
    "pull": ("adapter_hub.cli.exchange:pull", "Fetch adapters, verified from the bytes up."),
    "lock": ("adapter_hub.cli.locking:lock", "Pin to the byte what an application uses."),
    "sync": ("adapter_hub.cli.locking:sync", "Install what a lock file pins."),
    "mirror": ("adapter_hub.cli.mirroring:mirror", "Copy versions, reports and statuses between stores."),
    "retire": ("adapter_hub.cli.exchange:retire", "Change the status of a version."),
    "search": ("adapter_hub.cli.hub:search", "Search the Hub for adapters."),
    "base-model": ("adapter_hub.cli.hub:base_model", "Fetch a base model, or show which one it is."),
    "import": ("adapter_hub.cli.importing:import_adapter", "Take in somebody's PEFT adapter."),
    "audit": ("adapter_hub.cli.checking:audit", "Check every promise, from the bytes up."),
    "registry": ("adapter_hub.cli.maintenance:registry", "Check the registry, or rebuild it."),
    "cache": ("adapter_hub.cli.maintenance:cache", "List, prune or verify what was pulled."),
    "reproduce": ("adapter_hub.cli.reproducing:reproduce", "Reproduce a paper's tables."),
    "demo": ("adapter_hub.cli.training:demo", "Live the whole life of an adapter, offline."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command, or None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return with_text_checked(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table's lines, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])


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
    metavar="FILE|HF",
    type=PLACE,
    help="The registry: a file, or hf://datasets/namespace/name. Default: ./registry.json if "
    "trusted (`registry trust`), else the user's own.",
)
@click.option(
    "--store",
    envvar="ADAPTER_HUB_STORE",
    metavar="FOLDER|HF",
    type=PLACE,
    help="The store that publish and retire write to: a folder, or hf://namespace. Default: `store` beside "
    "the registry file, or the namespace of a registry on the Hub.",
)
@click.option(
    "--cache",
    envvar="ADAPTER_HUB_CACHE",
    metavar="FOLDER",
    type=PLACE,
    help="Where pulled adapters are kept. Default: ~/.cache/adapter_hub.",
)
@click.option(
    "--device",
    envvar="ADAPTER_HUB_DEVICE",
    metavar="NAME",
    help="cpu, cuda, cuda:1, … Default: a GPU if there is one.",
)
@click.option(
    "--dtype",
    envvar="ADAPTER_HUB_DTYPE",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    help="Precision of transcribe and evaluate; a recipe sets its own. Default: float32.",
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

    REF is namespace/name, namespace/name@1.2.0, namespace/name~=1.2, or an artifact's folder (./out).
    Every global option can be set as an environment variable: ADAPTER_HUB_REGISTRY, ADAPTER_HUB_STORE, …
    """
    ctx.obj = Settings(registry=registry, store=store, cache=cache, device=device, dtype=dtype)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every error is one line.

    Args:
        arguments: the words after `adapter-hub`; by default those of the process.
    """
    # looking for pydantic's plugins takes a twentieth of the time of `list`, and none is wanted here
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if not sys.stderr.isatty():  # the Hub's client would draw its bars into a log, too
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = next((word for word in words if word in COMMANDS), "")
    return outcome_of(lambda: cli.main(args=words, prog_name="adapter-hub", standalone_mode=False), name)
