"""Tests of companions/lamp/rankers/."""
