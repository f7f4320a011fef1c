"""Tests of models/baselines/."""
