"""Files that others may touch, too: read within limits, written whole or not at all, under locks."""
