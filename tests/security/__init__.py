"""Promises of SECURITY.md, each with the attack that it answers."""
