"""Rows that learn apart: the same LM, each group at its own rate, whatever ZeRO stage, head and precision."""

import json

import pytest
import torch

from companions.personagpt import register_personagpt
from companions.personagpt.control import build_controlled
from companions.personagpt.model import build_personagpt
from companions.personagpt.streams import StreamCollator, StreamSampler, TwoStreams, joined, recycled
from companions.personagpt.tokens import STEERING, make_tokenizer
from dataset.batch import Collator
from models.configuration import build_config
from models.lm.language_model import base_lm_folder, load_language_model
from tests.companions.personagpt.training import FixedOrder, encoded, fixed_task, loss_and_gradients
from tests.helpers import logged
from trainer.training import train
from utils.errors import UserError

RATES = {
    "learning_rate": 1e-3,
    "special_rows_rate": 1e-2,
    "other_rows_rate": 1e-6,
    "positions_rate": 1e-4,
}


@pytest.fixture
def make(lm_folder, tmp_path):
    """make("gpt2", precision, **training): the module of the stage `control` on a tiny LM."""
    register_personagpt()

    def build(family="gpt2", precision=32, fidelity="paper", **training):
        config = build_config(
            [
                (
                    "test",
                    {
                        "model": {
                            "model_type": "personagpt",
                            "model_name": str(lm_folder(family)),
                            "load_bit": precision,
                            "fidelity": fidelity,
                        },
                        "training": {
                            "stage": "control",
                            "log_dir": str(tmp_path / "runs"),
                            "log_every": 1,
                            "batch_size": 2,
                            **RATES,
                            **training,
                        },
                        "dataset": {"actions": "actions.csv"},
                    },
                )
            ]
        )
        torch.manual_seed(3)  # of the rows that are added
        return build_controlled(config, make_tokenizer(config.model))

    return build


def examples_for(module):
    """Old and new examples with all of the special tokens."""
    vocabulary = module.tokenizer.get_vocab()
    start, first, second, act = (vocabulary[token] for token in STEERING)
    eos = module.tokenizer.eos_token_id
    old = [([second, 70 + n, eos, start, 80, eos], [90 + n, 91, eos]) for n in range(4)]
    new = [([act, 60 + n, first], [start, 50 + n, 51, eos]) for n in range(3)]
    return encoded(old), encoded(new)


def streams_of(module):
    """One batch of both."""
    old, new = examples_for(module)
    collate = Collator(module.tokenizer.pad_token_id).train
    return TwoStreams(collate(old), collate(new))


def whole(module):
    """The parameters of the LM by name, rows that are apart in their tables."""
    state = {f"lm.{name}": value.detach().clone() for name, value in module.lm.named_parameters()}
    merged = module.lm.merged(state, "lm.") if hasattr(module.lm, "merged") else state
    return {name.removeprefix("lm.model."): value for name, value in merged.items()}


