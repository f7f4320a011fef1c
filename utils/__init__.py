"""The ground floor: helpers that know nothing of dialogues, models or training."""
