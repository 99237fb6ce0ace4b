"""The data of a training: sources of several kinds, mixed, with features that are computed once and kept."""
