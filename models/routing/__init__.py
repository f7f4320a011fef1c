"""Routers fitted after a training: what every prompt costs on every example, and how well one can be chosen."""
