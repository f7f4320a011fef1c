"""The whole chain: from questions and outputs to a table of all ways of choosing profile items."""
