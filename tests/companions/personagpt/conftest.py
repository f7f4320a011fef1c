"""The model type is registered while these tests run, and only then."""

from collections.abc import Iterator

import pytest

from companions.personagpt import NAME, register_personagpt
from models.registry import MODEL_TYPES


@pytest.fixture(scope="package", autouse=True)
def registered() -> Iterator[None]:
    """Tests of the floors compare what they find with the types of the project alone."""
    register_personagpt()
    yield
    MODEL_TYPES.pop(NAME, None)
