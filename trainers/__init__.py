"""Training of adapters: a recipe in, an artifact out.

`training.train` reads a recipe (`recipe`), gathers its inputs (`inputs`: data, base model, `parents`), fits
the model (`loop`) that its method makes trainable (`methods`), and seals the result (`sealing`,
`full_fine_tuning`). `similarity` measures which language is the nearest, `folding` turns an expert pair into
one LoRA, `makers` made the embedded base model, corpus and catalogue, and `reproduction` repeats a paper.
"""
