"""Tests of models/release/."""
