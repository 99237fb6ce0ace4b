"""A base model with an adapter merged into it, in the formats of other tools.

    record = export_model("mini/da", "out/da", format="ctranslate2", quantization="int8")
    record.ref, record.size

The folder appears whole or not at all, with a card for people and `export.json` for programs: which adapter
it is on which base model, by their digests. A file a format; `exporting` is where they meet.
"""
