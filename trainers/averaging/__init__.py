"""Averages of adapters: weighted sums of updates, exact or truncated with a stated error."""
