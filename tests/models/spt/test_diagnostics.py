"""The figures of a validation row, beside losses that are computed in another way."""

import pytest
import torch
import torch.nn.functional as F

from models.reading import make_loader
from models.spt.diagnostics import QUIET
from tests.helpers import BareEngine, model_of, target_losses, train_batch, untied
from trainer.validation import validate

TOKENS = ["prompt_loss", "fixed_prompt", "fixed_loss", "chosen_loss", "random_loss", "oracle_loss"]


@pytest.fixture
def make(make_config, examples):
    """make(training, model) gives a model whose prompts make a difference, and a batch for it."""

    def build(training=None, model=None):
        made = untied(model_of(make_config("opt", training=training or {}, model=model or {})))
        return made, train_batch(made, [examples[number] for number in (1, 3, 8, 15, 20)])

    return build


def row_of(model, batch):
    """The figures of one batch."""
    row = {}
    for name, total in model(batch).diagnostics.items():
        row |= model.reducers[name](total.double(), batch.num_examples)
    return row


def test_the_losses_are_those_of_decoding(make):
    """A loss that perplexity does not follow would choose checkpoints, and warn, by something that nobody reports."""
    model, batch = make()
    row, choice = row_of(model, batch), model.scores(batch.query).argmax(dim=0)

    def per_example(prompts):
        return target_losses(model, batch, prompts)[0]

    tokens = batch.target_ids.numel()
    each = torch.stack([per_example(torch.full_like(choice, number)) for number in range(3)])
    alone = each.sum(dim=1) / tokens
    assert row["chosen_loss"] == pytest.approx(per_example(choice).sum().item() / tokens, rel=1e-5)
    assert row["prompt_loss"] == pytest.approx(alone.tolist(), rel=1e-5)
    assert row["fixed_prompt"] == alone.argmin().item()
    assert row["fixed_loss"] == pytest.approx(alone.min().item(), rel=1e-5)
    assert row["random_loss"] == pytest.approx(alone.mean().item(), rel=1e-5)
    assert row["oracle_loss"] == pytest.approx(each.amin(dim=0).sum().item() / tokens, rel=1e-5)
    shares = F.one_hot(each.argmin(dim=0), 3).double().mean(dim=0)
    assert row["best_share"] == pytest.approx(shares.tolist())
    assert row["agreement_by_chance"] == pytest.approx(sum(shares * torch.tensor(row["prompt_share"])).item())


@pytest.mark.parametrize("target", ["mean", "sum"])
def test_the_entropy_is_that_of_the_target_that_is_learnt(make, target):
    """The entropy of another target would say that nothing is wrong with this one."""
    model, batch = make({"selection_target": target, "tau_gold": 0.7})
    losses = torch.stack([target_losses(model, batch, torch.full((5,), number))[0] for number in range(3)])
    if target == "mean":
        losses = losses / target_losses(model, batch, torch.zeros(5, dtype=torch.long))[1]
    gold = torch.distributions.Categorical(logits=(-losses / 0.7).T)
    expected = (gold.entropy() / torch.tensor(3.0).log()).mean().item()
    assert row_of(model, batch)["target_entropy"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("query", ["context_mean", "last_turn", "hidden"])
def test_queries_before_and_after_the_linear_layer(make, query):
    """The mean over the wrong positions varies as much as one likes, and the query that is scored does not."""
    model, batch = make(model={"retriever": {"query": query}})
    positions = batch.query.mask if query == "context_mean" else batch.query.last_turn
    states = model.lm.embed(batch.query.ids)
    if query == "hidden":
        states = model.lm.hidden(states)
    means = torch.stack([row[mask].mean(dim=0) for row, mask in zip(states, positions, strict=True)])
    found = row_of(model, batch)
    for name, vectors in (("query", means), ("vector", model.retriever.linear(means))):
        units = F.normalize(vectors.double(), dim=1)
        cosines = (units @ units.T)[torch.triu(torch.ones(5, 5), 1) > 0]
        assert found[f"{name}_cosine"] == pytest.approx(cosines.mean().item(), rel=1e-4)
        assert 0 < found[f"{name}_dimensions"] <= 4


def test_training_pays_for_none_of_it(make):
    """Covariances in every step, and a training row that says other things than the published one."""
    model, batch = make()
    assert set(model.train()(batch).diagnostics) == {"usage", "agreement", "regret"}


def test_one_prompt_has_nothing_to_be_compared_with(make):
    """The maximal entropy over one prompt is 0: a share of it is NaN."""
    model, batch = make(model={"K": 1})
    assert row_of(model, batch).keys() == {"prompt_share", "prompt_entropy", "agreement", "regret"}


def test_only_what_there_is_has_a_figure(make):
    """A target without L_selection, or a choice without a retriever, would be warned of."""
    model, batch = make({"selective_loss": False})
    assert "target_entropy" not in row_of(model, batch)
    model, batch = make({"skip_retrieval": True})
    row = row_of(model, batch)
    assert row.keys() == {*TOKENS, "choice_error"}
    assert row["chosen_loss"] == row["random_loss"]


@pytest.mark.parametrize("skip", [False, True])
def test_the_posterior_does_not_choose_the_checkpoint(make_config, distributed, skip):
    """Its L_LLM takes the best prompt after reading the response, and decoding cannot: another epoch would be kept."""
    config = make_config("opt", training={"assignment": "posterior", "skip_retrieval": skip})
    model = untied(model_of(config))
    loader = make_loader(config.dataset.valid, model.tokenizer, config, False, max_tokens=380)
    row = validate(BareEngine(model), loader, distributed)
    assert model.best.value(row) == row["chosen_loss"] > row["llm"] > row["oracle_loss"]
    assert row.keys() >= set(TOKENS)
    assert model_of(make_config("opt")).best.name == "total"
    assert (
        model_of(make_config("opt", model={"K": 1}, training={"assignment": "posterior"})).best.name
        == "total"
    )


def test_an_epochs_line_stays_short(make):
    """Twenty numbers on a line hide the four that one looks for."""
    model, batch = make()
    assert row_of(model, batch).keys() - QUIET == {
        "prompt_share",
        "prompt_entropy",
        "agreement",
        "regret",
        "fixed_prompt",  # a whole number, and so not printed
        "fixed_loss",
        "chosen_loss",
        "oracle_loss",
    }
