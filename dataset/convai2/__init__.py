"""ConvAI2: its text format, and how to get it."""
