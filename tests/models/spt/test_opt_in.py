"""The settings beside the published method: each formula in plain torch, the default's own bits, and that it learns."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from dataset.loading import read_examples
from models.configuration import load_config
from models.decoding.decode import decode_runs
from models.decoding.runs import load_run, read_run_config
from models.spt.soft_prompts import prepend_each
from tests.helpers import encoded, inference_batch, json_rows, logged, model_of, train, train_batch, untied
from utils.config.loading import dump
from utils.errors import UserError

EXACT = {"atol": 1e-6, "rtol": 1e-5}
LINEAR = {"retriever": {"scorer": "linear"}}


@pytest.fixture
def make(make_config, examples):
    """make(training={..}, model={..}) gives a model with fixed trained parameters, and a batch for it."""

    def build(training=None, model=None):
        config = make_config("opt", training=training or {}, model=model or {})
        torch.manual_seed(11)
        made = model_of(config)
        return made, train_batch(made, [examples[number] for number in (1, 3, 8, 15)])

    return build


def parts_of(model, batch):
    """Scores [K, B], hidden states [K, N, H] and token losses [K, N], with their gradients."""
    embeddings = prepend_each(model.soft_prompts.weight, model.lm.embed(batch.input_ids))
    hidden = model.hidden_at_targets(batch, embeddings, model.num_virtual_tokens)
    return model.scores(batch.query), hidden, model.token_losses(hidden, batch)


def by_example(token_losses, batch):
    """For each example its token losses [K, T_b]."""
    return [token_losses[:, batch.target_examples == example] for example in range(batch.num_examples)]


def test_the_default_keeps_the_published_bits(make):
    """A rounding that differs would train another model than the one that others have reported on."""
    model, batch = make()
    scores, hidden, token_losses = parts_of(model, batch)
    counts = torch.stack([part[0].numel() * torch.ones(()) for part in by_example(token_losses, batch)])

    def means(losses):
        """[M, B] as the published code sums them."""
        return losses.new_zeros(len(losses), len(counts)).index_add(1, batch.target_examples, losses) / counts

    fused = torch.einsum("kn,knh->nh", scores[:, batch.target_examples], hidden)
    gold = (-means(token_losses.detach())).softmax(dim=0)
    log_r = scores.log_softmax(dim=0)
    losses = model(batch).losses
    assert torch.equal(losses["llm"], token_losses.mean())
    assert torch.equal(losses["fusion"], means(model.token_losses(fused[None], batch)).mean())
    assert torch.equal(losses["selection"], (torch.xlogy(gold, gold) - gold * log_r).sum() / len(counts))


def test_the_normalised_fusion_is_the_expected_loss_under_the_scores(make):
    """Weights that are not normalised scale the logits, and every prompt alone then predicts worse."""
    model, batch = make({"fusion": "normalised", "tau_sim": 0.25})
    scores, _, token_losses = parts_of(model, batch)
    weights = (scores / 0.25).softmax(dim=0)
    expected = [
        (weights[:, number] * part.mean(dim=1)).sum()
        for number, part in enumerate(by_example(token_losses, batch))
    ]
    found, wanted = model(batch).losses["fusion"], torch.stack(expected).mean()
    torch.testing.assert_close(found, wanted, **EXACT)
    trained = [model.soft_prompts.weight, *model.retriever.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad(found, trained), torch.autograd.grad(wanted, trained), strict=True
    ):
        torch.testing.assert_close(ours, theirs, **EXACT)
        assert ours.abs().sum() > 0


def test_fusion_off_is_the_ablation(make):
    """Two switches for one loss that disagree would leave it in the total."""
    model, batch = make({"fusion": "off"})
    ablation, _ = make({"ensemble": False})
    output, known = model(batch), ablation(batch)
    assert set(output.losses) == {"llm", "selection", "contrastive"}
    assert torch.equal(output.total, known.total)


def test_a_bare_off_is_the_word(tmp_path):
    """YAML 1.1 reads `off` as false, and the documented spelling would be an error."""
    path = tmp_path / "own.yml"
    path.write_text("model: {model_name: x}\ntraining: {fusion: off}\n", encoding="utf-8")
    config = load_config(path)
    assert config.training.fusion == "off"
    assert load_config(path, ["training.fusion=off"]) == config
    path.write_text(dump(config), encoding="utf-8")
    assert load_config(path) == config


def test_summed_losses_make_a_sharper_target(make):
    """Means per token carry no preference: the sum is the response's probability, and gold Bayes' posterior."""
    model, batch = make({"selection_target": "sum", "tau_gold": 2.0, "tau_sim": 0.5})
    scores, _, token_losses = parts_of(model, batch)
    sums = torch.stack([part.sum(dim=1) for part in by_example(token_losses, batch)], dim=1)  # [K, B]
    gold = (-sums.detach() / 2.0).softmax(dim=0)
    wanted = F.kl_div((scores / 0.5).log_softmax(dim=0).T, gold.T, reduction="batchmean")
    found = model(batch).losses["selection"]
    torch.testing.assert_close(found, wanted, **EXACT)
    mean, _ = make({"tau_gold": 2.0, "tau_sim": 0.5})
    assert not torch.isclose(found, mean(batch).losses["selection"], rtol=1e-2)


def test_each_turn_trains_its_own_prompt(make):
    """Prompts that all examples train alike never part; a turn without a prompt would be learnt by none."""
    model, batch = make({"assignment": "turn"})
    assert batch.turns.tolist() == [1, 3, 0, 0]  # the last of the three prompts has turn 2 and all later ones
    chosen = [1, 2, 0, 0]
    _, _, token_losses = parts_of(model, batch)
    parts = [part[prompt] for prompt, part in zip(chosen, by_example(token_losses, batch), strict=True)]
    found, wanted = model(batch).losses["llm"], torch.cat(parts).mean()
    torch.testing.assert_close(found, wanted, **EXACT)
    (gradient,) = torch.autograd.grad(found, model.soft_prompts.weight)
    alone = torch.autograd.grad(parts[0].sum() / token_losses.shape[1], model.soft_prompts.weight)[0]
    torch.testing.assert_close(gradient[1], alone[1], **EXACT)


def test_each_prompt_trains_by_its_posterior(make):
    """A gradient through the posterior would pull examples to prompts by making the others worse."""
    model, batch = make({"assignment": "posterior", "assignment_tau": 3.0})
    untied(model)  # its prompts make a difference
    _, _, token_losses = parts_of(model, batch)
    parts = by_example(token_losses, batch)
    total = torch.zeros(())
    for part in parts:
        posterior = (-part.sum(dim=1) / 3.0).softmax(dim=0).detach()  # [K]
        assert posterior.max() - posterior.min() > 0.01
        total = total + (posterior[:, None] * part).sum()
    found, wanted = model(batch).losses["llm"], total / token_losses.shape[1]
    torch.testing.assert_close(found, wanted, **EXACT)
    gradients = [torch.autograd.grad(loss, model.soft_prompts.weight)[0] for loss in (found, wanted)]
    torch.testing.assert_close(*gradients, **EXACT)


@pytest.mark.parametrize("kind", ["last_turn", "hidden"])
def test_the_query_is_the_mean_over_the_last_turn(make, examples, kind):
    """Padding, the persona or an older turn in the mean: contexts become alike again, or depend on the batch."""
    model, batch = make(model={"retriever": {"query": kind}})
    chosen = [examples[number] for number in (1, 3, 8, 15)]
    scores, linear = model.scores(batch.query), model.retriever.linear
    prompts = linear(model.soft_prompts.weight.mean(dim=1))  # [K, D]
    for number, (example, text) in enumerate(zip(chosen, encoded(model, chosen, response=True), strict=True)):
        ids = torch.from_numpy(text.ids[: text.query_end]).long()
        turn = model.tokenizer.decode(ids[text.last_turn :])
        assert turn.split() == f"Q: {example.context[-1]}".split()
        vectors = model.lm.embed(ids)
        if kind == "hidden":
            output = model.lm.model(input_ids=ids[None], output_hidden_states=True)
            vectors = output.hidden_states[-1][0]
        context = linear(vectors[text.last_turn :].mean(dim=0)).expand_as(prompts)
        wanted = F.softplus(F.cosine_similarity(prompts, context), beta=10, threshold=1)
        torch.testing.assert_close(scores[:, number], wanted, **EXACT)
    decoding = model.scores(inference_batch(model, chosen).query)
    torch.testing.assert_close(decoding, scores, **EXACT)


@pytest.mark.parametrize(
    "settings",
    [
        {"training": {"fusion": "normalised"}},
        {"training": {"fusion": "off"}},
        {"training": {"selection_target": "sum"}},
        {"model": LINEAR, "training": {"fusion": "off"}},
        {"training": {"assignment": "turn"}},
        {"training": {"assignment": "posterior"}},
        {"model": {"retriever": {"query": "last_turn"}}},
        {"model": {"retriever": {"query": "hidden"}}},
    ],
    ids=str,
)
def test_it_learns(make, settings):
    """A setting whose loss does not fall, or that leaves a part without a gradient, stops a run after hours."""
    model, batch = make(**settings)
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    before = [parameter.detach().clone() for parameter in trained]
    optimiser = torch.optim.Adam(trained, lr=0.01)
    totals = []
    for _ in range(12):
        optimiser.zero_grad()
        output = model(batch)
        output.total.backward()
        optimiser.step()
        totals.append(output.total.item())
    assert totals[-1] < totals[0]
    assert all(not torch.equal(*pair) for pair in zip(before, trained, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("stage", [pytest.param(0, marks=pytest.mark.long), 3])
def test_all_together_train_and_reply(make_config, distributed, examples, tmp_path, stage):
    """A part that is not saved, or not whole where ranks share it out, replies by a choice that nobody trained."""
    ds_config = tmp_path / "ds.json"
    ds_config.write_text(json.dumps({"zero_optimization": {"stage": stage}}), encoding="utf-8")
    config = make_config(
        model={"retriever": {"scorer": "linear", "query": "hidden", "query_whiten": True}},
        training={
            "fusion": "normalised",
            "selection_target": "sum",
            "assignment": "turn",
            "contrastive": False,
            "num_epochs": 2,
        },
    )
    run = train(config, distributed, "together", str(ds_config))
    first, last = (row["total"] for row in logged(run, "valid_epoch"))
    assert last < first
    state = load_file(run / "trained.safetensors")
    assert {name for name in state if "scorer" in name} == {
        "retriever.scorer.weight",
        "retriever.scorer.bias",
    }
    assert not torch.equal(state["retriever.whitening.matrix"], torch.eye(32))
    decode_runs([run], distributed)
    (row, *_) = json_rows(run / "evaluation_result.jsonl")
    model = load_run(run, read_run_config(run))
    query = inference_batch(model, read_examples(config.dataset.valid, config)[:1]).query
    assert row["scores"] == pytest.approx(model.score_prompts(query)[:, 0].tolist(), rel=1e-4)
    assert row["prompt"] == max(range(3), key=row["scores"].__getitem__)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"training": {"fusion": "normalised", "ensemble": False}}, r"training\.ensemble: true"),
        (
            {"model": {"fidelity": "released_code"}, "training": {"fusion": "normalised"}},
            r"fusion: normalised needs model\.fidelity: paper",
        ),
        (
            {"model": {"fidelity": "released_code"}, "training": {"selection_target": "sum"}},
            r"selection_target: sum needs model\.fidelity: paper",
        ),
        (
            {"model": {"fidelity": "released_code"}, "training": {"assignment": "posterior"}},
            r"assignment: posterior needs model\.fidelity: paper",
        ),
        (
            {"training": {"assignment": "turn", "annealing_nll": True}},
            r"assignment and training\.annealing_nll",
        ),
        ({"training": {"assignment": "turn", "disable_nll": True}}, r"assignment needs L_LLM"),
        ({"training": {"assignment": "turn", "only_longest": True}}, r"training\.only_longest keeps one"),
        (
            {"model": {"fidelity": "released_code", "retriever": {"query": "last_turn"}}},
            r"query: last_turn needs model\.fidelity: paper",
        ),
        (
            {"model": {"fidelity": "released_code", "retriever": {"query_whiten": True}}},
            r"query_whiten needs model\.fidelity: paper",
        ),
        (
            {"model": {"retriever": {"query_whiten": True}}, "training": {"all_tunable": True}},
            r"query_whiten .*training\.all_tunable changes",
        ),
        (
            {"model": {"retriever": {"query_whiten": True, "retriever_type": "transformer_encoder"}}},
            r"query_whiten needs queries that stay as they are: set model\.retriever\.retriever_on",
        ),
        ({"model": LINEAR}, r"fusion: raw needs model\.retriever\.scorer: cosine"),
        (
            {"model": {"fidelity": "released_code", **LINEAR}, "training": {"fusion": "off"}},
            r"scorer: linear needs model\.fidelity: paper",
        ),
        (
            {"model": {"score_activation": "relu", **LINEAR}, "training": {"fusion": "off"}},
            r"score_activation .*scorer: linear",
        ),
        (
            {"model": {"normalizer_on": ["prompt"], **LINEAR}, "training": {"fusion": "off"}},
            r"normalizer_on .*scorer: linear",
        ),
        (
            {
                "model": {
                    "retriever": {
                        "scorer": "linear",
                        "retriever_type": "transformer_encoder",
                        "retriever_on": ["extra"],
                    }
                },
                "training": {"fusion": "off"},
            },
            r"retriever_on .*scorer: linear",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(make, settings, message):
    """One of the two would win in silence, and the run's config.yml would tell of a run that never was."""
    with pytest.raises(UserError, match=message):
        make(**settings)
