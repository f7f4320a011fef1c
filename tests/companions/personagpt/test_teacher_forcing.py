"""A model over true answers, against the numbers of the golden cases."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from companions.personagpt import register_personagpt
from companions.personagpt.scores import totals
from companions.personagpt.teacher_forcing import score_answers
from dataset.encoding import EncodedExample
from models.configuration import build_config
from tests.companions.personagpt.golden import GOLDEN, content
from tests.helpers import model_of
from utils.errors import UserError

EXPECTED = content(GOLDEN / "losses" / "expected.json")
EXAMPLES = content(GOLDEN / "preprocess" / "dialogues.release.json")
EOS = 50256
# of the release's loader: a new dialogue begins where the answer opens with <|start|>
STARTS = np.cumsum([answer[0] == 50259 for _, answer in EXAMPLES])


def one_eos(ids: list[int]) -> list[int]:
    """Ids with runs of eos reduced to one."""
    return [token for at, token in enumerate(ids) if not (token == EOS and ids[at - 1 : at] == [EOS])]


def encoded(numbers: list[int], single_eos: bool) -> list[EncodedExample]:
    """Golden examples; the answers of one speaker in one dialogue share a number."""
    made = []
    for place, number in enumerate(numbers):
        prompt, answer = (one_eos(ids) if single_eos else ids for ids in EXAMPLES[number])
        group = 2 * int(STARTS[number]) + (prompt[0] == 50261)
        made.append(
            EncodedExample(np.array(prompt + answer, np.int32), len(prompt), ((0, 0),), "", group, place)
        )
    return made


@pytest.fixture(scope="module")
def model():
    """The LM of the golden cases."""
    register_personagpt()
    return model_of(
        build_config([("test", {"model": {"model_type": "personagpt", "model_name": str(GOLDEN / "lm")}})])
    )


@pytest.mark.parametrize(
    ("key", "single_eos"), [("release_eval", False), ("release_eval_on_single_eos", True)]
)
def test_each_answer_scores_as_in_the_release(model, distributed, key, single_eos):
    """A figure under the original's name that is not the original's would be set beside published ones."""
    expected = [row for row in EXPECTED["per_example"] if key in row]
    numbers = [row["index"] for row in expected]
    found = score_answers(model, encoded(numbers, single_eos), 16, distributed)
    for place, row in enumerate(expected):
        assert found[place].legacy_loss == pytest.approx(row[key]["loss"], abs=1e-4)
        assert found[place].f1 == pytest.approx(row[key]["f1"], abs=1e-6)
    whole = totals([found[place] for place in range(len(expected))])
    subset = EXPECTED[f"release_eval_on_subset{'_single_eos' if single_eos else ''}"]
    assert numbers == EXPECTED["subset"]
    assert whole.legacy_loss == pytest.approx(subset["loss"], abs=1e-4)
    assert whole.legacy_perplexity == pytest.approx(subset["perplexity"], rel=1e-4)
    assert whole.teacher_forced_f1 == pytest.approx(subset["f1"], abs=1e-6)


def test_the_token_perplexity_counts_first_tokens(model, distributed):
    """Without the first token, the hardest one, the perplexity of a file comes out flattering."""
    expected = EXPECTED["per_example"]
    found = score_answers(model, encoded([row["index"] for row in expected], True), 16, distributed)
    for place, row in enumerate(expected):
        corrected, score = row["corrected"], found[place]
        assert score.first_nll == pytest.approx(corrected["first_token_loss"], abs=1e-4)
        assert score.first_nll + score.rest_nll == pytest.approx(corrected["sum_loss"], abs=1e-3)
        assert score.num_tokens == corrected["n_tokens"]
    inside = set(EXPECTED["subset"])
    subset = totals([found[place] for place, row in enumerate(expected) if row["index"] in inside])
    assert subset.tokens == EXPECTED["corrected_on_subset"]["tokens"]
    assert subset.token_perplexity == pytest.approx(
        EXPECTED["corrected_on_subset"]["token_perplexity_micro"], rel=1e-5
    )


def test_batches_change_nothing(model, distributed):
    """Answers that share a row, or stand beside longer ones, could take each other's scores."""
    examples = encoded(list(range(30)), True)
    batched = score_answers(model, examples, 30, distributed)
    single = score_answers(model, examples, 1, distributed)
    assert list(batched) != sorted(batched), "batches are not in the order of the file"
    for number in range(30):
        assert batched[number].rest_nll == pytest.approx(single[number].rest_nll, abs=1e-4)
        assert batched[number].first_nll == pytest.approx(single[number].first_nll, abs=1e-4)
        assert batched[number].f1 == single[number].f1


def test_a_loss_that_is_no_number_is_told(model, distributed):
    """A table of figures that are none would be all that is left of hours of work."""
    weight = model.lm.model.transformer.ln_f.weight
    before = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.fill_(float("nan"))
        with pytest.raises(UserError, match="load_bit"):
            score_answers(model, encoded([0], True), 1, distributed)
    finally:
        with torch.no_grad():
            weight.copy_(before)


def test_ranks_share_the_answers(model, distributed):
    """An answer that two ranks score, or none, would weigh the mean of a file otherwise."""
    examples = encoded(list(range(20)), True)
    whole = score_answers(model, examples, 4, distributed)
    shares = [score_answers(model, examples, 4, replace(distributed, rank=rank, size=2)) for rank in (0, 1)]
    assert sorted([*shares[0], *shares[1]]) == list(range(20))
    assert {**shares[0], **shares[1]} == whole
