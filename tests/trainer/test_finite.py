"""A loss or gradient that is not finite ends the run with its step, its examples and the last good checkpoint."""

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers import json_rows, train
from tests.trainer.regression import Regression, regression_task
from trainer import engine as engine_module
from trainer import loop, training
from trainer.checkpoints import save_trained
from trainer.finite import FiniteCheck, not_finite
from trainer.loop import Trainer
from utils.errors import UserError
from utils.runs import CHECKPOINTS


class _Broken:
    """Makes the losses of an engine NaN from a given forward pass on."""

    def __init__(self, forward, good):
        self.forward, self.left = forward, good

    def __call__(self, *arguments):
        output = self.forward(*arguments)
        self.left -= 1
        if self.left >= 0:
            return output
        bad = output.total * float("nan")
        return output._replace(total=bad, losses={**output.losses, "llm": bad})


@pytest.mark.parametrize("log_every", [1, 100])
def test_a_loss_that_is_not_a_number_ends_the_run_and_keeps_what_was_good(
    make_config, distributed, data, monkeypatch, log_every
):
    """Weights of NaN that overwrite the best checkpoint cost the whole run; a wrong example costs a day of search."""
    folders, kept, batches = [], [], []
    start, note = Trainer.__init__, FiniteCheck.note

    def breaking(self, engine, settings, distributed, folder, *rest):
        start(self, engine, settings, distributed, folder, *rest)
        engine.module.forward = _Broken(
            engine.module.forward, good=4 + 7 + 1
        )  # an epoch, its validation, a step
        folders.append(folder)

    def keep(model, folder, distributed, metadata):
        save_trained(model, folder, distributed, metadata)
        kept.append((folder / "trained.safetensors").read_bytes())

    def noting(self, step, batch, output):
        batches.append((self.what, step, batch.indices.tolist()))
        note(self, step, batch, output)

    monkeypatch.setattr(Trainer, "__init__", breaking)
    monkeypatch.setattr(FiniteCheck, "note", noting)
    monkeypatch.setattr(loop, "save_trained", keep)
    config = make_config(training={"training_ratio": 0.2, "num_epochs": 3, "log_every": log_every})
    with pytest.raises(UserError) as caught:
        train(config, distributed, "nan")
    (indices,) = [indices for what, step, indices in batches if (what, step) == ("training", 6)]
    lines = data["train"].read_text(encoding="utf-8").splitlines()
    # in the sample every line of a dialogue that is no persona holds a response
    answers = [number for number, line in enumerate(lines, start=1) if "persona: " not in line]
    places = ", ".join(str(answers[index]) for index in indices)
    assert str(caught.value) == (
        f"step 6: total, llm is not a finite number, in a batch with the training examples "
        f"{', '.join(map(str, indices))} (counted from 0; lines {places} of {data['train']}); the last good "
        f"checkpoint is {folders[0]}/ds_ckpt/step-4.safetensors. Try a lower --lr, --grad_clip=1, or a wider precision"
    )
    assert len(kept) == 1
    assert (folders[0] / "trained.safetensors").read_bytes() == kept[0]
    rows = json_rows(folders[0] / "metrics.jsonl")
    assert [row["phase"] for row in rows if row["epoch"] == 1] == ["train"] * (log_every == 1)


class InAnyPrecision(Regression):
    """Its points come in the precision of its weights."""

    def forward(self, batch, progress=0.0):
        """As before."""
        points = {name: getattr(batch, name).to(self.frozen.dtype) for name in ("inputs", "others")}
        return super().forward(replace(batch, **points), progress)


class Faulty(InAnyPrecision):
    """A regression whose gradient is not finite from the third backward pass on, while its losses are."""

    def __init__(self):
        super().__init__()
        self.passes = 0

    def forward(self, batch, progress=0.0):
        """The square root of 0, times 0, is a part of the loss from the third training batch on."""
        output = super().forward(batch, progress)
        self.passes += self.training
        if self.passes < 3:
            return output
        return output._replace(total=output.total + (0 * self.bias[0]).sqrt())


@pytest.fixture
def run_regression(distributed, tmp_path):
    """run_regression(Module, content of the DeepSpeed configuration): the run folder; its parent is `tmp_path/runs`."""

    def run(module, precision=32, content=None, **settings):
        ds_config = tmp_path / "ds.json"
        ds_config.write_text(json.dumps(content or {}), encoding="utf-8")
        task = regression_task(str(tmp_path / "runs"), module, **settings)
        return training.train(replace(task, precision=precision), distributed, "regression", str(ds_config))

    return run


def _content(stage, **further):
    return {"zero_optimization": {"stage": stage}, **further}


