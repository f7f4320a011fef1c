"""Warnings of faults that leave the losses looking well: each planted fault is told of, and a healthy run has none."""

import json

import pytest
import torch
from torch import nn

from tests.helpers import json_rows, logged, train
from tests.trainer.regression import Regression, regression_task
from trainer import training
from trainer.faults import Faults, GradientsSeen
from trainer.frozen import FrozenWeights, bit_sum
from trainer.logs import RunLog
from utils.distributed import DistributedContext


@pytest.fixture
def run_regression(distributed, tmp_path):
    """run_regression(Module, stage): the run folder."""

    def run(module, stage=2, **settings):
        ds_config = tmp_path / "ds.json"
        ds_config.write_text(json.dumps({"zero_optimization": {"stage": stage}}), encoding="utf-8")
        task = regression_task(str(tmp_path / "runs"), module, **settings)
        return training.train(task, distributed, "regression", str(ds_config))

    return run


def _faults(run):
    """The faults that a run has told of by their names."""
    return [row["fault"] for row in logged(run, "warning") if "fault" in row]


class Detached(Regression):
    """Two parts, of which one has a gradient of zero from the second epoch on."""

    dead_from = 0.2

    def learning_parts(self):
        """Each parameter is a part; what is frozen is none."""
        return {"the bias": [self.bias], "the weights": [self.weight, self.frozen]}

    def forward(self, batch, progress=0.0):
        """As before; from `dead_from` on all points are 0, so that no weight has a part in anything."""
        if progress < self.dead_from:
            return super().forward(batch, progress)
        inputs = {name: torch.zeros_like(getattr(batch, name)) for name in ("inputs", "others")}
        return super().forward(type(batch)(**inputs, indices=batch.indices), progress)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_part_without_a_gradient_is_told_once(run_regression, capsys, stage):
    """A retriever that learns nothing gives the losses of one that cannot learn more."""
    run = run_regression(Detached, stage)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: the gradient")]
    assert said == [
        "warning: the gradient of the weights was zero in all steps from 4 to 6 (epoch 2): it learns nothing; no loss "
        "that is on depends on it, or those that do are constant"
    ]
    (row,) = logged(run, "warning")[:1]
    assert row == {
        "phase": "warning",
        "step": 6,
        "epoch": 1,
        "fault": "no gradient: the weights",
        "warning": said[0].removeprefix("warning: "),
    }
    assert _faults(run) == ["no gradient: the weights"]


class Moving(Regression):
    """A frozen parameter whose second value changes by one bit in the second epoch."""

    def forward(self, batch, progress=0.0):
        """As before."""
        if self.training and 0.3 < progress < 0.4:
            with torch.no_grad():
                self.frozen[1] = torch.nextafter(self.frozen[1], torch.tensor(2.0))
        return super().forward(batch, progress)


@pytest.mark.parametrize("stage", [0, 2])
def test_a_frozen_weight_that_changed_is_told(run_regression, capsys, stage):
    """What is trained would be saved without the weights that it belongs to, and be used with others."""
    run = run_regression(Moving, stage)
    assert _faults(run) == ["frozen weights changed"]
    assert "warning: frozen is frozen, and yet changed in epoch 2: " in capsys.readouterr().out


def test_sums_of_bits():
    """A sum that rounds, or that takes -0.0 for 0.0, passes over a change."""
    for kind in (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int8):
        values = torch.arange(1, 14).to(kind)
        for place in range(13):
            changed = values.clone()
            changed[place] = -changed[place]
            assert bit_sum(values) != bit_sum(changed)
            assert bit_sum(values[1:]) == bit_sum(changed[1:]) or place  # a part that begins anywhere
        assert bit_sum(values) == bit_sum(values.clone()) == bit_sum(values.view(13, 1).T)
    assert bit_sum(torch.tensor([0.0])) != bit_sum(torch.tensor([-0.0]))
    assert bit_sum(torch.zeros(0)) == 0


def test_frozen_weights_leave_out_what_is_trained():
    """Every run would be told that what it trains has changed."""
    module = Regression()
    weights = FrozenWeights(module.named_parameters())
    with torch.no_grad():
        module.bias.add_(1)
        assert weights.changed() == []
        module.frozen.add_(1)
    assert weights.changed() == ["frozen"]
    assert weights.changed() == []


def test_nothing_is_looked_at_once_it_was_seen(distributed, monkeypatch):
    """Reading every gradient of a whole LM in every step would take as long as an update."""
    looks = []
    weight = nn.Parameter(torch.ones(3))
    gradients = GradientsSeen({"weight": [weight]})
    any_ = torch.Tensor.any
    monkeypatch.setattr(torch.Tensor, "any", lambda self: looks.append(1) or any_(self))
    gradients.begin()
    for factor in (0.0, 0.0, 1.0, 1.0, 1.0):
        (weight * factor).sum().backward()
    assert len(looks) == 3
    assert gradients.missing(distributed) == []
    gradients.begin()
    (weight * 0.0).sum().backward()
    assert gradients.missing(distributed) == ["weight"]


