"""Every switch of the method does what it says, and nothing else."""

import pytest
import torch
import torch.nn.functional as F

from models import losses as L
from models.spt.soft_prompts import TEXT_NOISE, prepend_each
from models.trained_part import read_trained
from tests.helpers import inference_batch, model_of, target_losses, train, train_batch
from utils.errors import UserError

WEIGHTS = {"selective_loss_weight": 0.3, "contrastive_weight": 0.6}


@pytest.fixture
def make(make_config, examples):
    """make(training={..}, model={..}) gives a model with fixed trained parameters, and a batch for it."""

    def build(training=None, model=None):
        config = make_config("opt", training=WEIGHTS | (training or {}), model=model or {})
        torch.manual_seed(11)
        made = model_of(config)
        return made, train_batch(made, [examples[number] for number in (1, 3, 8, 15)])

    return build


@pytest.fixture
def full(make):
    """The losses with every switch at its default."""
    model, batch = make()
    return {name: loss.item() for name, loss in model(batch).losses.items()}


def mean_losses(model, batch):
    """Mean target loss of each example under each prompt [K, B]."""
    rows = []
    for prompt in range(model.num_prompts):
        sums, counts = target_losses(model, batch, torch.full((batch.num_examples,), prompt))
        rows.append(sums / counts)
    return torch.stack(rows)


def trained_by(model, loss):
    """Names of the parameters that a loss gives a gradient to."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name for name, gradient in zip(named, found, strict=True) if gradient is not None}


@pytest.mark.parametrize(
    ("training", "without"),
    [
        ({"selective_loss": False}, "selection"),
        ({"ensemble": False}, "fusion"),
        ({"contrastive": False}, "contrastive"),
        ({"contrastive_metric": None}, "contrastive"),
    ],
)
def test_a_loss_that_is_off_is_gone_and_the_others_stay(make, full, training, without):
    """An ablation that leaves its loss in the total measures nothing."""
    model, batch = make(training)
    output = model(batch)
    assert set(output.losses) == set(full) - {without}
    factors = {"llm": 1, "selection": 0.3, "fusion": 1, "contrastive": 0.6}
    for name, loss in output.losses.items():
        assert loss.item() == pytest.approx(full[name], rel=1e-6)
    assert output.total.item() == pytest.approx(
        sum(factors[name] * full[name] for name in output.losses), rel=1e-6
    )


def test_only_nll_trains_by_the_lm_loss_alone(make, full):
    """A retriever that still learns would be compared to itself in the ablation."""
    model, batch = make({"only_nll": True})
    output = model(batch)
    assert {name: loss.item() for name, loss in output.losses.items()} == {"llm": pytest.approx(full["llm"])}
    assert torch.equal(output.total, output.losses["llm"])
    assert trained_by(model, output.total) == {"soft_prompts.weight"}


def test_disable_nll_leaves_the_lm_loss_out_of_the_total(make, full):
    """The loss stays visible in the log, but nothing may learn from it."""
    model, batch = make({"disable_nll": True})
    output = model(batch)
    assert set(output.losses) == set(full)
    total = 0.3 * full["selection"] + full["fusion"] + 0.6 * full["contrastive"]
    assert output.total.item() == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize(
    "off",
    [
        {"disable_nll": True, "selective_loss": False, "ensemble": False, "contrastive": False},
        {"disable_nll": True, "selective_loss": False, "ensemble": False, "contrastive_metric": None},
        {"disable_nll": True, "only_nll": True},
        {"disable_nll": True, "skip_retrieval": True},
    ],
)
def test_no_loss_at_all_is_refused_before_the_model_is_made(make, off):
    """A total of 0.0 would fail in the engine with a message about tensors."""
    with pytest.raises(UserError, match="no loss"):
        make(off)


def test_skip_retrieval_has_no_retriever(make, full, examples):
    """Without a retriever prompts are drawn at random; a constant score would always choose prompt 0."""
    model, batch = make({"skip_retrieval": True})
    output = model(batch)
    assert model.retriever is None
    assert set(model.trained_state()) == {"soft_prompts.weight"}
    assert output.total.item() == pytest.approx(full["llm"], rel=1e-6)
    assert model.score_prompts(inference_batch(model, examples).query) is None
    # shares and agreement of a retriever that is not there would be advice about nothing
    assert set(output.diagnostics) == {"losses"}


def test_all_tunable_trains_the_lm_too(make):
    """The upper bound of the ablation: every parameter learns, dropout included, and all of it is saved."""
    model, batch = make({"all_tunable": True})
    model.train()
    assert model.lm.model.training
    names = trained_by(model, model(batch).total)
    assert names == {name for name, _ in model.named_parameters()}
    assert set(model.trained_state()) == names
    assert any(name.startswith("lm.") for name in names)


def test_a_trained_head_costs_what_a_frozen_one_costs(make, full):
    """The head has two ways through the cross-entropy; they must be one loss."""
    model, batch = make({"all_tunable": True})
    for name, loss in model(batch).losses.items():
        assert loss.item() == pytest.approx(full[name], rel=1e-5)


def test_annealing_weighs_each_prompts_token_losses(make):
    """Weights laid on the wrong axis, or on the selection's losses too, would still fall with time."""
    limits = {"annealing_scalar": 2.0, "annealing_min": 0.1, "annealing_max": 0.6}
    model, batch = make({"annealing_nll": True} | limits)
    plain, plain_batch = make()
    weights = (2 * (1 - 0.25) * F.softmax(model.scores(batch.query), dim=0)).clamp(0.1, 0.6)  # [K, B]
    embeddings = prepend_each(plain.soft_prompts.weight, plain.lm.embed(batch.input_ids))
    hidden = plain.hidden_at_targets(batch, embeddings, plain.num_virtual_tokens)
    token_losses = plain.token_losses(hidden, batch)
    columns = [token_losses[:, n] * weights[:, b] for n, b in enumerate(batch.target_examples.tolist())]
    output = model(batch, progress=0.25)
    assert output.losses["llm"].item() == pytest.approx(torch.stack(columns).mean().item(), rel=1e-5)
    assert trained_by(model, output.losses["llm"]) == {"soft_prompts.weight"}
    others = plain(plain_batch).losses
    for name in ("selection", "fusion", "contrastive"):
        assert output.losses[name].item() == pytest.approx(others[name].item(), rel=1e-6)


