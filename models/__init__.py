"""Model types, their configuration and losses, what the trainer asks of them, and decoding."""
