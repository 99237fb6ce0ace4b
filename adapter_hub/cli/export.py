"""`export`: an adapter for other tools."""

from __future__ import annotations

from pathlib import Path

import click

from adapter_hub.cli.terminal.arguments import base_model_option, json_option, ref_argument
from adapter_hub.cli.terminal.echo import echo_json, echo_line, echo_note
from adapter_hub.cli.terminal.global_options import DTYPES, GlobalOptions
from adapter_hub.cli.terminal.tables import size_text
from adapter_hub.cli.terminal.training_options import out_folder_option
from adapter_hub.formats.export_record import FORMATS, QUANTIZATIONS

NEXT = {
    "transformers": 'pipeline("automatic-speech-recognition", model={folder!r}), or adapter-hub transcribe '
    "base-model --base-model {folder}",
    "ctranslate2": "faster_whisper.WhisperModel({folder!r})",
    "peft": "PeftModel.from_pretrained(base_model, {folder!r})",
}


@click.command()
@ref_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="transformers",
    show_default=True,
    help="transformers and ctranslate2 get the base model with the adapter merged into it, peft the adapter.",
)
@out_folder_option("Folder to write; must not exist, or be empty.")
@click.option(
    "--quantization",
    type=click.Choice(QUANTIZATIONS),
    help="For ctranslate2: how weights are stored. Default: float32.",
)
@click.option(
    "--dtype",
    type=DTYPES,
    help="For transformers and peft: precision of the weights that are written. Default: float32; for peft "
    "the adapter's.",
)
@base_model_option
@json_option
@click.pass_obj
def export(
    options: GlobalOptions,
    ref: str,
    form: str,
    out: Path,
    quantization: str | None,
    dtype: str | None,
    base_model: str | None,
    as_json: bool,
) -> None:
    """Write an adapter for transformers, for CTranslate2 and faster-whisper, or for PEFT and vLLM.

    REF may also be base-model, or several adapters with weights, like mini/pl*0.5+mini/it*0.5. Merging is
    done in float32; the weights are then written as --dtype or --quantization says. A card and export.json
    beside them name adapter and base model by their digests.

    An expert pair whose gate weighs every token, and auto, are equal to no single model: transcribe and serve
    run them. For peft, `fold` makes a pair one LoRA, and `average` several adapters.
    """
    from adapter_hub.export.exporting import export_model

    record = export_model(
        ref,
        out,
        format=form,
        dtype=dtype,
        quantization=quantization,
        base_model=base_model,
        registry=options.named_registry,
        cache=str(options.cache_folder),
        tell=options.tell,
        progress=echo_note,
    )
    if as_json:
        echo_json({"path": str(out), "size": record.size, **record.to_json()})
        return
    echo_line(
        f"{record.ref} for {record.format}, {record.precision}, in {out}: "
        f"{len(record.files)} files, {size_text(record.size)}"
    )
    if record.digest:
        echo_line(f"as a base model: {record.digest}")
    echo_note(f"next: {NEXT[record.format].format(folder=str(out))}")
