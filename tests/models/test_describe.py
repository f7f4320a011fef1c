"""docs/configuration.md is what the code says."""

import pytest

from models.describe import PAGE, configuration_page
from models.registry import MODEL_TYPES, model_type
from utils.config.schema import keys_of


def test_the_page_is_the_schema():
    """A key or a flag that was added, renamed or given another default would be missing or wrong in the page."""
    assert PAGE.read_text(encoding="utf-8") == configuration_page(), "run `make docs`"


@pytest.mark.parametrize("name", MODEL_TYPES)
def test_every_key_of_a_type_is_found(name):
    """A key that stands under other types only looks like one that this type does not have."""
    page = configuration_page()
    common = page.partition("### Every model type\n")[2].partition("\n### ")[0]
    own = page.partition(f"### `{name}`\n")[2].partition("\n##")[0]
    for key, field in keys_of(model_type(name).config_class()):
        rows = [row for row in (common + own).splitlines() if row.startswith(f"| `{key}` |")]
        assert len(rows) == 1, key
        assert field.description
        assert field.description in rows[0]
