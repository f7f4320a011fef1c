"""The warning about one prompt for everything."""

import pytest

from models.spt.dominance import dominance_warning
from tests.helpers import model_of

ROW = {"prompt_share": [0.02, 0.98]}
ASSIGNED = {"assignment": "turn", "fusion": "normalised"}
LINEAR = {"model": {"retriever": {"scorer": "linear"}}, "training": ASSIGNED}


def test_dominance_is_warned_of_in_words(make_config):
    """A retriever that sends everything to one prompt trains plain prompt tuning at K times the price."""
    assert dominance_warning(ROW, "the examples of valid epoch 1", make_config()) == (
        "warning: prompt 1 was chosen for 98.0 % of the examples of valid epoch 1; the other 1 are hardly "
        "used. Seen to help: training.assignment: turn, so that prompts learn from different examples, and "
        "model.retriever.scorer: linear, with training.fusion: normalised or off"
    )


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"training": {"selective_loss": False}},
            "Nothing teaches the retriever to choose: L_selection is off",
        ),
        (LINEAR, "the other 1 are hardly used"),
        ({**LINEAR, "training": {**ASSIGNED, "selective_loss": False}}, "the other 1 are hardly used"),
        (
            {"training": ASSIGNED},
            "Seen to help: model.retriever.scorer: linear, with training.fusion: normalised or off",
        ),
        ({"model": {"fidelity": "released_code"}}, "or off; such settings need model.fidelity: paper"),
    ],
    ids=["nothing teaches", "all is set", "fusion teaches", "turns are set", "released"],
)
def test_what_is_set_already_is_not_advised(make_config, settings, told):
    """Advice that was followed and is given again costs a training; what is on is not said to be off."""
    assert dominance_warning(ROW, "everything", make_config(**settings)).endswith(told)


@pytest.mark.parametrize(
    "row", [{"prompt_share": [0.05, 0.95]}, {"prompt_share": [1.0]}, {"prompt_share": [0.5, 0.5]}, {}]
)
def test_no_warning_without_dominance(make_config, row):
    """95 % is not above 95 %, and where there is one prompt there is no choice to warn of."""
    assert dominance_warning(row, "everything", make_config()) is None


def test_the_model_warns_of_its_own_rows(make_config):
    """The trainer asks the model: one that does not answer trains to the end with one prompt, and says nothing."""
    model = model_of(make_config())
    (told,) = model.warnings({"prompt_share": [0.0, 0.0, 1.0]}, "everything")
    assert told.startswith("warning: prompt 2 was chosen for 100.0 % of everything; the other 2 ")
    assert model.warnings({"prompt_share": [0.3, 0.3, 0.4]}, "everything") == []
