"""The global options of the command line, and what commands open with them.

    @click.pass_obj
    def show(options: GlobalOptions, ref: str) -> None:
        registries, cache = options.registries(), options.open_cache()

Methods open things when they are called, so that a command pays only for what it uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, Unpack

from adapter_hub.cli.terminal.echo import echo_note
from adapter_hub.exchange.places import Places

if TYPE_CHECKING:
    from adapter_hub.transcription.transcriber import Transcriber


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
    """The global options of the command line are the places of its commands."""

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
