"""Spoken numbers in ten languages, synthesised by espeak-ng, to train and test the embedded models on.

`plan` decides what is said by whom and how, `render` makes the sound, `write_corpus` a data folder.
Everything follows from `settings.toml` and a seed. Needs the extra `demo`; nothing is downloaded.
"""
