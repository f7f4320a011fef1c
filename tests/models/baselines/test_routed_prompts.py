"""Routed prompts: what each router trains with, against plain references."""

import pytest
import torch

from models.lm.language_model import LanguageModel, weights_sha256
from models.spt.export import export_run
from models.spt.soft_prompts import WARM_START_NOISE
from models.trained_part import write_trained
from tests.helpers import encoded, model_of, route_apart, train_batch, untied
from utils.errors import UserError

ROUTERS = ("smop", "random", "turn", "gated")
LEARNED = ("smop", "gated")
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture
def make(make_config, examples):
    """make(router, training={..}, K=..): routed prompts on a tiny LM, whose prompts make a difference."""

    def build(router, training=None, **model):
        torch.manual_seed(3)
        settings = {"model_type": "routed_prompts", "router": router, **model}
        made = untied(model_of(make_config(model=settings, training=training or {})))
        if router in LEARNED:
            route_apart(made, chosen_of(examples))
        return made

    return build


def chosen_of(examples):
    """Two dialogues with several turns each, texts of any length."""
    return [one for one in examples if one.dialogue in (0, 2)]


def loss_of_each(model, examples, prompts):
    """L_LLM of examples that are read one by one, each after its own prompt [V, D]."""
    found = [
        model.token_losses(model.hidden_with(batch, prompt[None]), batch)[0]
        for batch, prompt in zip((train_batch(model, [one]) for one in examples), prompts, strict=True)
    ]
    return torch.cat(found).mean()


def router_logits(model, examples):
    """[B, K] of a linear layer on the mean embedding of each query, in plain torch."""
    texts = encoded(model, examples, response=True)
    ids = [torch.from_numpy(text.ids[: text.query_end]).long() for text in texts]
    means = torch.stack([model.lm.embed(one).mean(dim=0) for one in ids])
    return means @ model.router.weight.T + model.router.bias


@pytest.mark.parametrize("router", ROUTERS)
def test_only_prompts_and_router_are_trained(make, examples, router):
    """A peer that trains more than its paper says makes the comparison a lie."""
    model = make(router).train()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    learned = {"router.weight", "router.bias"} if router in LEARNED else set()
    assert trained == {"soft_prompts.weight"} | learned
    model(train_batch(model, examples[:4])).total.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == (name in trained), name


def test_smop_scales_the_prompt_of_the_highest_probability(make, examples):
    """The formula as published: without the factor the router has no gradient and never learns."""
    model, chosen = make("smop"), chosen_of(examples)
    probabilities = router_logits(model, chosen).softmax(dim=1)  # [B, K]
    best, choice = probabilities.max(dim=1)
    assert len(set(choice.tolist())) > 1
    wanted = loss_of_each(model, chosen, best[:, None, None] * model.soft_prompts.weight[choice])
    output = model(train_batch(model, chosen))
    torch.testing.assert_close(output.total, wanted, **CLOSE)
    gradients = [
        torch.autograd.grad(loss, model.router.weight, retain_graph=True)[0]
        for loss in (output.total, wanted)
    ]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-3)
    assert output.diagnostics["usage"].tolist() == torch.bincount(choice, minlength=3).tolist()


def test_gated_prompts_all_stand_before_each_text(make, examples):
    """Gates of another row: a router that is trained on the wrong texts."""
    model, chosen = make("gated"), chosen_of(examples)
    gates = 3 * router_logits(model, chosen).softmax(dim=1)  # [B, K]
    prompts = (gates[:, :, None, None] * model.soft_prompts.weight).flatten(1, 2)
    output = model(train_batch(model, chosen))
    torch.testing.assert_close(output.total, loss_of_each(model, chosen, prompts), **CLOSE)
    torch.testing.assert_close(output.diagnostics["gates"], gates.sum(dim=0), **CLOSE)


def test_gated_starts_as_prompt_tuning_with_all_tokens(make_config, examples):
    """The limit in which the two are one; a start that is worse blames the gates for it."""
    gated = model_of(make_config(model={"model_type": "routed_prompts", "router": "gated"}))
    plain = model_of(
        make_config(model={"model_type": "prompt_tuning", "peft_config": {"num_virtual_tokens": 12}})
    )
    with torch.no_grad():
        plain.soft_prompts.weight.copy_(gated.soft_prompts.weight.flatten(0, 1)[None])
        batch = train_batch(gated, examples[:4])
        torch.testing.assert_close(gated(batch).total, plain(batch).total, **CLOSE)
    assert gated.text_limit(0) == plain.text_limit(0) == 384 - 12


