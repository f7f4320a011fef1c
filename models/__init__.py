"""Frozen LM, soft prompts, retriever, and the losses that train them."""
