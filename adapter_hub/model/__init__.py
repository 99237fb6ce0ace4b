"""Whisper and adapters in memory: loading and composing them. PyTorch is needed from here on.

    import adapter_hub

    transcriber = adapter_hub.load("mini/da")
    transcriber.transcribe("clip.flac")[0].text

Below that: `base_model` loads a frozen Whisper, `loading` an adapter into one checked buffer, and `session`
runs any mix of adapters in one batch.
"""
