"""Tests of companions/lamp/data/."""
