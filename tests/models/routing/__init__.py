"""Tests of models/spt/."""
