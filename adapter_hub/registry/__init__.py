"""The index of adapters: which versions exist, their lineage, where they are, and their status."""
