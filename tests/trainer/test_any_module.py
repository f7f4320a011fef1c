"""The trainer trains a module that is no language model, by that module's own word and nothing else."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from models.trainable import Figure, StepOutput, Trainable
from tests.helpers import STEP_FIGURES, logged
from tests.trainer.regression import BEYOND, NUM_EXAMPLES, TARGET, Regression, regression_task
from trainer.training import train
from utils.errors import UserError
from utils.runs import find_runs

# three batches, so three updates an epoch
STEPS = [3, 6, 9, 12]


@pytest.fixture
def run_regression(distributed, tmp_path):
    """run_regression(Module, stage=2, **settings): the run folder."""

    def run(module=Regression, stage=2, ckpt_path=None, **settings):
        ds_config = tmp_path / "ds.json"
        ds_config.write_text(json.dumps({"zero_optimization": {"stage": stage}}), encoding="utf-8")
        task = regression_task(str(tmp_path / "runs"), module, **settings)
        return train(task, distributed, "regression", str(ds_config), ckpt_path)

    return run


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_rows_figures_and_files(run_regression, capsys, stage):
    """A trainer that expects an LM's losses, batches or files cannot serve the next system of the field."""
    run = run_regression(stage=stage)
    steps, epochs, valid = (logged(run, phase) for phase in ("train", "train_epoch", "valid_epoch"))
    assert [row["step"] for row in steps] == [2, 3, 5, 6, 8, 9, 11, 12]
    assert [row["step"] for row in epochs] == [row["step"] for row in valid] == STEPS
    figures = {"phase", "step", "epoch", "examples", "total", "squared", "absolute", "beyond_share", "each"}
    assert all(row.keys() == figures for row in epochs + valid)
    assert all(row.keys() == figures | STEP_FIGURES for row in steps)
    for row in epochs + valid:
        assert row["examples"] == NUM_EXAMPLES
        assert row["total"] == pytest.approx(row["squared"] + 0.5 * row["absolute"])
        assert row["each"] == [1.0, 2.0]
        assert 0 <= row["beyond_share"] <= 1
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert {"config.yml", "metrics.jsonl", "trained.safetensors", "trained.json", "ds_ckpt/latest"} <= names
    assert find_runs(run) == [run]
    tags = EventAccumulator(str(run)).Reload().Tags()["scalars"]
    assert {"Loss-0/total_valid", "beyond_share/valid_epoch", "each/valid_epoch/1", "lr/train/1"} <= set(tags)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a regression on 3 inputs"
    assert lines[1] == "4 parameters trained, 2 frozen"
    assert lines[3] == "3 batches of 4 examples per rank and epoch, 12 steps in all"
    assert lines[4:6] == ["automatic choice: made up", "automatic choice: ten points"]
    (line,) = (line for line in lines if line.startswith("valid epoch 1: "))
    assert line.split()[3::2] == [
        "total",
        "absolute",
        "squared",
        "beyond_share",
    ]  # without `each`, which is quiet
    assert any(line == "warning: the examples of valid epoch 2 are all beyond" for line in lines)


def test_the_best_checkpoint_is_by_the_modules_figure_and_direction(run_regression, capsys):
    """A task metric that is higher for the better epoch: its worst, or that of the lowest loss, would be kept."""
    run = run_regression()
    valid = logged(run, "valid_epoch")
    shares, totals = ([row[name] for row in valid] for name in ("beyond_share", "total"))
    best = shares.index(max(shares))
    assert best not in (0, shares.index(min(shares)), totals.index(min(totals)), len(valid) - 1)
    metadata = json.loads((run / "trained.json").read_text(encoding="utf-8"))
    assert metadata["best_by"] == "share of predictions beyond the target"
    assert metadata["best_value"] == shares[best]
    assert metadata["validation_loss"] == totals[best]
    assert (metadata["steps"], metadata["inputs"], metadata["seed"]) == (STEPS[best], 3, 1)
    state = load_file(run / "trained.safetensors")
    assert state.keys() == {"weight", "bias"}
    predictions = (state["bias"] + state["weight"]).repeat(4)[:NUM_EXAMPLES]  # three kinds of points in turn
    assert (predictions > BEYOND).all()
    assert (predictions - TARGET).pow(2).mean().item() == pytest.approx(valid[best]["squared"], rel=1e-5)
    assert f"best share of predictions beyond the target {max(shares):.4f}" in capsys.readouterr().out


