"""Tests of companions/lamp/."""
