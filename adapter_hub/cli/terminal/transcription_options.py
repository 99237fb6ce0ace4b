"""Options that `transcribe` and `evaluate` share."""

from __future__ import annotations

import click

beams_option = click.option(
    "--beams", type=click.IntRange(1), default=5, show_default=True, help="Width of the search; 1 is greedy."
)
batch_size_option = click.option(
    "--batch-size", type=click.IntRange(1), default=8, show_default=True, help="Windows decoded together."
)
timestamps_option = click.option("--timestamps", is_flag=True, help="Find when each segment starts and ends.")
