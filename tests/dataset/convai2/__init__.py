"""Tests of dataset/convai2/."""
