"""`make results`: every figure of docs/results.md, from trainings to tables."""
