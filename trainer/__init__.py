"""Training: drives any trainable module over batches, and keeps its checkpoints and logs."""
