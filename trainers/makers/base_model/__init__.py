"""The maker of the embedded base model: a small, real Whisper, trained on synthesised speech.

`architecture` builds an untrained model and its processor, `pretrain` trains them on the corpus of
`makers.corpus`, and `python -m adapter_hub.trainers.makers.base_model` does both from the
settings in `settings.toml`. Nobody needs this to use the project: the trained weights are shipped.
"""