def test_noise_is_for_training_only(make, full):
    """Noise in the validation loss would choose the best checkpoint by luck."""
    model, batch = make({"adding_noise": 0.5})
    assert model(batch).losses["selection"].item() == pytest.approx(full["selection"], rel=1e-6)
    torch.manual_seed(2)
    noisy = model.train()(batch).losses
    torch.manual_seed(2)
    again = model(batch).losses
    assert noisy["selection"].item() == again["selection"].item()
    assert noisy["selection"].item() != pytest.approx(full["selection"], rel=1e-3)
    for name in ("llm", "fusion", "contrastive"):
        assert noisy[name].item() == pytest.approx(full[name], rel=1e-6)
    torch.manual_seed(2)
    noise = 0.5 * torch.randn(3, 4)
    plain = L.selection_loss(model.scores(batch.query), mean_losses(model, batch), noise=noise)
    assert noisy["selection"].item() == pytest.approx(plain.item(), rel=1e-5)


def test_one_prompt_is_plain_prompt_tuning(make):
    """With K = 1 nothing can be selected, and the selection loss must not move anything."""
    model, batch = make(model={"K": 1})
    output = model(batch)
    assert output.losses["selection"].item() == 0
    assert output.diagnostics["usage"].tolist() == [4]
    assert output.diagnostics["agreement"].tolist() == [4, 4]
    output.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_what_is_watched(make):
    """Collapsed retrieval is seen in these counts only; of the wrong axis they would look even."""
    model, batch = make()
    diagnostics = model(batch).diagnostics
    chosen = model.scores(batch.query).argmax(dim=0).tolist()
    best = mean_losses(model, batch).argmin(dim=0).tolist()
    assert diagnostics["usage"].tolist() == [chosen.count(prompt) for prompt in range(3)]
    agreeing = sum(a == b for a, b in zip(chosen, best, strict=True))
    assert diagnostics["agreement"].tolist() == [agreeing, len(chosen)]
    assert diagnostics["regret"][0].item() > 0


def test_prompts_start_at_random_as_an_embedding_table_does(make):
    """The paper's runs start from N(0, 1); 3 x 300 x 32 draws pin mean and deviation to a percent."""
    model, _ = make(model={"peft_config": {"num_virtual_tokens": 300}})
    weight = model.soft_prompts.weight
    assert weight.mean().item() == pytest.approx(0, abs=0.03)
    assert weight.std().item() == pytest.approx(1, abs=0.03)


