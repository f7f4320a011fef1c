"""Metrics of generated responses: `score(examples)` gives one `Score` per name.

A new metric is one new file here with `@register(...)`, and its name in the import below. The order of that
import, and within a file the order of registration, is the order of the columns of a report.
"""

# F401, I001: imported to register, in the order of the columns.
from utils.metrics import perplexity, overlap, bertscore, diversity, meteor  # noqa: F401, I001
from utils.metrics.registry import Corpus, Metric, Score, Unavailable, register, score, select

__all__ = ["Corpus", "Metric", "Score", "Unavailable", "register", "score", "select"]