@pytest.mark.parametrize("learns_elsewhere", [True, False])
def test_a_part_that_learns_on_one_rank_is_not_told(learns_elsewhere):
    """A rank whose batches all lack what a part learns from is healthy."""

    class OneOfTwo(DistributedContext):
        def gather(self, value):
            """The same of both ranks."""
            return [value, dict.fromkeys(value, learns_elsewhere)]

    seen = GradientsSeen({"weight": [nn.Parameter(torch.ones(2))]})
    two = OneOfTwo(0, 0, 2, torch.device("cpu"))
    assert seen.missing(two) == ([] if learns_elsewhere else ["weight"])


def test_an_epoch_without_a_step_has_no_warning(distributed, tmp_path):
    """A run that was stopped at the end of an epoch, and only validates when it goes on, is healthy."""
    log = RunLog(tmp_path, distributed)
    faults = Faults(Detached(), distributed, log)
    faults.begin_epoch(3)
    faults.end_epoch(0, 3)
    assert log.rows("warning") == []
    faults.end_epoch(0, 4)
    assert {row["fault"] for row in log.rows("warning")} == {
        "no gradient: the bias",
        "no gradient: the weights",
    }
    log.close()


def test_a_resumed_run_does_not_say_it_again(run_regression, distributed, capsys):
    """The log of a run that was stopped would hold what the log of one that was not has once."""
    run = run_regression(Detached)
    capsys.readouterr()
    before = json_rows(run / "metrics.jsonl")
    lengths = {path.name: path.stat().st_size for path in run.iterdir() if path.is_file()}
    log = RunLog(run, distributed, lengths)
    faults = Faults(Detached(), distributed, log)
    for name in ("no gradient: the weights", "another", "another"):
        faults.say(name, f"{name}, once more", 2, 9)
    log.close()
    assert capsys.readouterr().out == "warning: another, once more\n"
    added = {"phase": "warning", "step": 9, "epoch": 2, "fault": "another", "warning": "another, once more"}
    assert json_rows(run / "metrics.jsonl") == [*before, added]


SMALL = {"training_ratio": 0.2, "num_epochs": 2}
HEALTHY = [
    {},
    {"model": {"load_bit": "bf16"}, "training": {"learning_rate": 1e-5}},
    {"model": {"K": 1}},
    {"model": {"prompt_init": "text", "prompt_init_text": "hello"}},
    {"model": {"prompt_init": "vocab"}},
    {"training": {"skip_retrieval": True}},
    {"training": {"only_nll": True, "skip_retrieval": True}},
    {"training": {"num_epochs": 1, "training_ratio": 0.01}},
    {"model": {"fidelity": "released_code"}},
    {"model": {"model_type": "lora"}},
    {"model": {"model_type": "prompt_tuning"}},
    {"model": {"model_type": "prefix_tuning"}},
    {"model": {"model_type": "textual"}},
    {"model": {"model_type": "full_finetuning"}},
]


@pytest.mark.parametrize("sections", HEALTHY, ids=str)
def test_a_healthy_run_has_no_warning(make_config, distributed, capsys, sections):
    """Warnings of what is in order are not read any more when something is not."""
    training_keys = SMALL | sections.get("training", {})
    run = train(make_config(**sections | {"training": training_keys}), distributed, "healthy")
    if (run / "metrics.jsonl").exists():  # textual prompting trains nothing
        assert _faults(run) == []
    assert "warning: the gradient" not in capsys.readouterr().out


def test_a_retriever_that_nothing_teaches_is_told(make_config, distributed, capsys):
    """Without a loss of its scores it stays random, and so does the choice of the prompt."""
    losses = {"selective_loss": False, "ensemble": False, "contrastive": False}
    run = train(make_config(training=SMALL | losses), distributed, "untaught")
    assert _faults(run) == ["no gradient: the retriever"]
    assert (
        "warning: the gradient of the retriever was zero in all steps from 1 to 4 " in capsys.readouterr().out
    )


def test_a_validation_file_that_was_trained_on_is_told(make_config, distributed, data, capsys):
    """The checkpoint that remembers most would be the best."""
    config = make_config(training=SMALL | {"num_epochs": 1}, dataset={"valid": str(data["train"])})
    run = train(config, distributed, "overlap")
    assert _faults(run) == ["overlap"]
    assert f"of {data['train']} stand in {data['train']} too" in capsys.readouterr().out
