"""The warning about one prompt for everything."""

import pytest

from models.spt.dominance import dominance_warning
from tests.helpers import model_of


def test_dominance_is_warned_of_in_words():
    """A retriever that sends everything to one prompt trains plain prompt tuning at K times the price."""
    row = {"prompt_share": [0.02, 0.98]}
    told = dominance_warning(row, "the examples of valid epoch 1")
    assert told.endswith("hardly used. Nothing teaches the retriever to choose: L_selection is off")
    assert dominance_warning({**row, "selection": 0.5}, "the examples of valid epoch 1") == (
        "warning: prompt 1 was chosen for 98.0 % of the examples of valid epoch 1; the other 1 are hardly "
        "used. Seen to help: training.assignment: turn, so that prompts learn from different examples, and "
        "model.retriever.scorer: linear, with training.fusion: normalised or off"
    )


@pytest.mark.parametrize(
    "row", [{"prompt_share": [0.05, 0.95]}, {"prompt_share": [1.0]}, {"prompt_share": [0.5, 0.5]}, {}]
)
def test_no_warning_without_dominance(row):
    """95 % is not above 95 %, and where there is one prompt there is no choice to warn of."""
    assert dominance_warning(row, "everything") is None


def test_the_model_warns_of_its_own_rows(make_config):
    """The trainer asks the model: one that does not answer trains to the end with one prompt, and says nothing."""
    model = model_of(make_config())
    (told,) = model.warnings({"prompt_share": [0.0, 0.0, 1.0], "selection": 0.5}, "everything")
    assert told.startswith("warning: prompt 2 was chosen for 100.0 % of everything; the other 2 ")
    assert model.warnings({"prompt_share": [0.3, 0.3, 0.4]}, "everything") == []
