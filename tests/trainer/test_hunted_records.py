"""Records of a training that nobody wrote by hand: each is read, or refused in one line."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hunted import files, judged, judged_file, values, with_a_part_replaced
from trainer.ds_config import DEFAULT_PATH, complete_ds_config, read_ds_config
from trainer.engine import check_ds_config
from trainer.logs import RunLog, Tally
from trainer.progress import Progress, Sums, progress_from_json, progress_to_json
from trainer.resume import START, Start, read_start, start_to_json

DS_CONFIG = {
    **json.loads(DEFAULT_PATH.read_text(encoding="utf-8")),
    "zero_optimization": {"stage": 2, "reduce_bucket_size": 5e8, "offload_optimizer": {"device": "cpu"}},
    "data_types": {"grad_accum_dtype": "fp32"},
    "bf16": {"enabled": True},
    "flops_profiler": {"enabled": False},
}
PROGRESS = Progress(
    done=((1, 2),),
    steps=2,
    total_steps=8,
    best=0.5,
    updates={"w": 2},
    recent_sums=Sums(examples=4, losses={"a": 1.0}, counts={"a": 4}, diagnostics={"d": [1.0, [2.0]]}),
    logs={"metrics.jsonl": 10},
    files={"train_sha256": "ab"},
)
START_TEXT = start_to_json(Start(ds_config={"steps_per_print": 10, "zero_optimization": {"stage": 2}}))


def _usable(path: Path) -> None:
    for precision in (32, "bf16"):
        completed, _ = complete_ds_config(read_ds_config(path), 4, 1.0, precision)
        check_ds_config(completed)


@pytest.fixture(autouse=True)
def quiet(caplog):
    """DeepSpeed logs what it reads."""
    caplog.set_level("CRITICAL")


@given(content=files(json.dumps(DS_CONFIG, indent=1)))
def test_deepspeed_configurations(tmp_path, survived, content):
    """A comma too many ends a start on 64 ranks with 64 tracebacks."""
    judged_file(read_ds_config, tmp_path / "ds.json", content, by_line=False)
    survived("bad inputs")


@given(value=values, random=st.randoms(use_true_random=False))
def test_deepspeed_configurations_with_any_value(tmp_path, survived, value, random):
    """A value of another kind met DeepSpeed's own code, which raises whatever it stumbles over."""
    path = tmp_path / "ds.json"
    path.write_bytes(json.dumps(with_a_part_replaced(DS_CONFIG, value, random)).encode())
    judged(lambda: _usable(path))
    survived("bad inputs")


def _tally(text: str, distributed) -> None:
    progress = progress_from_json(text, "a checkpoint")
    for sums in (progress.epoch_sums, progress.recent_sums):
        Tally().go_on(sums, distributed)


@given(content=files(progress_to_json(PROGRESS)))
def test_progress(survived, distributed, content):
    """The progress in a checkpoint's header is anybody's text."""
    judged(lambda: _tally(content.decode("utf-8", "replace"), distributed))
    survived("bad inputs")


@given(value=values, random=st.randoms(use_true_random=False))
def test_progress_of_any_values(survived, distributed, value, random):
    """JSON of another form: a count below zero or beyond all steps, sums that are texts."""
    content = with_a_part_replaced(json.loads(progress_to_json(PROGRESS)), value, random)
    judged(lambda: _tally(json.dumps(content), distributed))
    survived("bad inputs")


@given(content=files(START_TEXT))
def test_starts(tmp_path, survived, content):
    """A run folder from somebody else says with which DeepSpeed configuration it goes on."""
    path = tmp_path / START
    path.write_bytes(content)
    judged(lambda: read_start(tmp_path), path)
    survived("bad inputs")


@given(value=values, random=st.randoms(use_true_random=False))
def test_starts_of_any_values(tmp_path, survived, value, random):
    """Valid JSON that is no start."""
    path = tmp_path / START
    path.write_text(json.dumps(with_a_part_replaced(json.loads(START_TEXT), value, random)))
    judged(lambda: read_start(tmp_path), path)
    survived("bad inputs")


@given(content=files('{"phase": "warning", "step": 1, "fault": "a"}\n{"phase": "train", "step": 1}\n'))
def test_log_rows(tmp_path, survived, distributed, content):
    """What a resumed run has said already is read from a file that a disk may have damaged."""
    path = tmp_path / "metrics.jsonl"
    log = RunLog(tmp_path, distributed)
    try:
        path.write_bytes(content)
        judged(lambda: log.rows("warning"), path)
    finally:
        log.close()
        for board in tmp_path.glob("events.*"):
            board.unlink()
    survived("bad inputs")
