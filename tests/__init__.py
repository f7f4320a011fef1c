"""Offline CPU tests."""