def test_the_router_is_perturbed_in_training_only(make, examples):
    """Noise in validation makes the best checkpoint a matter of luck; none in training is another method."""
    model = make("smop", router_noise=5.0)
    batch = train_batch(model, chosen_of(examples))
    with torch.no_grad():
        assert model(batch).total == model(batch).total
        model.train()
        assert len({model(batch).total.item() for _ in range(3)}) == 3
        quiet = make("smop", router_noise=0.0).train()
        assert quiet(batch).total == quiet(batch).total
    assert make("smop").noise == pytest.approx(1 / 3)


@pytest.mark.parametrize("rows", ["example", "dialogue"])
def test_turn_routing_is_spt_with_turns_assigned(make, make_config, examples, rows):
    """The same loss by fewer passes; a prompt before the wrong row trains on another turn's responses."""
    chosen = chosen_of(examples)
    model = make("turn", training={"rows": rows}).train()
    settings = {"skip_retrieval": True, "only_nll": True, "assignment": "turn", "rows": rows}
    spt = untied(model_of(make_config(training=settings))).train()
    spt.lm = model.lm
    with torch.no_grad():
        spt.soft_prompts.weight.copy_(model.soft_prompts.weight)
    batch = train_batch(model, chosen)
    losses = [one(batch).total for one in (model, spt)]
    torch.testing.assert_close(*losses, **CLOSE)
    gradients = [
        torch.autograd.grad(loss, one.soft_prompts.weight)[0]
        for loss, one in zip(losses, (model, spt), strict=True)
    ]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


def test_turn_routing_reads_what_its_turns_need(make, examples, monkeypatch):
    """Whole dialogues after every prompt cost as much as SPT; fewer passes than K stop the other ranks for ever."""
    model = make("turn", training={"rows": "dialogue"}, K=9)
    chosen = [one for one in examples if one.dialogue == 0]
    shapes = []
    hidden = LanguageModel.hidden

    def noted(self, embeddings, cache=None):
        shapes.append(tuple(embeddings.shape[:2]))
        return hidden(self, embeddings, cache)

    monkeypatch.setattr(LanguageModel, "hidden", noted)
    output = model(train_batch(model, chosen))
    lengths = [len(text.ids) - 1 for text in encoded(model, chosen, response=True)]
    unused = [(1, 4 + 1)] * (9 - len(chosen))
    assert shapes == [(1, 4 + length) for length in lengths] + unused
    output.total.backward()
    assert bool(model.soft_prompts.weight.grad[: len(chosen)].any())
    assert not bool(model.soft_prompts.weight.grad[len(chosen) :].any())


@pytest.mark.parametrize("rows", ["example", "dialogue"])
def test_random_routing_draws_a_prompt_for_each_row(make, examples, rows, monkeypatch):
    """Examples of one row after different prompts would need a row each; one draw for all trains one prompt a step."""
    model, chosen = make("random", training={"rows": rows}).train(), chosen_of(examples)
    batch = train_batch(model, chosen)
    drawn = torch.arange(len(batch.input_ids)) % 3
    monkeypatch.setattr(torch, "randint", lambda *args, **kwargs: drawn)
    output = model(batch)
    row_of_example = dict(zip(batch.target_examples.tolist(), batch.target_rows.tolist(), strict=True))
    choice = drawn[[row_of_example[number] for number in range(len(chosen))]]
    wanted = loss_of_each(model, chosen, model.soft_prompts.weight[choice])
    torch.testing.assert_close(output.total, wanted, **CLOSE)
    assert output.diagnostics["usage"].tolist() == torch.bincount(choice, minlength=3).tolist()