def test_prompts_start_from_tokens_of_the_vocabulary(make):
    """Each virtual token is a row of the table, and the prompts differ, or no retriever could tell them apart."""
    model, _ = make(model={"prompt_init": "vocab", "peft_config": {"num_virtual_tokens": 40}})
    table = model.lm.model.get_input_embeddings().weight
    vectors = model.soft_prompts.weight.flatten(0, 1)
    found = (vectors[:, None] - table[None]).abs().amax(dim=-1) == 0  # [K * V, Vocab]
    assert found.any(dim=1).all()
    tokens = found.int().argmax(dim=1) / len(table)
    assert tokens.min() < 0.1 < 0.9 < tokens.max()  # of the whole vocabulary
    assert not torch.equal(model.soft_prompts.weight[0], model.soft_prompts.weight[1])


@pytest.mark.parametrize("virtual", [3, 40])
def test_prompts_start_from_a_text_repeated_or_cut(make, virtual):
    """A text of another length than V must not fail, nor leave rows at random."""
    settings = {"prompt_init": "text", "prompt_init_text": "i like to ski in winter with my sister"}
    model, _ = make(model=settings | {"peft_config": {"num_virtual_tokens": virtual}})
    ids = model.tokenizer(settings["prompt_init_text"], add_special_tokens=False).input_ids
    assert 3 < len(ids) < 40
    wanted = model.lm.embed(torch.tensor((ids * 40)[:virtual]))
    first, *others = model.soft_prompts.weight
    assert torch.equal(first, wanted)
    noise = torch.stack(others) - wanted
    assert noise.std().item() == pytest.approx(
        TEXT_NOISE * model.lm.model.get_input_embeddings().weight.std().item(), rel=0.2
    )


def test_prompts_that_start_from_one_text_part_in_training(make_config, distributed):
    """Every loss is symmetric in the prompts: equal ones get equal gradients and stay equal for ever."""
    settings = {"prompt_init": "text", "prompt_init_text": "i like to ski"}
    config = make_config(model=settings, training={"training_ratio": 0.2, "num_epochs": 2})
    prompts = read_trained(train(config, distributed, "text"))[0]["soft_prompts.weight"]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert (prompts[first] - prompts[second]).abs().amax(dim=-1).min() > 1e-3


def test_the_seed_decides_how_prompts_of_a_text_differ(make):
    """Ranks that draw noise of their own would train different prompts under one name."""
    settings = {"prompt_init": "text", "prompt_init_text": "i like to ski"}
    first, again = (make(model=settings)[0].soft_prompts.weight for _ in range(2))
    assert torch.equal(first, again)


def test_a_text_without_a_token_is_refused(make):
    """A repetition of nothing divides by zero."""
    model, _ = make()
    config = model.config.replaced({"model": {"prompt_init": "text", "prompt_init_text": ""}})
    with pytest.raises(UserError, match="prompt_init_text has no token"):
        type(model)(model.lm, model.tokenizer, config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("soft_prompts.weight"), "'soft_prompts.weight' is missing"),
        (lambda state: state.update(extra=torch.ones(1)), "'extra' has no place"),
        (
            lambda state: state.update({"retriever.linear.bias": torch.ones(1)}),
            r"shape \[1\], the configuration asks for \[32\]",
        ),
    ],
)
def test_a_state_of_another_configuration_is_refused_whole(make, change, message):
    """A missing tensor would leave random weights behind, and a shape of 1 would be broadcast in silence."""
    model, _ = make()
    before = {name: tensor.clone() for name, tensor in model.trained_state().items()}
    state = {name: tensor + 1 for name, tensor in before.items()}
    change(state)
    with pytest.raises(UserError, match=message):
        model.load_trained_state(state, "a file")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.trained_state().items())


def test_gradient_checkpointing_recomputes_and_changes_no_number(make_config, examples):
    """transformers recomputes in training mode only: a frozen LM in evaluation mode would ignore the switch."""
    runs = []
    for switch in (False, True):
        torch.manual_seed(0)
        model = model_of(make_config("opt", model={"gradient_checkpointing": switch})).train()
        calls = []
        layer = model.lm.model.model.decoder.layers[0].fc1
        layer.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        loss = model(train_batch(model, examples[:3])).total
        loss.backward()
        runs.append((len(calls), loss.item(), model.soft_prompts.weight.grad.norm().item()))
    assert [run[0] for run in runs] == [1, 2]
    assert runs[0][1:] == pytest.approx(runs[1][1:], rel=1e-5)
