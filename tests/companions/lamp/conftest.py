"""Fixtures of LaMP."""

import pytest

from companions.lamp.encoder import Encoder, load_encoder
from tests.companions.lamp.golden import ENCODER


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """The tiny encoder of the golden cases."""
    return load_encoder(str(ENCODER))
