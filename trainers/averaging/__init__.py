"""Averages of adapters and of full models: weighted sums of updates, exact or truncated with a stated error."""
