"""The global options of the command line, and what commands open with them.

    @click.pass_obj
    def show(options: GlobalOptions, ref: str) -> None:
        registries, cache = options.registries(), options.open_cache()

Methods open things when they are called, so that a command pays only for what it uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import click

from adapter_hub.cli.terminal.arguments import PLACE, TEXT
from adapter_hub.cli.terminal.echo import echo_note
from adapter_hub.errors import NotFoundError
from adapter_hub.exchange.places import Places
from adapter_hub.formats.reference import is_address
from adapter_hub.paths import registry_path

if TYPE_CHECKING:
    from adapter_hub.transcription.transcriber import Transcriber


DTYPES = click.Choice(["float32", "float16", "bfloat16"])
# every one of them may also stand behind the name of a command
GLOBAL: dict[str, click.ParamType[Any]] = {
    "registry": PLACE,
    "store": PLACE,
    "cache": PLACE,
    "device": TEXT,
    "dtype": DTYPES,
}
MAKING = ("publish", "mirror", "demo")  # commands whose registry need not exist yet


class LoadOptions(TypedDict, total=False):
    """What a command may say about the transcriber that it needs, as `adapter_hub.load` takes it."""

    language: str | None
    decode_language: str | None
    base_model: str | None
    threshold: float
    adapters: Sequence[str]
    languages: Sequence[str]
    fallback: str | None
    allow_quarantined: str | None


@dataclass(frozen=True, eq=False)
class GlobalOptions(Places):
    """The global options of the command line are the places of its commands.

    Attributes:
        must_exist: whether the registry was named on the command line of a command that makes none, so that
            a file that is not there is a mistake.
    """

    must_exist: bool = False

    @cached_property
    def named_registry(self) -> str:
        """The registry that the user means, decided once.

        Raises:
            NotFoundError: one that has to exist does not.
        """
        named = super().named_registry
        if self.must_exist and not is_address(named) and not registry_path(named).exists():
            raise NotFoundError(
                f"--registry {named}: no such file; check the path (`publish` makes a new registry there)"
            )
        return named

    def load(self, ref: str, **how: Unpack[LoadOptions]) -> Transcriber:
        """Return a transcriber; warnings go to stderr, and which base model is used where no adapter says so.

        Args:
            ref: an adapter, the folder of one, `auto` or `base-model`.
            how: as `adapter_hub.load` takes it.
        """
        from adapter_hub.formats.reference import AUTO, BASE_MODEL
        from adapter_hub.transcription.opening import load

        transcriber = load(
            ref,
            device=self.device,
            dtype=self.dtype,
            registry=self.named_registry,
            cache=str(self.cache_folder),
            tell=self.tell,
            **how,
        )
        if ref in (AUTO, BASE_MODEL):
            echo_note(f"base model: {transcriber.base.id}")
        return transcriber


def add_global_options(command: click.Command) -> click.Command:
    """Let a command and its subcommands take the global options behind their names, too; return it.

    Help shows them once, with the program's own options.

    Args:
        command: has no option of the same name, or keeps its own.
    """
    taken = {name for parameter in command.params for name in parameter.opts}
    command.params += [option for option in _repeated() if not taken.intersection(option.opts)]
    for subcommand in command.commands.values() if isinstance(command, click.Group) else ():
        add_global_options(subcommand)
    return command


def _repeated() -> list[click.Option]:
    return [
        click.Option(
            [f"--{name}"], type=kind, hidden=True, expose_value=False, callback=_repeat, help="As above."
        )
        for name, kind in GLOBAL.items()
    ]


def _repeat(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is None or not isinstance(context.obj, GlobalOptions):
        return
    changes = {str(parameter.name): value}
    if parameter.name == "registry":
        changes["must_exist"] = not makes_a_registry(context)
    context.obj = replace(context.obj, **changes)


def makes_a_registry(context: click.Context) -> bool:
    """Tell whether a command may be given a registry that does not exist yet.

    Args:
        context: of the command, or of the program with the command's name.
    """
    return context.invoked_subcommand in MAKING or context.info_name in MAKING
