"""What stands in the way of a save or of a resumed run: one line, and nothing that was kept is lost."""

import errno
import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file, save_file

from models.decoding.runs import read_run_config
from models.dialogue_task import dialogue_task
from tests.helpers import train
from trainer import checkpoints, loop, training
from trainer.checkpoints import open_checkpoint
from trainer.logs import RunLog
from trainer.progress import progress_to_json
from trainer.resume import check_same_config
from utils.errors import Terminated, UserError

TRAINING = {"num_epochs": 1, "training_ratio": 0.34, "save_steps": 2}


def _kept(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "ds_ckpt").iterdir()}


@pytest.fixture
def stopped(make_config, distributed, tmp_path, monkeypatch):
    """stopped(fault): a run whose save in step 4 ends as `fault` says, its message, and what was kept before."""

    def make(fault):
        write, kept = checkpoints.write_tensors, {}

        def write_tensors(part, *rest):
            if (part.parent / "step-2.safetensors").exists():
                kept.update(_kept(part.parent.parent), **{part.name: b""})
                fault(part)
            write(part, *rest)

        monkeypatch.setattr(checkpoints, "write_tensors", write_tensors)
        with pytest.raises(UserError) as caught:
            train(make_config(training=TRAINING), distributed, "run")
        monkeypatch.setattr(checkpoints, "write_tensors", write)
        (run,) = (tmp_path / "runs").iterdir()
        return run, str(caught.value), {name: raw for name, raw in kept.items() if not name.startswith(".")}

    return make


def _full(part):
    part.write_bytes(b"x" * 100)  # some of it went well
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_earlier_checkpoint_stays(
    stopped, make_config, distributed, survived
):
    """Half of a checkpoint under the name of a whole one, or a run of days that can go on from nowhere."""
    run, message, kept = stopped(_full)
    assert message == f"cannot write {run / 'ds_ckpt/step-4.safetensors'}: No space left on device"
    assert {"latest", "step-2.safetensors"} <= kept.keys()
    assert _kept(run) == kept
    again = training.train(dialogue_task(make_config(training=TRAINING)), distributed, "", resume=str(run))
    assert again == run
    assert (run / "trained.safetensors").is_file()
    survived("kills")


def test_a_folder_that_takes_no_file_is_one_line(tmp_path, monkeypatch, distributed):
    """A read-only disk would end the training in a traceback of the library."""

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(checkpoints, "trained_parameters", lambda engine: [])
    engine = SimpleNamespace(module=SimpleNamespace(statistics={}))
    with pytest.raises(UserError, match=f"cannot write {tmp_path / 'ds_ckpt'}: Read-only file system"):
        checkpoints.save_checkpoint(engine, tmp_path, checkpoints.Progress(), distributed)


def test_two_processes_do_not_train_in_one_folder(tmp_path, distributed):
    """The same --resume typed twice: two trainings that write each other's logs and checkpoints."""
    log = RunLog(tmp_path, distributed)
    with pytest.raises(UserError, match=f"{tmp_path}: another process is training here"):
        RunLog(tmp_path, distributed)
    log.close()
    RunLog(tmp_path, distributed).close()


def test_settings_of_a_resumed_run_are_its_own(run_copy, make_config, distributed):
    """A learning rate that changes on the way is one of no configuration that anybody can look up."""
    config = make_config(training={"learning_rate": 0.5})
    with pytest.raises(UserError, match=r"config\.yml: .* a resumed run keeps its settings"):
        training.train(dialogue_task(config), distributed, "", resume=str(run_copy))


def test_a_run_from_before_a_key_goes_on_with_its_default(run_copy, make_config):
    """Every new key would end the trainings of a cluster that were stopped before it came."""
    path = run_copy / "config.yml"
    lines = path.read_text().splitlines()
    kept = [line for line in lines if not line.strip().startswith("selection_target:")]
    assert len(kept) == len(lines) - 1
    path.write_text("\n".join(kept) + "\n")
    config = read_run_config(run_copy, [])
    check_same_config(run_copy, config)
    changed = config.replaced({"training": {"selection_target": "sum"}})
    with pytest.raises(UserError, match="selection_target = 'mean', not 'sum'"):
        check_same_config(run_copy, changed)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "start.json").unlink(), r"how the run was started not found: .*start\.json"),
        (lambda run: (run / "start.json").write_text("[]"), r"start\.json: not the record of how a run was"),
        (
            lambda run: (run / "start.json").write_text(json.dumps({"ds_config": {"zero": 1}})),
            r"start\.json: unknown key 'zero'",
        ),
        (lambda run: (run / "ds_ckpt/latest").write_text("../x"), "is not the name of a checkpoint"),
        (
            lambda run: (run / "ds_ckpt/latest").write_text("step-99999"),
            r"step-99999\.safetensors, which is not",
        ),
    ],
)
def test_a_damaged_run_is_one_line(run_copy, distributed, damage, message):
    """A traceback, or a training that begins anew over the old one's results."""
    config = read_run_config(run_copy, [])
    damage(run_copy)
    with pytest.raises(UserError, match=message) as caught:
        training.train(dialogue_task(config), distributed, "", resume=str(run_copy))
    assert "\n" not in str(caught.value)


