"""The training loop: transformers' Seq2SeqTrainer, its batches, checkpoints and processes."""
