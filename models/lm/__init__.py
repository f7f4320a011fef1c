"""The causal LM: loading, families, and one from scratch."""
