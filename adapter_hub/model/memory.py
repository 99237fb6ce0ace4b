"""Errors for a lack of memory: one line that says what would need less of it.

with memory_guard("8 windows with 5 beams on cuda:0", SMALLER_BATCHES):
    decode(...)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from adapter_hub.errors import OutOfMemoryError

# in messages of torch: the CPU's allocator, CUDA and its libraries, Apple's GPUs, oneDNN
SIGNS = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "alloc_failed",
    "could not create a primitive",
)


SMALLER = "--dtype bfloat16, or a smaller base model"
FEWER_BEAMS = f"fewer --beams, {SMALLER}"
SMALLER_BATCHES = f"a smaller --batch-size, {FEWER_BEAMS}"


@contextmanager
def memory_guard(what: str, less: str = SMALLER) -> Iterator[None]:
    """Turn a lack of memory into an error of one line.

    Args:
        what: what was attempted, like `8 windows with 5 beams on cuda:0`.
        less: what would need less memory, for the message.

    Raises:
        OutOfMemoryError: the work inside needs more memory than there is.
    """
    try:
        yield
    except (MemoryError, RuntimeError, ValueError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(f"out of memory with {what}; use {less}") from None


def is_out_of_memory(error: BaseException | None) -> bool:
    """Tell whether an error says that memory is lacking, or comes from one that does.

    transformers' feature extractor makes a ValueError about padding of a lack of memory.
    """
    while error is not None:
        if isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in SIGNS):
            return True
        error = error.__cause__ or error.__context__
    return False