def test_random_routing_validates_by_its_expectation(make, examples):
    """A drawn validation loss chooses the checkpoint that was lucky."""
    model, chosen = make("random", training={"rows": "dialogue"}), chosen_of(examples)
    each = [loss_of_each(model, chosen, [prompt] * len(chosen)) for prompt in model.soft_prompts.weight]
    output = model(train_batch(model, chosen))
    torch.testing.assert_close(output.total, torch.stack(each).mean(), **CLOSE)
    figures = model.reducers["losses"](output.diagnostics["losses"], len(chosen))
    assert figures["prompt_loss"] == pytest.approx([loss.item() for loss in each], rel=1e-5)
    assert figures["random_loss"] == pytest.approx(output.total.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("model", "training", "message"),
    [
        ({"router": "smop"}, {"rows": "dialogue"}, "smop needs training.rows: example"),
        ({"router": "gated"}, {"rows": "dialogue"}, "gated needs training.rows: example"),
        ({"router": "turn"}, {"only_longest": True}, "only_longest keeps one"),
        ({"router": "turn", "router_noise": 0.1}, {}, "router_noise is of model.router: smop"),
        ({"prompt_init": "vocab"}, {"warm_start_prompt": "run"}, "leave one of them out"),
        ({"K": 1000, "peft_config": {"num_virtual_tokens": 1000}}, {}, "more than 100,000 virtual tokens"),
    ],
    ids=str,
)
def test_contradictions_are_one_line(make_config, model, training, message):
    """A setting that is ignored in silence is compared as if it had been used."""
    with pytest.raises(UserError, match=message):
        make_config(model={"model_type": "routed_prompts", **model}, training=training)


@pytest.mark.parametrize("router", ROUTERS)
def test_prompts_start_from_a_trained_one(make_config, lm_folder, tmp_path, router):
    """SMoP scales by about 1 / K at its start: without a factor K the trained prompt would be lost at once."""
    trained = torch.linspace(-1, 3, 4 * 32).reshape(1, 4, 32)
    lm = {"base_model_sha256": weights_sha256(str(lm_folder("opt")))}
    write_trained(tmp_path, {"soft_prompts.weight": trained}, lm)
    settings = {"model_type": "routed_prompts", "router": router}
    model = model_of(make_config(model=settings, training={"warm_start_prompt": str(tmp_path)}))
    assert model.warm_start_key == "training.warm_start_prompt"
    model.warm_start()
    factor = 3 if router == "smop" else 1
    first, *others = model.soft_prompts.weight.detach() / factor
    torch.testing.assert_close(first, trained[0])
    noise = (torch.stack(others) - first).std().item()
    assert noise == pytest.approx(WARM_START_NOISE * trained.std().item(), rel=0.2)
    write_trained(tmp_path, {"soft_prompts.weight": trained}, {})
    with pytest.raises(UserError, match="of another base LM"):
        model.warm_start()


def test_smop_says_that_one_prompt_takes_all(make):
    """A collapsed router is plain prompt tuning with a part of its tokens, under another name."""
    model = make("smop")
    assert model.warnings({"prompt_share": [0.0, 0.97, 0.03]}, "the examples")[0].startswith(
        "warning: prompt 1 was chosen for 97.0 % of the examples; the other 2 are hardly used."
    )
    assert model.warnings({"prompt_share": [0.0, 0.9, 0.1]}, "the examples") == []
    assert make("smop", K=1).warnings({"prompt_share": [1.0]}, "the examples") == []


@pytest.mark.parametrize("router", ROUTERS)
def test_sizes_are_those_of_the_configuration(make, router):
    """A table of equal virtual tokens that is read from the metadata would compare others."""
    model = make(router)
    metadata = model.metadata()
    assert (metadata["K"], metadata["V"], metadata["router"]) == (3, 4, router)
    assert model.num_virtual_tokens == (12 if router == "gated" else 4)
    assert model.describe()[-1] == f"router: {router}"


def test_equal_prompts_are_a_fault(make):
    """Nothing parts prompts that are the same and drawn equally often."""
    model = make("random")
    assert model.faults() == {}
    with torch.no_grad():
        model.soft_prompts.weight.copy_(model.soft_prompts.weight[:1].expand_as(model.soft_prompts.weight))
    assert "are all the same" in model.faults()["equal prompts"]


@pytest.mark.parametrize("router", ROUTERS)
def test_only_prompts_that_stand_alone_are_exported(make, tmp_path, router):
    """An adapter without the factor of its text is another prompt than the one that was trained."""
    model = make(router)
    (tmp_path / "config.yml").write_text(
        f"model:\n  model_type: routed_prompts\n  router: {router}\n  model_name: {model.config.model.model_name}\n",
        encoding="utf-8",
    )
    write_trained(tmp_path, model.trained_state(), {})
    if router in LEARNED:
        with pytest.raises(UserError, match="a router scales these prompts"):
            export_run(tmp_path, tmp_path / "peft")
    else:
        assert len(export_run(tmp_path, tmp_path / "peft")) == 3
