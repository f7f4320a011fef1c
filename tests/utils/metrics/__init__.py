"""Tests of utils/metrics/."""
