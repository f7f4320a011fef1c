"""The warning about a choice that is worse than none, and the reasons that it names."""

import pytest

from models.spt.choice_warning import choice_warning

ROW = {
    "fixed_prompt": 2,
    "fixed_loss": 4.1881,
    "chosen_loss": 4.2092,
    "random_loss": 4.2000,
    "choice_error": 0.0027,
    "target_entropy": 0.9996,
    "query_cosine": 0.76,
    "query_dimensions": 3.3,
    "vector_cosine": 0.975,
    "vector_dimensions": 1.4,
}
HEALTHY = {"target_entropy": 0.4, "vector_dimensions": 12.5}
OFF = {"training": {"fusion": "off"}}
LINEAR = {"model": {"retriever": {"scorer": "linear"}}, **OFF}
BEST = "python -m trainer.fit_router RUN says what any choice among these prompts can bring"


def test_a_choice_worse_than_none_is_told_with_its_reasons(make_config):
    """A collapsed SPT looks like a trained one: its losses fall, and one prompt alone would have been better."""
    assert choice_warning(ROW, "the examples of valid epoch 1", make_config()) == (
        "warning: the choice is worse than no choice: on the examples of valid epoch 1 the chosen prompts have a loss "
        "of 4.2092 nats per token, prompt 2 alone 4.1881 (difference 0.0211, standard error 0.0027); a prompt drawn at "
        "random has 4.2000. Found: the target of L_selection has 99.96 % of the maximal entropy, so it prefers no "
        "prompt (training.selection_target: sum makes it sharper); queries hardly vary as they are scored: 1.4 "
        "effective dimensions and a mean cosine of 0.975, of 3.3 and 0.760 before (model.retriever.query: last_turn "
        "with query_whiten varies more); cosine scores have no bias for the prompt that is best on average "
        f"(model.retriever.scorer: linear has one, with training.fusion: normalised or off). {BEST}"
    )


@pytest.mark.parametrize(
    ("settings", "row", "expected"),
    [
        (LINEAR, HEALTHY, "Found: nothing in the target or the queries. "),
        (
            {**LINEAR, "training": {"fusion": "off", "selection_target": "sum"}},
            {"vector_dimensions": 12.5},
            "so it prefers no prompt (the prompts predict nearly alike). ",
        ),
        (
            {"model": {"retriever": {"scorer": "linear", "query": "last_turn", "query_whiten": True}}, **OFF},
            {"target_entropy": 0.4},
            "of 3.3 and 0.760 before. ",
        ),
        (
            {**LINEAR, "training": {"fusion": "normalised", "selective_loss": False}},
            {"target_entropy": 0.4, "vector_dimensions": 12.5},
            "Found: nothing in the target or the queries. ",
        ),
        ({"model": {"fidelity": "released_code"}}, {}, "; such settings need model.fidelity: paper. "),
    ],
    ids=["nothing", "sum", "whitened", "fusion teaches", "released"],
)
def test_what_is_set_already_is_not_advised(make_config, settings, row, expected):
    """Advice that was followed and is given again, or that the configuration refuses, costs a training each time."""
    told = choice_warning({**ROW, **row}, "everything", make_config(**settings))
    assert expected + BEST in told


def test_a_retriever_that_nothing_teaches(make_config):
    """The ablation without L_selection would be told to sharpen a target that it does not have."""
    row = {name: value for name, value in ROW.items() if name != "target_entropy"}
    told = choice_warning(row, "everything", make_config(training={"selective_loss": False}))
    assert "Found: nothing teaches the retriever to choose, as L_selection is off; " in told


@pytest.mark.parametrize(
    ("row", "settings"),
    [
        ({**ROW, "chosen_loss": 4.18}, {}),
        ({**ROW, "choice_error": 0.011}, {}),
        ({**ROW, "chosen_loss": 4.1881 + 1e-7, "choice_error": 0.0}, {}),
        ({"prompt_share": [1.0, 0.0]}, {}),
        (ROW, {"skip_retrieval": True}),
    ],
    ids=["better", "within the error", "rounding", "a row of training", "nothing chooses"],
)
def test_no_warning_without_a_reason(make_config, row, settings):
    """A warning that comes by chance, or at every training epoch, is one that nobody reads."""
    assert choice_warning(row, "everything", make_config(training=settings)) is None
