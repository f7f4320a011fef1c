"""ROPG (Salemi et al., 2024, arXiv 2404.05970): a dense retriever learns which profile items serve a frozen LM.

By distillation of the LM's preference (ROPG-KD) or by policy gradient (ROPG-RL), from the utility of every item alone.
"""
