"""The makers of what ships with the package: the speech corpus, the base model, the catalogue."""
