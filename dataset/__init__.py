"""From a file to a Batch: parsing, prompt text, token positions, batching."""