def by_hand(rates, epochs):
    """The state that plain Adam makes of the bias and the weights, each at a rate of its own."""
    module = Regression()
    groups = [
        {"params": [parameter], "lr": rate}
        for parameter, rate in zip((module.bias, module.weight), rates, strict=True)
    ]
    adam = torch.optim.Adam(groups)
    batches = regression_task("unused").prepare(None).train
    for batch in [batch for _ in range(epochs) for batch in batches]:
        adam.zero_grad()
        module(batch).total.backward()
        adam.step()
    return module.trained_state()


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_each_group_moves_at_its_own_rate(run_regression, stage):
    """One rate for all: a part that was to move by a hundredth of it is destroyed in the first steps."""
    run = run_regression(stage=stage, num_epochs=1, log_every=1, learning_rate=0.1)
    assert [row["lr"] for row in logged(run, "train")] == [pytest.approx([0.1, 0.001])] * 3
    state, wanted = load_file(run / "trained.safetensors"), by_hand((0.1, 0.001), 1)
    assert 0 < wanted["weight"].abs().max() < wanted["bias"].abs().min() / 50
    for name, value in wanted.items():
        torch.testing.assert_close(state[name], value, atol=1e-7, rtol=1e-6)


def test_a_run_starts_from_another(run_regression):
    """The start of a module that is no LM would otherwise be looked for in an LM's files."""
    first = run_regression(num_epochs=1)
    second = run_regression(num_epochs=1, learning_rate=1e-9, ckpt_path=str(first))
    before, after = (load_file(run / "trained.safetensors") for run in (first, second))
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-7, rtol=0)


class Ranked(Regression):
    """Is chosen by a figure that only the whole file has: the median of its predictions."""

    best = Figure("median", "higher", "median prediction")

    def forward(self, batch, progress=0.0):
        """As before, with the predictions in evaluation mode."""
        output = super().forward(batch, progress)
        predictions = None if self.training else (batch.inputs @ self.weight + self.bias)[:, None]
        return output._replace(per_example=predictions)

    def file_losses(self, outputs, examples):
        """A median is no mean over batches."""
        assert len(outputs) == len(examples) == NUM_EXAMPLES
        return {"median": outputs.double().median()}


def test_a_figure_of_the_whole_file_chooses_the_best(run_regression):
    """A metric that is no mean over examples would be averaged over batches, or be added to the loss."""
    run = run_regression(Ranked)
    valid = logged(run, "valid_epoch")
    medians = [row["median"] for row in valid]
    assert len(set(medians)) > 1
    for row in valid:
        assert row["total"] == pytest.approx(row["squared"] + 0.5 * row["absolute"])
    metadata = json.loads((run / "trained.json").read_text(encoding="utf-8"))
    assert metadata["best_value"] == max(medians)
    assert metadata["steps"] == STEPS[medians.index(max(medians))]


class Undeclared(Regression):
    """Gives a diagnostic that nobody can read."""

    reducers = {}


class Forgetful(Regression):
    """Leaves its bias out of the groups."""

    def parameter_groups(self, learning_rate):
        """The weights alone."""
        return [{"params": [self.weight]}]


class Greedy(Regression):
    """Puts what is frozen in a group."""

    def parameter_groups(self, learning_rate):
        """Every parameter."""
        return [{"params": list(self.parameters())}]


class Elsewhere(Regression):
    """Chooses by what no row has."""

    best = Figure("rouge", "higher", "ROUGE")


class Twice(Regression):
    """Calls a figure as one of its losses is called."""

    reducers = {"beyond": lambda total, count: {"squared": 0.0}}


