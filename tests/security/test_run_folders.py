"""A run folder from somebody else: its checkpoints are data, and nothing in it leads elsewhere."""

import json
import os
import pickle
import shutil

import pytest
import torch

from models.decoding.runs import load_run, read_run_config
from models.dialogue_task import dialogue_task
from models.trained_part import read_trained
from trainer.checkpoints import open_checkpoint
from trainer.logs import RunLog
from trainer.resume import read_start
from trainer.training import train
from utils.runs import find_runs
from utils.untrusted import LARGEST_HEADER

TRAINED = "trained.safetensors"
STATES = "mp_rank_00_model_states.pt"
PROMPT = "models.0.prompt_encoder.default.embedding.weight"


@pytest.mark.parametrize("write", [lambda value, path: path.write_bytes(pickle.dumps(value)), torch.save])
def test_the_authors_pickles_run_no_command(tmp_path, refused, evil, write):
    """The release's files are pickles, which can run any command when they are read."""
    states, settings = (
        tmp_path / "run" / "ds_ckpt" / "best" / STATES,
        tmp_path / "run" / "checkpoint_best.pth",
    )
    states.parent.mkdir(parents=True)
    write({"module": {PROMPT: evil}}, states)
    write({"config": evil}, settings)
    refused(read_trained, tmp_path / "run")
    refused(read_run_config, tmp_path / "run")


def test_our_own_checkpoints_are_no_pickles(run_copy, refused, evil):
    """Under the names of our files, too, a pickle is refused and not read."""
    for path in (run_copy / TRAINED, run_copy / "ds_ckpt" / "step-1.safetensors"):
        path.write_bytes(pickle.dumps(evil))
    (run_copy / "ds_ckpt" / "latest").write_text("step-1\n")
    assert "not a readable safetensors file" in refused(read_trained, run_copy)
    assert "not a readable safetensors file" in refused(open_checkpoint, run_copy)


def test_deepspeeds_own_checkpoints_are_not_read(run_copy, refused, evil):
    """DeepSpeed's loader unpickles whatever `latest` names; it is not asked."""
    folder = run_copy / "ds_ckpt" / "global_step1"
    folder.mkdir(parents=True)
    torch.save({"module": evil}, folder / STATES)
    torch.save({"optimizer_state_dict": evil}, folder / "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    (run_copy / "ds_ckpt" / "latest").write_text("global_step1\n")
    assert "'global_step1' is not the name of a checkpoint that --resume can read" in refused(
        open_checkpoint, run_copy
    )


@pytest.mark.parametrize(
    "tag", ["../../elsewhere/step-1", "/etc/step-1", "step-1/../x", "step-\n1", "step-1\0", ""]
)
def test_a_mark_names_a_checkpoint_of_its_run_only(run_copy, refused, tag):
    """A mark with a path in it has a file of another run, or any file, read as the checkpoint."""
    (run_copy / "ds_ckpt" / "latest").write_text(tag)
    refused(open_checkpoint, run_copy)


@pytest.mark.parametrize("name", [TRAINED, "ds_ckpt/step-1.safetensors"])
def test_a_header_of_a_checkpoint_takes_little_memory(run_copy, refused, name):
    """The library parses a header of up to 100 MB, which takes ten times as much."""
    with (run_copy / name).open("wb") as file:
        file.write((LARGEST_HEADER + 1).to_bytes(8, "little"))
        file.truncate(100 << 20)
    (run_copy / "ds_ckpt" / "latest").write_text("step-1\n")
    assert "its header would have" in refused(read_trained if name == TRAINED else open_checkpoint, run_copy)


@pytest.mark.parametrize("name", ["config.yml", TRAINED, "start.json", "ds_ckpt/step-1.safetensors"])
def test_a_link_out_of_a_run_folder_is_refused(run_copy, refused, tmp_path, name):
    """A link to a file of the reader's own has it read as the run's."""
    outside = tmp_path / "outside"
    shutil.copy(run_copy / TRAINED, outside)
    (run_copy / name).unlink(missing_ok=True)
    (run_copy / name).symlink_to(outside)
    (run_copy / "ds_ckpt" / "latest").write_text("step-1\n")
    readers = {"config.yml": read_run_config, TRAINED: read_trained, "start.json": read_start}
    assert "leads out of its folder" in refused(readers.get(name, open_checkpoint), run_copy)


def test_logs_are_appended_to_in_the_run_folder_only(run_copy, refused, tmp_path, distributed):
    """A run that goes on writes, and cuts, where metrics.jsonl is a link to."""
    outside = tmp_path / "outside"
    outside.write_text("mine\n")
    (run_copy / "metrics.jsonl").unlink()
    (run_copy / "metrics.jsonl").symlink_to(outside)
    refused(RunLog, run_copy, distributed, {})
    (run_copy / "metrics.jsonl").unlink()
    os.mkfifo(run_copy / "metrics.jsonl")
    refused(RunLog, run_copy, distributed, {})
    assert outside.read_text() == "mine\n"


@pytest.mark.parametrize(
    "ds_config",
    [
        {"flops_profiler": {"enabled": True, "profile_step": 1, "output_file": "OUTSIDE"}},
        {"csv_monitor": {"enabled": True, "output_path": "OUTSIDE"}},
        {"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme", "nvme_path": "OUTSIDE"}}},
    ],
)
def test_a_run_that_goes_on_writes_where_it_is(run_copy, refused, tmp_path, distributed, ds_config):
    """DeepSpeed's profiler writes over any file that its configuration names, and start.json holds one."""
    outside = tmp_path / "outside"
    start = json.loads((run_copy / "start.json").read_text())
    start["ds_config"] = json.loads(json.dumps(ds_config).replace("OUTSIDE", str(outside)))
    (run_copy / "start.json").write_text(json.dumps(start))
    message = refused(
        train, dialogue_task(read_run_config(run_copy)), distributed, None, resume=str(run_copy)
    )
    assert "writes outside of the run" in message
    assert not outside.exists()


