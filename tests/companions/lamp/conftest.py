"""Fixtures of LaMP."""

import pytest

from companions.lamp.encoder import Encoder, load_encoder
from tests.companions.lamp.golden import GOLDEN

ENCODER = GOLDEN / "models" / "bert-tiny"


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """The tiny encoder of the golden cases."""
    return load_encoder(str(ENCODER))
