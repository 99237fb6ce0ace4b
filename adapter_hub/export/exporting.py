"""Export: from a reference to a folder that another tool opens.

record = export_model("mini/da", "out/da")                                 # for transformers
record = export_model("mini/pl*0.5+mini/it*0.5", "out/blend", format="ctranslate2")
record = export_model("mini/da", "out/peft", format="peft")
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapter_hub.artifact.folder import Artifact
from adapter_hub.base_model.digest import base_model_digest
from adapter_hub.base_model.families import FAMILIES, WHISPER
from adapter_hub.errors import ConflictError, InvalidInputError
from adapter_hub.exchange import Places, pull
from adapter_hub.exchange.importing import base_model_pin
from adapter_hub.export.ctranslate2_format import check_converter, unsuited, write_ctranslate2
from adapter_hub.export.peft_format import loadable_base_model, write_peft
from adapter_hub.export.recording import finish
from adapter_hub.export.transformers_format import write_transformers
from adapter_hub.files.writing import check_writable, folder_in_the_making
from adapter_hub.formats.export_record import DTYPES, FORMATS, QUANTIZATIONS, ExportRecord
from adapter_hub.formats.manifest import BaseModelPin
from adapter_hub.formats.reference import AUTO, BASE_MODEL, parse_blend
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.merging import merge_into, name_speech
from adapter_hub.reporting import Tell
from adapter_hub.transcription.opening import (
    base_model_of,
    blended_adapter,
    proven_adapter,
    usual_base_model,
)
from adapter_hub.transcription.transcriber import warn


def export_model(  # noqa: PLR0913 - the options of the public face
    ref: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    format: str = "transformers",
    dtype: str | None = None,
    quantization: str | None = None,
    base_model: str | None = None,
    registry: str | None = None,
    cache: str | None = None,
    tell: Tell | None = None,
    progress: Tell | None = None,
) -> ExportRecord:
    """Write an adapter for other tools to a folder, whole or not at all.

    Args:
        ref: as in `load`, or `base-model`; not `auto`.
        out: a folder that does not exist yet, or is empty.
        format: `transformers` or `ctranslate2` for the base model with the adapter merged into it; `peft` for
            the adapter alone.
        dtype: of the weights for transformers, float32 by default, and for PEFT, by default the adapter's.
            Whatever it is, merging is done in float32.
        quantization: of the weights for CTranslate2, by its own names; float32 by default.
        base_model: as in `load`.
        registry: as in `load`.
        cache: as in `load`.
        tell: called with every warning; by default `warnings.warn`.
        progress: called with a line before every step that takes time.

    Returns:
        The record beside the files: adapters and base model by their digests, and every file's.

    Raises:
        InvalidInputError: what no such model is equal to: `auto`, a token-gated pair; for PEFT also a pair
            and several adapters; options of another format. ConflictError: `out` exists.
        MissingExtraError: CTranslate2 is not installed. And as `load`.
    """
    _check_options(ref, format, dtype, quantization)
    target = Path(out).absolute()  # `.` has no name
    _check_target(target)
    if format == "ctranslate2":
        check_converter()
    places = Places(registry, cache=cache, device="cpu", dtype="float32", tell=tell or warn)
    say = progress or _silent
    if format == "peft":
        return _export_peft(_lone_adapter(ref, places), base_model, target, dtype, places)
    merged = _merged(ref, base_model, places, format, say)
    try:
        with folder_in_the_making(target) as folder:
            if format == "transformers":
                say(f"writing {merged.name}, {dtype or 'float32'}")
                write_transformers(merged.base, folder, dtype or "float32")
            else:
                say(f"converting {merged.name} for CTranslate2, {quantization or 'float32'}")
                write_ctranslate2(merged.base, folder, quantization or "float32")
                if reasons := unsuited(merged.base):
                    places.warn(
                        f"{merged.pin.id}: run it with ctranslate2.models.Whisper: faster-whisper "
                        f"{' and '.join(reasons)}"
                    )
            fields = {
                "format": format,
                "precision": dtype or quantization or "float32",
                "base_model": merged.pin.to_json(),
                **({"digest": base_model_digest(folder)} if format == "transformers" else {}),
            }
            return finish(folder, target, fields, merged.parts)
    except FileExistsError:
        raise ConflictError(f"{target}: appeared meanwhile; choose another --out") from None


@dataclass(frozen=True, eq=False)
class _Merged:
    """A base model that holds adapters in its weights.

    Attributes:
        base: the base model, spent.
        pin: of it, as it was.
        parts: the adapters with their weights; none for the base model alone.
    """

    base: BaseModel
    pin: BaseModelPin
    parts: Sequence[tuple[Artifact, float]]

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return " and ".join(artifact.ref for artifact, _ in self.parts) or self.pin.id


def _merged(
    ref: str | os.PathLike[str], base_model: str | None, places: Places, format: str, say: Tell
) -> _Merged:
    """Load the base model and merge what a reference names into it, in float32."""
    if ref == BASE_MODEL:
        base = usual_base_model(base_model, places)
        _check_family(base, format)
        pin = base_model_pin(base.folder, base_model or base.id, base.revision, cache=places.cache_folder)
        return _Merged(base, pin, ())
    blend = parse_blend(ref) if isinstance(ref, str) else None
    wanted = blend or ((ref if isinstance(ref, str) else Path(ref), 1.0),)
    parts = [(pull(part, places), weight) for part, weight in wanted]
    base = base_model_of(parts[0][0], base_model, places)
    _check_family(base, format)
    say(f"merging {' and '.join(artifact.ref for artifact, _ in parts)} into {base.id}")
    if blend is None:
        merge_into(base, proven_adapter(base, parts[0][0], places))
    else:
        artifacts = [artifact for artifact, _ in parts]
        adapter, spoken = blended_adapter(base, artifacts, [weight for _, weight in parts], places)
        merge_into(base, adapter)
        name_speech(base, artifacts[0].manifest.task, spoken)
    return _Merged(base, parts[0][0].manifest.base_model, parts)


def _export_peft(
    artifact: Artifact, base_model: str | None, target: Path, dtype: str | None, places: Places
) -> ExportRecord:
    """Write one adapter as plain PEFT takes it; no base model is loaded."""
    name, revision = loadable_base_model(artifact, base_model, places.cache_folder)
    try:
        with folder_in_the_making(target) as folder:
            precision = write_peft(artifact, folder, dtype, (name, revision))
            fields = {
                "format": "peft",
                "precision": precision,
                "base_model": artifact.manifest.base_model.to_json(),
            }
            return finish(folder, target, fields, [(artifact, 1.0)])
    except FileExistsError:
        raise ConflictError(f"{target}: appeared meanwhile; choose another --out") from None


def _lone_adapter(ref: str | os.PathLike[str], places: Places) -> Artifact:
    """Return the adapter that is exported alone."""
    if ref == BASE_MODEL:
        raise InvalidInputError("base-model: PEFT's format holds an adapter; name one, or another --format")
    if isinstance(ref, str) and parse_blend(ref) is not None:
        raise InvalidInputError(
            f"{ref}: PEFT's format holds one adapter; `adapter-hub average` makes one of these, exactly"
        )
    artifact = pull(ref if isinstance(ref, str) else Path(ref), places)
    if artifact.manifest.gate is not None:
        static = artifact.manifest.gate.kind == "static"
        raise InvalidInputError(
            f"{artifact.ref}: an expert pair, which plain PEFT cannot load; "
            + (
                f"`adapter-hub fold {artifact.ref}` makes it one LoRA, exactly: export that"
                if static
                else "its gate weighs every token, so that `fold` cannot make it one LoRA either; "
                "`transcribe` and `serve` run it"
            )
        )
    return artifact


def _check_options(
    ref: str | os.PathLike[str], format: str, dtype: str | None, quantization: str | None
) -> None:
    """Refuse what cannot be, before anything is loaded."""
    if format not in FORMATS:
        raise InvalidInputError(f"format {format!r}: expected one of {', '.join(FORMATS)}")
    if not isinstance(ref, str | os.PathLike):
        raise InvalidInputError(f"{type(ref).__name__} as an adapter; expected one reference, like 'mini/da'")
    if ref == AUTO:
        raise InvalidInputError(
            "auto: chooses an adapter for every stretch of speech, so no single model is equal to it; "
            "`transcribe` and `serve` run it; export one adapter"
        )
    if dtype is not None and format == "ctranslate2":
        raise InvalidInputError("--dtype: is for transformers and peft; CTranslate2 takes --quantization")
    if quantization is not None and format != "ctranslate2":
        raise InvalidInputError(f"--quantization: is for ctranslate2; {format} takes --dtype")
    if dtype is not None and dtype not in DTYPES:
        raise InvalidInputError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    if quantization is not None and quantization not in QUANTIZATIONS:
        raise InvalidInputError(f"quantization {quantization!r}: expected one of {', '.join(QUANTIZATIONS)}")


def _check_target(target: Path) -> None:
    """Refuse a folder that holds something, or that could not be written, before minutes of work."""
    if target.is_dir() and not target.is_symlink() and not any(target.iterdir()):
        return
    if os.path.lexists(target):
        raise ConflictError(f"{target}: already exists; choose another --out or remove it")
    check_writable(target)


def _check_family(base: BaseModel, format: str) -> None:
    if format == "ctranslate2" and base.family != WHISPER:
        raise InvalidInputError(
            f"{base.id}: a {FAMILIES[base.family].title}, which CTranslate2 does not run; "
            "export it with --format transformers or peft"
        )


def _silent(_: str) -> None:
    """Say nothing."""
