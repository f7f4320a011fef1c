"""Tests of companions/personagpt/."""
