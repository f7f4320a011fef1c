"""The loss of PersonaGPT: by hand, as the golden cases have it, and the same however rows are shared."""

import math

import pytest
import torch
import torch.nn.functional as F

from companions.personagpt.model import batch_loss, build_personagpt, perplexity_of
from companions.personagpt.tokens import make_tokenizer
from dataset.batch import Collator
from dataset.encoding import EncodedExample
from tests.companions.personagpt.golden import GOLDEN, content
from tests.companions.personagpt.training import PAD, encoded, golden_config, loss_and_gradients

LOSSES = content(GOLDEN / "losses" / "expected.json")
RELEASE = content(GOLDEN / "preprocess" / "dialogues.release.json")


@pytest.fixture(scope="module")
def model():
    """PersonaGPT on the golden LM, in evaluation mode."""
    config = golden_config()
    return build_personagpt(config, make_tokenizer(config.model)).eval()


def single_eos(ids: list[int]) -> list[int]:
    """Ids with each run of eos made one."""
    return [token for before, token in zip([None, *ids], ids, strict=False) if (before, token) != (PAD, PAD)]


def corrected(index: int) -> list[list[int]]:
    """Prompt and answer of an example of the release, with one eos a turn."""
    return [single_eos(part) for part in RELEASE[index]]


def test_the_batch_loss_by_hand():
    """A mean over tokens would give a long answer more weight than a short one."""
    losses = torch.tensor([1.0, 3.0, 5.0, 6.0, 7.0, 8.0])
    examples = torch.tensor([0, 0, 1, 2, 2, 2])
    assert batch_loss(losses, examples, 3).item() == pytest.approx((2 + 5 + 7) / 3)
    assert batch_loss(losses, examples, 3, divisor=2).item() == pytest.approx((2 + 5 + 7) / 2)


def test_the_perplexity_by_hand():
    """Per example it would be another figure under the name of a token perplexity."""
    reduced = perplexity_of("perplexity")
    assert reduced(torch.tensor([6.0, 4.0]).double(), 2) == {"perplexity": pytest.approx(math.exp(1.5))}
    assert reduced(torch.tensor([0.0, 0.0]).double(), 0) == {}


@pytest.mark.parametrize("row", LOSSES["per_example"], ids=lambda row: f"example {row['index']}")
def test_losses_of_golden_examples(model, row):
    """Targets one place off, or a prompt token among them, change every number of the training."""
    if "release_train_step_loss" in row:
        batch = Collator(PAD).train(encoded([RELEASE[row["index"]]], first_token=False))
        loss, gradients = loss_and_gradients(model, batch)
        assert loss == pytest.approx(row["release_train_step_loss"], abs=1e-4)
        norm = torch.stack([gradient.double().norm() for gradient in gradients.values()]).norm().item()
        assert norm == pytest.approx(row["release_train_step_grad_norm"], rel=1e-3)
    if "corrected" not in row:
        return
    expected = row["corrected"]
    batch = Collator(PAD).train(encoded([corrected(row["index"])]))
    with torch.no_grad():
        assert model(batch).total.item() == pytest.approx(expected["mean_loss"], abs=1e-4)
        tokens = model.token_losses(model.hidden_with(batch, None), batch)[0]
    assert tokens.numel() == expected["n_tokens"]
    assert tokens.sum().item() == pytest.approx(expected["sum_loss"], abs=1e-3)
    assert tokens[0].item() == pytest.approx(expected["first_token_loss"], abs=1e-4)


@torch.no_grad()
def test_golden_totals_of_a_padded_batch(model):
    """Padding that is seen, or a mean of the wrong kind, would change the totals of a file."""
    batch = Collator(PAD).train(encoded([corrected(index) for index in LOSSES["subset"]]))
    output, expected = model(batch), LOSSES["corrected_on_subset"]
    assert output.total.item() == pytest.approx(expected["mean_of_example_means"], abs=1e-4)
    figures = model.reducers["tokens"](output.diagnostics["tokens"], batch.num_examples)
    assert figures["token_perplexity"] == pytest.approx(expected["token_perplexity_micro"], rel=1e-4)
    assert output.diagnostics["tokens"][1].item() == expected["tokens"]
    assert output.counts == {"pretrain_loss": len(LOSSES["subset"])}


def with_dialogues(examples: list[EncodedExample]) -> list[EncodedExample]:
    """The same examples, grouped as one dialogue: whoever is a prefix of another may share its row."""
    return [
        EncodedExample(example.ids, example.query_end, example.targets, "", 0, example.index)
        for example in examples
    ]


@pytest.mark.parametrize("num_eos", [1, 2])
@pytest.mark.parametrize("first_token", [True, False])
def test_shared_rows_give_the_same_loss_and_gradient(model, num_eos, first_token):
    """A row that serves all answers of a speaker is only worth having where it is exact, with one eos and with two."""
    start = RELEASE[0][1][0]
    turns = next(index for index in range(1, len(RELEASE)) if RELEASE[index][1][0] == start)
    pairs = RELEASE[:turns] if num_eos == 2 else [corrected(index) for index in range(turns)]
    examples = with_dialogues(encoded(pairs, first_token))
    apart, shared = Collator(PAD).train(examples), Collator(PAD, share_rows=True).train(examples)
    assert len(apart.input_ids) == turns > 2
    assert len(shared.input_ids) == 2  # a row for each speaker
    assert (apart.input_ids == PAD).any()
    loss, gradients = loss_and_gradients(model, apart)
    shared_loss, shared_gradients = loss_and_gradients(model, shared)
    assert shared_loss == pytest.approx(loss, abs=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(shared_gradients[name], gradient, atol=1e-5, rtol=1e-4)


def test_the_releases_batch_is_a_sum_while_it_trains(model):
    """The examples that an epoch left over would be averaged away, not added to the next update."""
    config = golden_config(model={"fidelity": "released_code"}, training={"batch_size": 4})
    released = type(model)(model.lm, model.tokenizer, config)
    batch = Collator(PAD).train(encoded(RELEASE[:6], first_token=False))
    whole = released.eval()(batch)
    update = released.train()(batch)
    assert update.total.item() == pytest.approx(whole.total.item() * 6 / 4, rel=1e-5)
    assert (whole.counts, update.counts) == ({"pretrain_loss": 6}, {"pretrain_loss": 1})


def test_prompt_then_answer_through_the_cache_is_one_pass(model):
    """The release runs the answer after the prompt's keys and values: another loss would not be its method's."""
    prompt, answer = (torch.tensor(part)[None] for part in corrected(7))
    lm = model.lm.model
    with torch.no_grad():
        read = lm(prompt, use_cache=True)
        after = lm(answer[:, :-1], past_key_values=read.past_key_values).logits
        logits = torch.cat([read.logits[:, -1:], after], dim=1)[0]
        one_pass = model(Collator(PAD).train(encoded([corrected(7)]))).total.item()
    assert one_pass == pytest.approx(F.cross_entropy(logits, answer[0]).item(), rel=1e-5)
