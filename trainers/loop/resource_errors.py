"""Errors for a lack of memory or disk space in a training: one line, with settings that need less.

    with explain_full_disk(work), explain_out_of_memory(SMALLER_STEPS):
        trainer.train()

Any other error passes unchanged.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from adapter_hub.errors import AdapterHubError, OutOfMemoryError
from adapter_hub.model.memory import is_out_of_memory

SMALLER_STEPS = (
    "lower training.batch_size and raise training.gradient_accumulation by as much, "
    "or set training.gradient_checkpointing = true"
)
SMALLER_MODEL = "end other programs that use it, or choose a smaller base model or --device cpu"


@contextlib.contextmanager
def explain_out_of_memory(advice: str) -> Iterator[None]:
    """Turn any error for a lack of memory into one line, with advice that fits training.

    Args:
        advice: which settings need less memory.

    Raises:
        OutOfMemoryError: of the machine or its GPU.
    """
    try:
        yield
    except (OutOfMemoryError, MemoryError, RuntimeError, ValueError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(f"training: not enough memory; {advice}") from None


@contextlib.contextmanager
def explain_full_disk(work: Path) -> Iterator[None]:
    """Turn the errors of torch and safetensors for a full disk into one line.

    Args:
        work: where checkpoints are written.

    Raises:
        AdapterHubError: a checkpoint could not be written.
    """
    try:
        yield
    except SafetensorError as error:
        raise AdapterHubError(
            f"{work}: {error}; free some space and run the same command to resume"
        ) from None
    except RuntimeError as error:
        if "PytorchStreamWriter" not in str(error):  # torch's name for a checkpoint that cannot be written
            raise
        raise AdapterHubError(
            f"{work}: a checkpoint could not be written; free some space and run the same command to resume"
        ) from None
