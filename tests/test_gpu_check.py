"""`make gpu` itself, as far as a machine without a GPU can tell."""

import json
import sys

import pytest
import torch

from tests import gpu_check
from tests.benchmark.measure import WAYS
from tests.benchmark.setting import SIZES
from tests.gpu_check import PLAN, Benchmark, check, failures, run_tests, summary

TINY = ("--share=0.02", "--batch=4", "--examples=4")
WAY = "train rows: dialogue, bf16"
SOME = """
import time, pytest
def test_good(): pass
def test_bad(): assert 1 == 2, "one is not two"
@pytest.mark.skip(reason="not here")
def test_left_out(): pass
"""
FINE = {
    "device": "cpu",
    "torch": "2",
    "seconds": 1.0,
    "tests": {"passed": 1, "failed": 0, "skipped": 0, "ended": True, "cases": []},
    "benchmarks": [{"size": "tiny", "rows": []}],
}


def test_without_a_gpu_one_line_says_so(monkeypatch, capsys, tmp_path):
    """A machine without a GPU would fail a step that has nothing to check there, or leave figures of nothing."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_check", f"--out={tmp_path / 'gpu.json'}"])
    gpu_check.main()
    assert capsys.readouterr().out == "no CUDA device: nothing was checked\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fault", [None, "no memory"])
def test_one_json_and_the_exit_status(monkeypatch, capsys, tmp_path, fault):
    """A failed way that is not told by the exit status is found by nobody who runs this in a script."""
    rows = [{"way": WAY, "failed": fault}] if fault else []
    report = {**FINE, "benchmarks": [{"size": "tiny", "rows": rows}]}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a device")
    monkeypatch.setattr(gpu_check, "check", lambda device, plan, tests: dict(report))
    out = tmp_path / "results" / "gpu.json"
    monkeypatch.setattr(sys, "argv", ["gpu_check", f"--out={out}"])
    if fault:
        with pytest.raises(SystemExit, match="1"):
            gpu_check.main()
        assert f"failed: tiny, {WAY}: no memory" in capsys.readouterr().out
    else:
        gpu_check.main()
    assert json.loads(out.read_text(encoding="utf-8")) == {**report, "device": "a device"}


@pytest.mark.slow
@pytest.mark.long
def test_tests_and_benchmark_in_one_report():
    """Nothing else runs the two together before a GPU is at hand, where each minute counts."""
    tests = ["tests/test_gpu.py::test_replies_are_those_of_the_cpu[opt-cpu]"]
    report = json.loads(json.dumps(check("cpu", [Benchmark("tiny", (WAY,), TINY)], tests), allow_nan=False))
    assert report.keys() == FINE.keys()
    assert failures(report) == []
    (case,) = report["tests"]["cases"]
    assert case["name"] == "tests.test_gpu::test_replies_are_those_of_the_cpu[opt-cpu]"
    assert (case["outcome"], report["tests"]["passed"]) == ("passed", 1)
    ((row,),) = (each["rows"] for each in report["benchmarks"])
    assert (row["way"], row["precision"]) == (WAY, "bf16")
    assert row["examples_per_second"] > 0
    assert row["matrix_share"] > 0
    assert "tests: 1 passed, 0 failed, 0 skipped" in summary(report)


@pytest.mark.slow
def test_a_failed_test_is_told_with_its_reason(tmp_path):
    """A table that looks complete, of a device that computes something else."""
    (tmp_path / "test_some.py").write_text(SOME, encoding="utf-8")
    tested = run_tests([str(tmp_path)], limit=120)
    assert {name: tested[name] for name in ("passed", "failed", "skipped", "ended")} == {
        "passed": 1,
        "failed": 1,
        "skipped": 1,
        "ended": True,
    }
    (line,) = failures({**FINE, "tests": tested})
    assert line.endswith("test_bad: AssertionError: one is not two")


@pytest.mark.slow
@pytest.mark.long
def test_tests_over_their_limit_keep_what_they_have_shown(tmp_path):
    """One test that hangs would take the benchmark's time, and the results of all others with it."""
    endless = "def test_endless():\n    while True: print('.', flush=True); time.sleep(0.1)\n"
    (tmp_path / "test_some.py").write_text(SOME + endless, encoding="utf-8")
    tested = run_tests([str(tmp_path), "-s"], limit=15)
    assert not tested["ended"]
    assert (tested["passed"], tested["failed"]) == (1, 1)
    assert "the tests did not come to their end" in failures({**FINE, "tests": tested})


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"way_limit": 0.5}, "took more than 0 s"), ({"limit": 0.5}, "no time was left of 0 s")],
)
def test_a_slow_way_is_a_failure_in_the_report(monkeypatch, limits, reason):
    """It would take the ten minutes of all others, and nothing would be written at all."""
    monkeypatch.setattr(gpu_check, "run_tests", lambda arguments, limit: FINE["tests"])
    report = check("cpu", [Benchmark("tiny", (WAY,), TINY)], [], **limits)
    assert failures(report) == [f"tiny, {WAY}: {reason}"]


def test_the_plan_names_what_there_is():
    """A way that was renamed would be found when the device is at hand, and cost a part of its time."""
    assert [benchmark.size for benchmark in PLAN] == ["llama2-7b", "opt-2.7b", "opt-1.3b", "opt-125m"]
    assert all(set(benchmark.ways or ()) <= set(WAYS) and benchmark.size in SIZES for benchmark in PLAN)
