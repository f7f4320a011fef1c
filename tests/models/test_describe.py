"""docs/configuration.md is what the code says."""

import shutil

import pytest

from models.configuration import load_config
from models.describe import PAGE, configuration_page
from models.registry import MODEL_TYPES, model_type
from tests.conftest import ROOT
from tests.documents import code_blocks
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


def test_the_example_of_a_base_is_a_configuration(tmp_path):
    """The five lines that a researcher copies would be refused, or would state less than they seem to."""
    (example,) = code_blocks(PAGE.read_text(encoding="utf-8"), "yaml")
    shutil.copytree(ROOT / "config" / "convai2", tmp_path / "convai2")
    (tmp_path / "ablation").mkdir()
    (tmp_path / "ablation" / "own.yml").write_text(example, encoding="utf-8")
    config = load_config(tmp_path / "ablation" / "own.yml")
    base = load_config(ROOT / "config/convai2/opt-125m-selective-linear-both-prompt-causal-convai2.yml")
    assert base.training.selective_loss
    assert config == base.replaced({"training": {"selective_loss": False}})
