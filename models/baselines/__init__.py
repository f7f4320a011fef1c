"""The baselines of the paper, each a model type in a file of its own."""
