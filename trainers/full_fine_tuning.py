"""Write a full fine-tune: a folder that transformers opens, and the record of its training.

    record = write_full_fine_tune(folder, result, inputs)

The weights stay in float32, as they were trained: what is evaluated is what was trained.
"""

from __future__ import annotations

from pathlib import Path

from adapter_hub.base_model.digest import base_model_digest
from adapter_hub.formats.canonical import canonical_bytes
from adapter_hub.formats.full_fine_tune import FULL_FINE_TUNE_FILE, SCHEMA, FullFineTune
from adapter_hub.formats.times import utc_now
from adapter_hub.model.quiet import quiet
from adapter_hub.trainers.inputs import Inputs
from adapter_hub.trainers.loop.result import TrainingResult
from adapter_hub.trainers.published_recipe import published_recipe
from adapter_hub.trainers.sealing import training_record


def write_full_fine_tune(folder: Path, result: TrainingResult, inputs: Inputs) -> FullFineTune:
    """Write the model with its processor to `folder`, and the record last.

    Args:
        folder: an empty folder.
        result: of a training by method full-fine-tuning.
        inputs: of the training.
    """
    with quiet():
        result.trainable.whisper.save_pretrained(str(folder))
        inputs.base.processor.save_pretrained(str(folder))
    for path in folder.iterdir():
        path.chmod(0o644)
    adapter = inputs.file.recipe.adapter
    fields = {
        "schema": SCHEMA,
        "name": adapter.name,
        "version": adapter.version,
        "created": utc_now(),
        "authors": list(adapter.authors),
        "license": adapter.license,
        "task": adapter.task,
        "timestamps": adapter.timestamps,
        "decode_languages": sorted({example.language for example in inputs.train.examples}),
        "base_model": inputs.base.pin.to_json(),
        "digest": base_model_digest(folder),
        "data": [source.to_json() for source in inputs.train.sources],
        "recipe": published_recipe(inputs.file, inputs.cache),
        "training": training_record(inputs, result).to_json(),
    }
    path = folder / FULL_FINE_TUNE_FILE
    path.write_bytes(canonical_bytes(fields))
    return FullFineTune.read(folder)
