"""Tests of companions/lamp/peft/."""