@pytest.mark.parametrize("precision", [32, "bf16"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_gradient_that_is_not_finite_ends_the_run_at_its_step(run_regression, tmp_path, stage, precision):
    """DeepSpeed leaves such updates out in silence, or without ZeRO lets Adam make NaN of all that was trained."""
    with pytest.raises(UserError) as caught:
        run_regression(Faulty, precision, _content(stage), log_every=50, num_epochs=9)
    (folder,) = (tmp_path / "runs").iterdir()
    # three batches an epoch: the third is the short one
    assert str(caught.value) == (
        "step 3: the gradient is not a finite number, in a batch with the training examples 8, 9 (counted from 0); "
        f"no checkpoint was kept in {folder} before. Try a lower --lr, --grad_clip=1, or a wider precision"
    )


def test_before_the_update_nothing_is_lost(run_regression, monkeypatch):
    """An update with a gradient of NaN at stage 0: what the optimiser holds is of no use to anybody any more."""
    engines = []
    make_engine = training.make_engine
    monkeypatch.setattr(
        training, "make_engine", lambda *arguments: engines.append(make_engine(*arguments)) or engines[0]
    )
    with pytest.raises(UserError, match="the gradient is not"):
        run_regression(Faulty, 32, _content(0))
    assert all(parameter.isfinite().all() for parameter in engines[0].module.parameters())
    assert engines[0].global_steps == 2


@pytest.mark.parametrize("stage", [0, 2])
def test_all_batches_of_an_accumulated_step_are_named(run_regression, stage):
    """The example that is at fault may be in any batch of the step."""
    with pytest.raises(UserError, match=r"step 2: the gradient .* examples 8, 9 \("):
        run_regression(Faulty, 32, _content(stage, gradient_accumulation_steps=2))
    with pytest.raises(UserError, match=r"step 1: the gradient .* examples 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 \("):
        run_regression(Faulty, 32, _content(stage, gradient_accumulation_steps=3))


class Unweighted(Regression):
    """A loss that nothing learns from is infinite in the second batch of the second epoch."""

    def __init__(self):
        super().__init__()
        self.passes = 0

    def forward(self, batch, progress=0.0):
        """As before, with infinity."""
        output = super().forward(batch, progress)
        self.passes += self.training
        bad = math.inf if self.passes == 5 else 1.0
        losses = {**output.losses, "other": output.total.detach() * bad}
        return output._replace(losses=losses, counts={**output.counts, "other": 1})


def test_the_first_batch_is_named_and_not_the_one_that_was_reported(run_regression, tmp_path):
    """A row sums up many steps: its own number is that of the last one, whose examples are in order."""
    with pytest.raises(UserError) as caught:
        run_regression(Unweighted, log_every=50)
    (folder,) = (tmp_path / "runs").iterdir()
    assert str(caught.value).startswith(
        "step 5: other is not a finite number, in a batch with the training examples 4, 5, 6, 7 (counted from 0); the "
        f"last good checkpoint is {folder / CHECKPOINTS}/step-3.safetensors. "
    )


class Checked(Regression):
    """Infinite in the last batch of its validation."""

    def forward(self, batch, progress=0.0):
        """As before."""
        output = super().forward(batch, progress)
        bad = math.inf if not self.training and 9 in batch.indices else 1.0
        losses = {name: loss * bad for name, loss in output.losses.items()}
        return output._replace(total=output.total * bad, losses=losses)


def test_a_validation_loss_is_named_too(run_regression):
    """A validation example that no model can predict, such as one without tokens, ended with no word on which."""
    with pytest.raises(
        UserError, match=r"step 3: total, squared, absolute is .* the validation examples 8, 9 "
    ):
        run_regression(Checked)


def test_skipped_updates_of_float16_are_normal(run_regression, monkeypatch):
    """The loss scale is found by updates that overflow; a run that stopped at the first would never start."""
    monkeypatch.setattr(engine_module.get_accelerator(), "is_fp16_supported", lambda: True)

    skipped = []
    end_engine = training.end_engine
    monkeypatch.setattr(
        training, "end_engine", lambda engine: (skipped.append(engine.skipped_steps), end_engine(engine))
    )
    folder = run_regression(
        InAnyPrecision, 16, _content(2, fp16={"initial_scale_power": 16, "hysteresis": 1})
    )
    assert 0 < skipped[0] < 12
    values = load_file(folder / "trained.safetensors")
    assert all(value.isfinite().all() for value in values.values())


class Poisoned(Regression):
    """A weight that becomes NaN in its second epoch, and that no loss shows."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(2))

    def parameter_groups(self, learning_rate):
        """All in one group."""
        return [
            {"params": [parameter for parameter in self.parameters() if parameter.requires_grad]},
        ]

    def forward(self, batch, progress=0.0):
        """As before."""
        if self.training and progress > 0.3:
            with torch.no_grad():
                self.unused.fill_(math.nan)
        return super().forward(batch, progress)


def test_what_is_not_finite_is_never_saved(run_regression, tmp_path):
    """A checkpoint of NaN in the place of the last good one is found when the run is over."""
    with pytest.raises(UserError, match=r"unused .*not finite, and not saved; the last good checkpoint is"):
        run_regression(Poisoned, 32, _content(0))
    (folder,) = (tmp_path / "runs").iterdir()
    (checkpoint,) = (folder / CHECKPOINTS).glob("*.safetensors")
    assert checkpoint.name == "step-3.safetensors"
    for path in (checkpoint, folder / "trained.safetensors"):
        for name, value in load_file(path).items():
            if value.is_floating_point():
                assert value.isfinite().all(), (path, name)


def test_notes_take_no_more_memory_than_a_bound(run_regression, monkeypatch):
    """With log_every above the epoch's batches, each note would stay until its end: memory that grows for days."""
    most = []
    note = FiniteCheck.note

    def noting(self, *arguments):
        note(self, *arguments)
        most.append(len(self._noted))

    monkeypatch.setattr("trainer.finite._MOST_STEPS", 2)
    monkeypatch.setattr(FiniteCheck, "note", noting)
    with pytest.raises(UserError, match=r"step 5: other is .* examples 4, 5, 6, 7 "):
        run_regression(Unweighted, log_every=50)
    assert max(most) == 1


def test_figures_that_are_not_finite():
    """A list is looked into."""
    assert not_finite({"a": 1.0, "b": [1.0, math.nan], "c": -math.inf, "d": 3, "e": []}) == ["b", "c"]