@pytest.mark.parametrize("name", ["ds_ckpt", "whole_model", "ds_ckpt/best"])
def test_a_run_that_goes_on_leaves_other_runs_alone(run_copy, refused, tmp_path, name):
    """With `ds_ckpt` as a link to another run's, checkpoints were written there, and the other run's deleted."""
    outside = tmp_path / "another run"
    outside.mkdir()
    if (run_copy / name).is_dir():
        shutil.rmtree(run_copy / name)
    (run_copy / name).unlink(missing_ok=True)
    (run_copy / name).symlink_to(outside)
    assert "leads out of its folder" in refused(read_start, run_copy)


def test_results_replace_a_link_and_are_not_written_through_it(run_copy, tmp_path):
    """Results that are written through a planted link destroy the file that it points to."""
    from utils.files import write_together

    outside = tmp_path / "outside"
    outside.write_text("mine\n")
    (run_copy / "evaluation_result.txt").symlink_to(outside)
    write_together(run_copy, {"evaluation_result.txt": "result"})
    assert outside.read_text() == "mine\n"
    assert (run_copy / "evaluation_result.txt").read_text() == "result"


def test_a_run_that_asks_for_more_than_its_file_holds(run_copy, refused):
    """A config.yml of one kB that asks for a retriever of a million layers fills the memory."""
    config = read_run_config(run_copy, ["model.K=3"])
    state, _ = read_trained(run_copy)
    assert config.model.peft_config.num_virtual_tokens == state["soft_prompts.weight"].shape[1]
    large = read_run_config(run_copy, ["model.peft_config.num_virtual_tokens=30000"])
    assert "the configuration asks for 30000" in refused(load_run, run_copy, large)


def test_pipes_in_a_run_folder_are_not_waited_for(run_copy, refused):
    """Opening a pipe waits for a writer that never comes."""
    for name in ("config.yml", TRAINED):
        (run_copy / name).unlink()
        os.mkfifo(run_copy / name)
    refused(read_run_config, run_copy)
    shutil.rmtree(run_copy / "ds_ckpt")
    refused(read_trained, run_copy)
    refused(find_runs, run_copy)


def test_start_json_of_megabytes(run_copy, refused):
    """It is read whole."""
    (run_copy / "start.json").write_text(json.dumps({"ds_config": {"a": "x" * (2 << 20)}}))
    assert "more than 1 MiB" in refused(read_start, run_copy)