class Stranger(Regression):
    """Puts a parameter of another module in a group."""

    def parameter_groups(self, learning_rate):
        """Its own, and one more."""
        return [*super().parameter_groups(learning_rate), {"params": [torch.nn.Parameter(torch.zeros(1))]}]


class Epoch(Regression):
    """Calls a figure as the row calls the number of its epoch."""

    reducers = {"beyond": lambda total, count: {"epoch": 0.0}}


class Nameless(Regression):
    """Gives a total, and no loss by its name."""

    def forward(self, batch, progress=0.0):
        """The total alone."""
        return super().forward(batch, progress)._replace(losses={}, counts={})


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Undeclared, "the diagnostic 'beyond' has no reducer"),
        (Forgetful, "parameter_groups of Forgetful: 'bias' is trainable and in no group"),
        (Greedy, "parameter_groups of Greedy: 'frozen' is"),
        (
            Elsewhere,
            "'rouge', which chooses the best checkpoint, is no number of the validation row; it has absol",
        ),
        (Stranger, "parameter_groups of Stranger: a parameter is not the module's own"),
        (Epoch, "two figures of a row are called 'epoch'; one is of 'beyond'"),
        (Nameless, "a module gives at least one loss by its name"),
        (Twice, "two figures of a row are called 'squared'; one is of 'beyond'"),
    ],
)
def test_a_module_that_contradicts_itself_is_told_so(run_regression, module, message):
    """A figure that is silently left out, a part that is never trained, a best checkpoint by nothing."""
    with pytest.raises(ValueError, match=message):
        run_regression(module)


def test_a_figure_has_a_direction():
    """`max` would be taken for "lower" by whatever compares with "higher"."""
    with pytest.raises(ValueError, match="direction 'max' of the figure 'rouge': 'lower' or 'higher'"):
        Figure("rouge", "max", "ROUGE")


class Untrained(Regression):
    """Nothing to train."""

    def __init__(self):
        super().__init__()
        self.requires_grad_(False)


def test_a_module_without_trainable_parameters_has_a_run_folder(run_regression, capsys):
    """A baseline that needs no training would otherwise end in an error, and be scored by other means."""
    run = run_regression(Untrained)
    assert {path.name for path in run.iterdir()} == {
        "config.yml",
        "start.json",
        "trained.safetensors",
        "trained.json",
    }
    assert load_file(run / "trained.safetensors") == {}
    assert capsys.readouterr().out.splitlines()[:2] == ["a regression on 3 inputs", "nothing to train"]


class Diverging(Regression):
    """A figure that is a list with something that is not a number."""

    reducers = {"beyond": lambda total, count: {"beyond_share": 0.0, "each": [1.0, float("nan")]}}


def test_a_list_with_something_that_is_not_a_number_ends_the_run(run_regression):
    """JSON has no word for it: the row would break whatever reads the file."""
    with pytest.raises(UserError, match="a step up to 2: each is not a finite number"):
        run_regression(Diverging)


class Bare(Trainable):
    """Only what a module must give."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, batch, progress=0.0):
        """The squared error of the bias alone."""
        loss = (self.bias - TARGET).pow(2).mean()
        return StepOutput(loss, {"squared": loss}, {"squared": batch.num_examples})

    def total_loss(self, losses):
        """The one that there is."""
        return losses["squared"]


def test_the_defaults_are_one_group_and_the_lowest_total(run_regression, capsys):
    """What every module would have to repeat is what some of them would get wrong."""
    run = run_regression(Bare)
    totals = [row["total"] for row in logged(run, "valid_epoch")]
    metadata = json.loads((run / "trained.json").read_text(encoding="utf-8"))
    assert metadata["validation_loss"] == min(totals)
    assert "best_value" not in metadata
    assert {row["lr"] for row in logged(run, "train")} == {0.4}
    assert capsys.readouterr().out.startswith("Bare\n1 parameters trained, 0 frozen\n")


def test_a_step_output_is_a_tuple():
    """ZeRO stage 3 looks for tensors in tuples: it would not prepare the backward pass of anything else."""
    assert issubclass(StepOutput, tuple)
