"""Tests of companions/."""
