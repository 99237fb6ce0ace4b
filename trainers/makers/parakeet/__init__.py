"""The maker of the tests' Parakeet CTC: small, and trained on synthesised digits until it understands them.

`architecture` saves an untrained model, `speech` plans what it hears, and
`python -m adapter_hub.trainers.makers.parakeet` trains it by `recipe.toml`, a full fine-tune like any other.
Nobody needs this to use the project: the model is test data, `tests/data/parakeet`.
"""
