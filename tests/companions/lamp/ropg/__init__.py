"""Tests of companions/lamp/ropg/."""
