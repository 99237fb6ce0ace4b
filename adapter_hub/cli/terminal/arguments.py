"""The types of arguments and options, and those that several commands share.

@click.argument("folder", type=PATH)
@click.option("--store", type=PLACE)
@click.option("--days", type=Number(minimum=0))

Every option of a type refuses the same values with the same message: an empty one (an unset variable of a
script), a NUL, the home folder of an unknown user, a number that is not finite.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapter_hub.errors import InvalidInputError
from adapter_hub.formats.reference import expanded

if TYPE_CHECKING:
    _ToPath = click.ParamType[Path]
    _ToText = click.ParamType[str]
    _ToNumbers = click.ParamType[tuple[float, ...]]
    _ToWords = click.ParamType[tuple[str, ...]]
else:
    _ToPath = _ToText = _ToNumbers = _ToWords = click.ParamType  # generic in newer releases of click only


class _PathType(_ToPath):
    """A file or folder of this machine; `~` is the home folder."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, or end as wrong usage."""
        try:
            return value if isinstance(value, Path) else expanded(value)
        except InvalidInputError as error:
            self.fail(str(error), param, ctx)


class _PlaceType(_ToText):
    """A file or folder, or what is named otherwise: `hf://namespace`, `mini/da~=1.0`, `embedded`."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text as it is, with `~` expanded, or end as wrong usage."""
        try:
            path = expanded(value)
        except InvalidInputError as error:
            self.fail(str(error), param, ctx)
        return str(path) if value.startswith("~") else str(value)


class _TextType(_ToText):
    """Text that is not empty and can be encoded as UTF-8."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text, or end as wrong usage."""
        text = str(value)
        if not text.strip() or any("\ud800" <= character <= "\udfff" for character in text):
            self.fail(f"{text!r}: expected some text, in UTF-8", param, ctx)
        return text


class Number(click.FloatRange):
    """A finite number in a range: neither `nan` nor `1e999`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, or end as wrong usage."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r}: expected a finite number", param, ctx)
        return number


class NumberList(_ToNumbers):
    """Finite numbers from 0 on, separated by commas, like `0,0.2,0.4`."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Return the numbers, or end as wrong usage."""
        try:
            numbers = value if isinstance(value, tuple) else tuple(map(float, str(value).split(",")))
        except ValueError:
            numbers = ()
        if not numbers or not all(0 <= number < math.inf for number in numbers):
            self.fail(f"{value!r}: expected numbers from 0 on, like 0,0.2,0.4", param, ctx)
        return numbers


class WordList(_ToWords):
    """Words separated by commas, like `da,pl`."""

    name = "words"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the words without the empty ones."""
        if isinstance(value, tuple):
            return value
        return tuple(word.strip() for word in str(value).split(",") if word.strip())


def with_text_checked(command: click.Command) -> click.Command:
    """Make every plain text option of a command and its subcommands a checked one; return the command."""
    for parameter in command.params:
        if parameter.type is click.STRING:
            parameter.type = TEXT
    for subcommand in command.commands.values() if isinstance(command, click.Group) else ():
        with_text_checked(subcommand)
    return command


PATH = _PathType()
TEXT = _TextType()
PLACE = _PlaceType()

ref_argument = click.argument("ref", metavar="REF", type=PLACE)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
base_model_option = click.option(
    "--base-model",
    metavar="ID|FOLDER",
    type=PLACE,
    help="The base model. Default: the adapter's own, else that of the registry's adapters, else the "
    "embedded one.",
)
decode_language_option = click.option(
    "--decode-language",
    metavar="CODE",
    help="Whisper's code of the language to decode in, where it has none for --language.",
)
allow_quarantined_option = click.option(
    "--allow-quarantined", metavar="DIGEST", help="Digest of a quarantined version to use anyway."
)
