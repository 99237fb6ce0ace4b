"""A merged model as transformers saves it, with its processor.

write_transformers(base, folder, "float16")
"""

from __future__ import annotations

from pathlib import Path

from adapter_hub.model.base_model import DTYPES, BaseModel
from adapter_hub.model.quiet import quiet


def write_transformers(base: BaseModel, folder: Path, dtype: str) -> None:
    """Write a model and all that it runs with.

    Args:
        base: with an adapter merged into it, in float32; its weights are cast.
        folder: an empty one.
        dtype: of the weights.
    """
    base.model.to(DTYPES[dtype])
    with quiet():
        base.model.save_pretrained(str(folder))
        base.processor.save_pretrained(str(folder))
        # older releases and other programs read this one, and not processor_config.json
        base.processor.feature_extractor.save_pretrained(str(folder))
