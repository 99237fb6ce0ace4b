"""How much audio the encoder is given for a clip, by `audio_length`: most of what a training costs.

lengths = input_lengths([2.1, 3.4], batch_size=16, chunk=30.0)      # {"chunk": 30.0, "batch": 3.4}
said(lengths)                                                       # one line
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def input_lengths(
    seconds: Sequence[float], batch_size: int, chunk: float, shortest: float = 0.0
) -> dict[str, float]:
    """Return the mean seconds that the encoder is given for a clip, for each `audio_length`.

    >>> input_lengths([2.0, 4.0, 6.0, 8.0], batch_size=2, chunk=30.0)
    {'chunk': 30.0, 'batch': 6.0}

    Args:
        seconds: of the clips; none gives nothing.
        batch_size: clips of a batch, which are of similar length.
        chunk: seconds that the base model takes at once.
        shortest: seconds that a batch is padded to at least.
    """
    if not seconds:
        return {}
    ordered = sorted(seconds)
    batches = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
    padded = sum(max(batch[-1], min(shortest, chunk)) * len(batch) for batch in batches)
    return {"chunk": chunk, "batch": round(padded / len(ordered), 2)}


def said(lengths: Mapping[str, float]) -> str:
    """Return what each `audio_length` costs, in one line.

    >>> said({"chunk": 30.0, "batch": 6.0})
    'audio_length "chunk" gives the encoder 30.0 s a clip, "batch" 6.0 s (20 % of its work)'

    Args:
        lengths: of `input_lengths`, not empty.
    """
    chunk, batch = lengths["chunk"], lengths["batch"]
    return (
        f'audio_length "chunk" gives the encoder {chunk:.1f} s a clip, "batch" {batch:.1f} s '
        f"({100 * batch / chunk:.0f} % of its work)"
    )