def run(module, distributed, tmp_path, stage=2):
    """One epoch of two updates on both streams."""
    ds_config = tmp_path / "ds.json"
    ds_config.write_text(json.dumps({"zero_optimization": {"stage": stage}}), encoding="utf-8")
    old, new = examples_for(module)
    sampler = StreamSampler(FixedOrder([[[0, 1], [2, 3]]]), len(old), recycled(len(new), 1, shuffle=False))
    collate = StreamCollator(Collator(module.tokenizer.pad_token_id).train, len(old)).train
    task = fixed_task(module.config, module, joined(old, new), sampler, collate)
    return train(task, distributed, f"stage{stage}", str(ds_config))


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt"])
@pytest.mark.parametrize("tied", [True, False])
def test_rows_apart_change_nothing_but_who_gets_the_gradient(make, family, tied):
    """A row that is looked up in one place and not in the other is another LM."""
    controlled = make(family)
    if not tied:
        untie(controlled)
    controlled.eval()
    ids, table = controlled.lm.tokens, controlled.lm.embedding_weight
    with torch.no_grad():  # the table's own rows are out of use
        start = [rows.clone() for rows in controlled.lm.apart()]
        table[ids] = 17.0
        if not tied:
            controlled.lm.model.lm_head.weight[ids] = -17.0
    loss, gradients = loss_and_gradients(controlled, streams_of(controlled))
    with torch.no_grad():
        table[ids] = start[0]
        if not tied:
            controlled.lm.model.lm_head.weight[ids] = start[1]
    plain = type(controlled.lm).__mro__[1](controlled.lm.model, frozen=False)
    controlled.lm = plain
    plain_loss, plain_gradients = loss_and_gradients(controlled, streams_of(controlled))
    assert loss == pytest.approx(plain_loss, abs=1e-6)
    assert len(start) == (1 if tied else 2)
    names = {id(value): name for name, value in controlled.named_parameters()}
    tables = {names[id(table)]: "lm.rows"}
    if not tied:
        tables[names[id(controlled.lm.model.lm_head.weight)]] = "lm.head_rows"
    for name, gradient in plain_gradients.items():
        if name in tables:
            torch.testing.assert_close(gradients[tables[name]], gradient[ids], atol=1e-6, rtol=1e-4)
            assert not gradients[name][ids].any()
            gradient = gradient.index_fill(0, ids, 0.0)
        torch.testing.assert_close(gradients[name], gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_each_group_moves_at_its_own_rate(make, distributed, tmp_path, stage):
    """At one rate for all, ordinary words lose what they mean while five tokens learn theirs."""
    module = make()
    before, ids = whole(module), module.lm.tokens
    folder = base_lm_folder(run(module, distributed, tmp_path, stage))
    rates = [list(RATES.values())] * 2
    assert [row["lr"] for row in logged(folder.parent, "train")] == [pytest.approx(item) for item in rates]
    model = {"model_name": str(folder.parent)}
    lm = load_language_model(module.config.replaced({"model": model}).model)
    after = dict(lm.model.named_parameters())
    assert after.keys() == before.keys()
    change = {name: (after[name] - before[name]).abs() for name in before}
    table = change["transformer.wte.weight"]
    # in two updates Adam moves an entry that has a gradient by about twice the rate
    assert (table[ids].amax(1) > 0.9 * RATES["special_rows_rate"]).all()
    others = table.index_fill(0, ids, 0.0)
    assert 0.5 * RATES["other_rows_rate"] < others.max() < 3 * RATES["other_rows_rate"]
    positions = change["transformer.wpe.weight"].max()
    assert 0.5 * RATES["positions_rate"] < positions < 3 * RATES["positions_rate"]
    rest = change["transformer.h.0.mlp.c_fc.weight"].max()
    assert 0.5 * RATES["learning_rate"] < rest < 3 * RATES["learning_rate"]


def untie(module):
    """Give the LM a head of its own."""
    lm = module.lm.model
    lm.lm_head.weight = torch.nn.Parameter(torch.randn_like(lm.lm_head.weight) / 5)
    lm.config.tie_word_embeddings = False
    module.lm = type(module.lm)(module.lm, module.lm.tokens.tolist())


def test_a_head_of_its_own_learns_and_is_saved_as_the_table(make, distributed, tmp_path):
    """Its rows of the steering tokens would be lost at the end, or all others learn as fast as the layers."""
    module = make()
    untie(module)
    before, ids = whole(module), module.lm.tokens
    folder = run(module, distributed, tmp_path)
    config = module.config.replaced({"model": {"model_name": str(folder)}})
    after = dict(load_language_model(config.model).model.named_parameters())
    assert after.keys() == before.keys()
    for table in ("transformer.wte.weight", "lm_head.weight"):
        change = (after[table] - before[table]).abs()
        assert (change[ids].amax(1) > 0.9 * RATES["special_rows_rate"]).all(), table
        others = change.index_fill(0, ids, 0.0).max()
        assert 0.5 * RATES["other_rows_rate"] < others < 3 * RATES["other_rows_rate"], table


@pytest.mark.slow
def test_all_zero_stages_save_the_same(make, distributed, tmp_path):
    """A stage that misses a gradient of the rows that are apart would be another method."""
    states = []
    for stage in (0, 2, 3):
        module = make(weight_decay=0.1)
        folder = run(module, distributed, tmp_path, stage)
        config = module.config.replaced({"model": {"model_name": str(folder)}})
        states.append(dict(load_language_model(config.model).model.named_parameters()))
    for state in states[1:]:
        for name, value in states[0].items():
            torch.testing.assert_close(state[name], value, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("stage", [2, 3])
def test_bfloat16_keeps_what_is_learnt(make, distributed, tmp_path, stage):
    """In bfloat16 the rows that are apart are rounded copies of float32 values, and must be saved as trained."""
    module = make(precision="bf16")
    before, ids = whole(module), module.lm.tokens
    folder = run(module, distributed, tmp_path, stage)
    config = module.config.replaced({"model": {"model_name": str(folder)}})
    after = dict(load_language_model(config.model).model.named_parameters())
    assert {value.dtype for value in after.values()} == {torch.bfloat16}
    change = (after["transformer.wte.weight"].float() - before["transformer.wte.weight"].float()).abs()
    assert (change[ids].amax(1) > 0.5 * RATES["special_rows_rate"]).all()
    assert change.index_fill(0, ids, 0.0).max() < 10 * RATES["other_rows_rate"]


def test_the_releases_table_is_frozen_and_counts_in_the_norm(make, distributed, tmp_path):
    """Its optimiser was handed copies; a table without gradient would let the other parts move further."""
    module = make(fidelity="released_code")
    before = whole(module)
    _, gradients = loss_and_gradients(module, streams_of(module))
    assert gradients["lm.model.transformer.wte.weight"].abs().max() > 0
    groups = module.parameter_groups(1e-3)
    assert [group["weight_decay"] for group in groups] == [0.01] * 4
    assert groups[2]["lr"] == 0.0
    assert not groups[1]["params"]
    folder = run(module, distributed, tmp_path)
    config = module.config.replaced({"model": {"model_name": str(folder)}})
    after = dict(load_language_model(config.model).model.named_parameters())
    assert torch.equal(after["transformer.wte.weight"], before["transformer.wte.weight"])
    assert not torch.equal(after["transformer.wpe.weight"], before["transformer.wpe.weight"])


def test_decay_is_decoupled(make):
    """Adam's own decay is scaled by its second moment: little where gradients are large."""
    for group in make(weight_decay=0.3).parameter_groups(1e-3):
        assert group["weight_decay"] == 0.3
        assert group["decoupled_weight_decay"] is True


def test_a_stream_alone_has_its_own_loss(make):
    """Validation without action codes would have a loss of nothing, which is 0."""
    module = make().eval()
    both = module(streams_of(module))
    old = module(TwoStreams(streams_of(module).old, None))
    assert both.losses.keys() == both.counts.keys() == {"persona_loss", "ctrl_loss"}
    assert both.counts == {"persona_loss": 4, "ctrl_loss": 3}
    assert old.losses.keys() == {"persona_loss"}
    assert old.total.item() == old.losses["persona_loss"].item() == both.losses["persona_loss"].item()
    assert both.total.item() == pytest.approx(sum(loss.item() for loss in both.losses.values()))
    swapped = make(fidelity="released_code").eval()
    names = swapped(TwoStreams(streams_of(swapped).old, None)).losses
    assert names.keys() == {"ctrl_loss"}


def test_an_lm_that_scales_its_token_table_is_refused(make):
    """Its rows would be looked up unscaled: another LM."""
    from companions.personagpt.split_lm import SplitLanguageModel

    lm = make().lm

    class Scaled(torch.nn.Embedding):
        """Twice each row."""

        def forward(self, ids):
            """Scaled."""
            return 2 * super().forward(ids)

    lm.model.transformer.wte.__class__ = Scaled
    with pytest.raises(UserError, match="gpt2: rows of the token table cannot learn apart"):
        SplitLanguageModel(lm, [1])


def test_the_module_for_decoding_is_whole(make):
    """Generation reads the LM's own tables: a module with rows apart would reply with the old ones."""
    config = make().config
    model = build_personagpt(config, make_tokenizer(config.model))
    assert {name for name, _ in model.named_parameters()} == {
        f"lm.model.{name}" for name, _ in model.lm.model.named_parameters()
    }
