"""Model cards and the catalogue, rendered from the records."""
