"""Transcribing thousands of hours, in one process or on a cluster."""

SHARD_ROWS = 64  # of a shard: minutes of work that are lost with a worker, and not too many files
