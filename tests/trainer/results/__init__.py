"""Tests of `make results`."""
