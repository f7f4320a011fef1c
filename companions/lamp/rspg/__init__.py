"""RSPG (Salemi et al., 2024, arXiv 2404.05970): which retrieval strategy serves a question best, as a scorer learns it.

From the frozen LM's output under every strategy; before the LM is called (Pre) or with its outputs at hand (Post).
"""
