"""Tests of models/lm/."""
