"""One version's folder, checked from the bytes up, without torch."""
