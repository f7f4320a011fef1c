"""Training, decoding, chat and scoring: the floor that drives models over data."""
