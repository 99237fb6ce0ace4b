"""How an adapter is made trainable: LoRA, warm start, expert pair, full fine-tuning."""
