"""Tests of models/decoding/."""
