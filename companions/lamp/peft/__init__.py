"""One LoRA adapter per user on an LM that all of them share (Salemi and Zamani, 2024, arXiv 2409.09510)."""