def test_a_finished_run_is_said_to_be(run_copy, distributed, capsys):
    """`--resume` in a loop of a queue would train it once more."""
    before = _kept(run_copy)
    assert (
        training.train(dialogue_task(read_run_config(run_copy, [])), distributed, "", resume=str(run_copy))
        == run_copy
    )
    assert "epoch(s) are trained" in capsys.readouterr().out
    assert _kept(run_copy) == before


@pytest.mark.parametrize("name", ["train", "base_model"])
def test_other_data_than_at_the_start_is_refused(run_copy, distributed, name):
    """The rest of an epoch from another file, or LM: a mixture that no hash of the run tells of."""
    files = open_checkpoint(run_copy)[1].files
    _change_progress(run_copy, {"epoch": 2, "files": {**files, f"{name}_sha256": "0"}})
    config = read_run_config(run_copy, [])
    path = config.dataset.train if name == "train" else config.model.model_name
    with pytest.raises(UserError, match=f"{path} has changed since the run began"):
        training.train(dialogue_task(config), distributed, "", resume=str(run_copy))


def _change_progress(run, changes):
    """Forge the progress of a run's newest checkpoint."""
    tag = (run / "ds_ckpt/latest").read_text().strip()
    path = run / f"ds_ckpt/{tag}.safetensors"
    progress = open_checkpoint(run)[1].replaced(changes)
    save_file(load_file(path), path, {"progress": progress_to_json(progress)})


def test_a_second_sigterm_does_not_end_the_save(make_config, distributed, tmp_path, monkeypatch):
    """DeepSpeed's launcher sends one for each signal that it gets: the last steps, and perhaps the ranks, are lost."""
    due, save = loop.Trainer._save_if_due, loop.save_checkpoint

    def ask(self):
        self.stop.is_asked = self.steps == 3
        due(self)

    def save_checkpoint(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        save(*arguments)

    monkeypatch.setattr(loop.Trainer, "_save_if_due", ask)
    monkeypatch.setattr(loop, "save_checkpoint", save_checkpoint)
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("the second one came through"))
    try:
        with pytest.raises(Terminated, match="step 3 is kept; go on with --resume=.*"):
            train(make_config(training={**TRAINING, "save_steps": 0}), distributed, "run")
    finally:
        signal.signal(signal.SIGTERM, before)
    (run,) = (tmp_path / "runs").iterdir()
    assert open_checkpoint(run)[1].steps == 3


def test_the_best_figure_is_known_after_a_stop(run_copy, distributed):
    """The best epoch's trained part gives way to that of a worse one; or parts of killed saves fill the disk."""
    _change_progress(run_copy, {"epoch": 2, "best": 0.0})
    best = (run_copy / "trained.safetensors").read_bytes()
    (run_copy / "ds_ckpt" / ".part-0").write_bytes(b"x")
    config = read_run_config(run_copy, [])
    training.train(dialogue_task(config), distributed, "", resume=str(run_copy))
    assert not list(run_copy.rglob(".part-*"))
    assert (run_copy / "trained.safetensors").read_bytes() == best
    assert open_checkpoint(run_copy)[1].best == 0.0


def test_a_run_that_keeps_nothing_is_not_begun_anew(make_config, distributed, tmp_path):
    """`--resume` would delete the logs of a finished training, and train it again."""
    config = make_config(training={**TRAINING, "save_model": False})
    run = train(config, distributed, "run")
    before = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="this run keeps nothing"):
        training.train(dialogue_task(config), distributed, "", resume=str(run))
    assert (run / "metrics.jsonl").read_bytes() == before
