"""The train command: several configurations are runs that follow on one another; the shipped ones hold its values."""

import json
import re
import shlex
from pathlib import Path

import pytest

from companions.personagpt import register_personagpt
from companions.personagpt.chain import read_chain, train_chain
from models.configuration import load_config
from models.decoding.runs import read_run_config
from tests.companions.personagpt.test_task import FILES
from tests.conftest import ROOT
from tests.helpers import json_rows, logged
from tests.run_commands import Command, run_commands
from utils.errors import UserError

PRETRAIN, CONTROL = (f"config/personagpt/{name}.yml" for name in ("pretrain", "control"))
BOTH = [f"--config={PRETRAIN}", f"--config={CONTROL}"]
COMMAND = ["-m", "companions.personagpt.train"]


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    register_personagpt()
    monkeypatch.chdir(ROOT)


def message(*arguments):
    """The one line of an error."""
    with pytest.raises(UserError) as caught:
        read_chain(arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_each_configuration_is_a_run_with_the_same_flags():
    """A flag that reaches the first run only would leave the second with another batch than asked for."""
    links = read_chain([*BOTH, "--set", "dataset.actions=a.csv", "--batch=8", "--lr", "1e-4"])
    assert [link.args.config for link in links] == [PRETRAIN, CONTROL]
    assert [link.config.training.stage for link in links] == ["pretrain", "control"]
    for link in links:
        assert link.config.training.batch_size == 8
        assert link.config.training.learning_rate == 1e-4
        assert link.config.dataset.actions == "a.csv"


def test_mistakes_are_told_before_the_first_run(tmp_path):
    """The second run's mistake would be told when the first has trained for hours."""
    assert "--confg" in message(*BOTH, "--confg=x")
    assert "required: --config" in message()
    assert "nothing.yml" in message(f"--config={PRETRAIN}", "--config=nothing.yml")
    spt = "config/sample/spt.yml"
    found = message(f"--config={PRETRAIN}", f"--config={spt}", "--set=model.model_name=x")
    assert found == f"{spt}: model.model_type = selective_pt: personagpt is needed; train.py trains others"
    assert message(*BOTH, "--save_model=no") == (
        f"{PRETRAIN}: training.save_model: false leaves the next run nothing to begin with"
    )
    accumulating = tmp_path / "ds.json"
    accumulating.write_text('{"gradient_accumulation_steps": 4}')
    engine = [f"--deepspeed_config={accumulating}", "--set=model.fidelity=released_code"]
    assert "gradient_accumulation_steps = 4: with model.fidelity: released_code" in message(*BOTH, *engine)
    read_chain([*BOTH, engine[0]])


def test_help_is_of_this_model_type(capsys):
    """SPT's flags in the help of another system lead to `unknown argument`."""
    with pytest.raises(SystemExit):
        read_chain(["--help"])
    text = capsys.readouterr().out
    assert "--batch" in text
    assert "--adding_noise" not in text


@pytest.mark.parametrize("path", [PRETRAIN, CONTROL])
def test_shipped_files_open_with_their_launch_line(path):
    """A launch line that names another file, or a flag that is gone, does not run."""
    first = (ROOT / path).read_text(encoding="utf-8").splitlines()[0]
    words = shlex.split(first.removeprefix("# "))
    assert words[:3] == ["python", *COMMAND]
    assert path in [link.args.config for link in read_chain(words[3:])]


def test_shipped_files_hold_the_originals_settings():
    """A value that drifts from the published one trains another model under its name."""
    for path, stage, epochs in ((PRETRAIN, "pretrain", 3), (CONTROL, "control", 1)):
        config = load_config(path)
        training = config.training
        assert (training.stage, training.num_epochs) == (stage, epochs)
        assert (training.learning_rate, training.batch_size, training.grad_clip) == (5e-5, 64, 1.0)
        assert (training.warmup_type, training.warmup_ratio, training.weight_decay) == ("Linear", 0.0, 0.0)
        rates = (training.special_rows_rate, training.other_rows_rate, training.positions_rate)
        assert rates == (5e-4, 1e-8, 1e-6)
        assert config.dataset.max_utterances == 20
        assert (config.model.model_name, config.model.fidelity) == ("microsoft/DialoGPT-medium", "paper")


@pytest.fixture(scope="module")
def small(lm_folder, tmp_path_factory):
    """Arguments that put a tiny LM and a few dialogues in the place of the real ones, and where the runs lie."""
    log_dir = tmp_path_factory.mktemp("chain")
    dataset = FILES | {"max_token_length": 384, "valid": FILES["train"], "train": FILES["valid"]}
    settings = {"model.model_name": lm_folder("gpt2"), **{f"dataset.{key}": v for key, v in dataset.items()}}
    words = [f"--set={key}={value}" for key, value in settings.items()]
    return log_dir, [
        *BOTH,
        *words,
        f"--log_dir={log_dir}",
        "--batch=8",
        "--epoch=1",
        "--set=training.log_every=1",
    ]


def test_files_of_a_later_run_are_looked_at_before_the_first(small, distributed, tmp_path):
    """A missing file of the second stage would be told when the first has trained for days."""
    links = read_chain([*small[1], "--set=dataset.actions=no/such.csv", f"--log_dir={tmp_path / 'runs'}"])
    with pytest.raises(UserError, match="no/such.csv"):
        train_chain(links, distributed)
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory):
    """Of one rank and of two: the runs of the chain, in their order."""
    log_dir, arguments = small
    folder = tmp_path_factory.mktemp("trained")
    # so that DeepSpeed does not keep parameters as small as these whole
    names = ("param_persistence_threshold", "max_live_parameters", "max_reuse_distance")
    zero = {"stage": 3} | {f"stage3_{name}": 0 for name in names}
    (folder / "ds.json").write_text(json.dumps({"zero_optimization": zero}), encoding="utf-8")
    one = ["--do_test=yes", "--set=decoding.max_new_tokens=4"]
    two = ["--training_ratio=0.4", f"--set=dataset.valid={FILES['valid']}"]
    two.append(f"--set=dataset.valid_actions={FILES['actions']}")
    two.append(f"--deepspeed_config={folder / 'ds.json'}")
    calls = [Command([*COMMAND, *arguments, *more], ranks=ranks) for ranks, more in ((1, one), (2, two))]
    runs = []
    for done in run_commands(calls, folder):
        assert done.status == 0, done.output
        assert "Traceback" not in done.output
        runs.append([Path(run) for run in re.findall(r"run folder: (.*)", done.output)])
        assert len(runs[-1]) == 2
    return runs


@pytest.mark.slow
@pytest.mark.long
def test_the_second_run_begins_with_the_first_ones_lm(trained):
    """A second stage on the base LM has action codes, and no persona."""
    first, second = trained[0]
    assert read_run_config(second).model.model_name == str(first)
    before, after = logged(first, "valid_epoch")[0], logged(second, "train")[0]
    assert before["pretrain_loss"] > 0
    assert after["persona_loss"] > 0
    results = json_rows(second / "evaluation_result.jsonl")
    assert len(results) == before["examples"]
    assert not (first / "evaluation_result.jsonl").exists()


@pytest.mark.slow
@pytest.mark.long
def test_two_ranks_train_both_stages(trained):
    """Ranks that disagree on the number of steps, or at stage 3 of forward passes, wait for each other for ever."""
    runs = trained[1]
    rows = [logged(run, "train_epoch")[0] for run in runs]
    assert rows[1]["examples"] == 2 * rows[0]["examples"]
    valid = [logged(run, "valid_epoch")[0]["examples"] for run in runs]
    assert valid[1] == valid[0] + 32
    assert all((run / "model" / "model.safetensors").is_file() for run in runs)
