"""Model types are told apart by their bundles: their names are compared nowhere."""

import ast

import pytest

from models.registry import MODEL_TYPES
from tests.test_floors import FILES, ROOT, SCRIPTS

# the Hugging Face library's own `config.model_type`: the family of an LM
FAMILY_OF_LM = {"models/lm/families.py": 1}


def is_model_type(node):
    """Whether an expression is a model type: `x.model_type`, `model_type`, `x["model_type"]`, `x.get("model_type")`."""
    if isinstance(node, ast.Attribute):
        return node.attr == "model_type"
    if isinstance(node, ast.Name):
        return node.id == "model_type"
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant) and node.slice.value == "model_type"
    if isinstance(node, ast.Call):
        is_get = isinstance(node.func, ast.Attribute) and node.func.attr == "get"
        return is_get and any(
            isinstance(arg, ast.Constant) and arg.value == "model_type" for arg in node.args
        )
    return False


def names_a_type(node):
    """Whether an expression is the name of a model type, or holds one in brackets."""
    parts = node.elts if isinstance(node, (ast.Tuple, ast.List, ast.Set)) else [node]
    return any(isinstance(part, ast.Constant) and part.value in MODEL_TYPES for part in parts)


def comparisons(source):
    """The lines that compare a model type with something, or something with the name of one."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
        elif isinstance(node, ast.Match):
            patterns = [part for case in node.cases for part in ast.walk(case.pattern)]
            sides = [node.subject, *(part.value for part in patterns if isinstance(part, ast.MatchValue))]
        else:
            continue
        if any(is_model_type(side) or names_a_type(side) for side in sides):
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize("path", [*FILES, *SCRIPTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_model_type_is_compared(path):
    """Each comparison is a place that whoever adds a model type must find, and that does the wrong thing until then."""
    allowed = FAMILY_OF_LM.get(path.relative_to(ROOT).as_posix(), 0)
    assert len(comparisons(path.read_text(encoding="utf-8"))) == allowed


@pytest.mark.parametrize(
    "source",
    [
        "config.model.model_type == 'of another module'",
        "kind != 'lora'",
        "kind in ('lora', 'textual')",
        "content['model_type'] in BASELINES",
        "model.get('model_type') == name",
        "match kind:\n    case 'lora' | 'textual': pass",
    ],
)
def test_a_comparison_is_found(source):
    """A search that overlooks one way of writing it would hold the packages clean whatever they compare."""
    assert comparisons(source) == [1]


def test_a_key_may_be_looked_for():
    """A search that also forbids looking for the key would leave no way to read a file that lacks its type."""
    assert comparisons("'model_type' in content") == []
