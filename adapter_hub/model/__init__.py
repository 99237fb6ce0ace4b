"""Whisper with adapters: loading, composing, decoding. PyTorch is needed from here on.

    import adapter_hub

    transcriber = adapter_hub.load("mini/da")
    transcriber.transcribe("clip.flac")[0].text

Below that: `base_model` loads a frozen Whisper, `loading` an adapter into one checked buffer,
`composition` runs any mix of adapters in one batch, `decoding` searches for the text.
"""
