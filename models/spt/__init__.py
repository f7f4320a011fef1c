"""Selective Prompt Tuning: soft prompts, retriever and the losses that train them."""
