"""What a training listens to: sources of several kinds, mixed, featurised once and kept."""
