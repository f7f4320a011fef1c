"""Tests of companions/lamp/pipeline."""
