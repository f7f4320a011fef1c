"""Tests of RSPG."""
