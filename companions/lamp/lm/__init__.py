"""The LM that answers the questions: loading, prompts as token ids, training, generation."""
