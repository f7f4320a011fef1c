"""The page of keys and flags is what the code says."""

from companions.personagpt.describe import PAGE, configuration_page
from companions.personagpt.settings import PersonaConfig
from models.settings import PlainConfig
from utils.config.schema import keys_of


def test_the_page_is_the_schema():
    """A key or a flag that was added, renamed or given another default would be missing or wrong in the page."""
    assert PAGE.read_text(encoding="utf-8") == configuration_page(), "run `make docs`"


def test_every_key_of_its_own_is_there():
    """A key that stands nowhere can be found by reading the code alone."""
    page = configuration_page()
    others = dict(keys_of(PlainConfig))
    for key, field in keys_of(PersonaConfig):
        if key not in others:
            assert f"| `{key}` |" in page
            assert field.description in page.replace("\\|", "|")
