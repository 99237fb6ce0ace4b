"""Speech before it reaches a model: audio files, features, data sets, and the text of transcripts.

    audio = read_audio(Path("clip.flac"))              # float32, mono, 16 kHz, from any rate
    text = normalise("basic/2", "Ét hundrede!", "da")  # "ét hundrede"

Needs numpy, soundfile and soxr; no torch, so that data can be checked without loading a model.
"""
