"""`make gpu`: the tests that need a CUDA device and the benchmark on it, in ten minutes at most and one JSON file."""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

from tests.benchmark.runs import run_way, table
from tests.progress import Hangs, TooSlow, run_while_it_moves
from utils.errors import run_main
from utils.files import write_whole

LIMIT = 590.0  # seconds of everything
TESTS_LIMIT = 240.0  # of the tests, so that the benchmark has its time
WAY_LIMIT = 60.0  # of one way of the benchmark

_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Benchmark:
    """Ways that are measured at one size.

    Args:
        size: of tests.benchmark.setting.SIZES.
        ways: of tests.benchmark.measure.WAYS; None: all.
        flags: further flags of `python -m tests.benchmark`.
    """

    size: str
    ways: tuple[str, ...] | None
    flags: tuple[str, ...] = ()


_LARGE = ("train rows: dialogue, bf16", "train baseline", "decode, batch of 32")
_IN_BF16 = ("--precision=bf16", "--batch=16", "--examples=128")
PLAN = (
    # the largest first: its share of the matrix rate is what the table is for
    Benchmark("llama2-7b", _LARGE, _IN_BF16),
    Benchmark("opt-2.7b", _LARGE, _IN_BF16),
    Benchmark("opt-1.3b", _LARGE, _IN_BF16),
    Benchmark("opt-125m", None, ("--examples=256",)),
)


def main() -> None:
    """Check the CUDA device; exit with 1 where something failed, and with 0 where there is no device."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs_bench/gpu.json"), help="results as JSON")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device: nothing was checked")
        return
    report = check("cuda", PLAN, ("-m", "gpu"))
    report["device"] = torch.cuda.get_device_name()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(args.out, json.dumps(report, indent=2) + "\n")
    print(summary(report))
    print(f"written: {args.out}")
    if failures(report):
        sys.exit(1)


def check(
    device: str,
    plan: Sequence[Benchmark],
    tests: Sequence[str],
    limit: float = LIMIT,
    tests_limit: float = TESTS_LIMIT,
    way_limit: float = WAY_LIMIT,
) -> dict[str, Any]:
    """Run tests and benchmarks on a device.

    Args:
        device: cuda or cpu.
        plan: what is measured, the most important first.
        tests: arguments of pytest that select the tests.
        limit: seconds of everything. What there is no time for is a failure in the report.
        tests_limit: of the tests.
        way_limit: of one way.

    Returns:
        `device`, `torch`, `seconds`, `tests` (see `run_tests`), and `benchmarks`: each with `size` and
        `rows`, which are those of tests.benchmark.
    """
    start = time.monotonic()

    def left() -> float:
        return max(limit - (time.monotonic() - start), 0.0)

    from tests.benchmark.measure import WAYS  # imports deepspeed, which speaks of devices

    tested = run_tests(tests, min(tests_limit, left()))
    benchmarks = []
    for benchmark in plan:
        flags = [f"--size={benchmark.size}", f"--device={device}", *benchmark.flags]
        rows = []
        for way in benchmark.ways or WAYS:
            if left() < 1:
                rows.append({"way": way, "failed": f"no time was left of {limit:.0f} s"})
            else:
                rows.append(run_way(way, flags, min(way_limit, left())))
        benchmarks.append({"size": benchmark.size, "rows": rows})
    return {
        "device": device,
        "torch": torch.__version__,
        "seconds": time.monotonic() - start,
        "tests": tested,
        "benchmarks": benchmarks,
    }


def run_tests(arguments: Sequence[str], limit: float) -> dict[str, Any]:
    """Run pytest with `arguments`.

    Returns:
        `passed`, `failed` and `skipped`, the numbers of tests; `ended`, whether it came to its end within `limit`
        seconds, and `cases`: `name`, `outcome`, `seconds`, and the first line of what is wrong.
    """
    print("testing", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "tests.xml"
        command = [sys.executable, "-m", "pytest", f"--junitxml={written}", *arguments]
        try:
            done = run_while_it_moves(command, cwd=_ROOT, env=_environment(), limit=limit)
            ended = done.returncode in (0, 1)  # of pytest: all passed, some failed
            cases = _cases(written) if written.is_file() else []
        except (TooSlow, Hangs):
            ended = False
            # an interrupted pytest has written what it had; of the last test, that nothing was wrong so far
            cases = _cases(written)[:-1] if written.is_file() else []
    counts = {
        outcome: sum(case["outcome"] == outcome for case in cases)
        for outcome in ("passed", "failed", "skipped")
    }
    return {**counts, "ended": ended, "cases": cases}


def _environment() -> dict[str, str]:
    """This process's own, without what would give the tests another device than they ask for."""
    return {name: value for name, value in os.environ.items() if name != "DS_ACCELERATOR"}


def _cases(path: Path) -> list[dict[str, Any]]:
    """The tests of a file that pytest wrote."""
    cases = []
    for case in ElementTree.parse(path).iter("testcase"):
        faults = [child for child in case if child.tag in ("failure", "error", "skipped")]
        outcome = "passed"
        if faults:
            outcome = "skipped" if faults[0].tag == "skipped" else "failed"
        message = (faults[0].get("message") or "").strip().splitlines() if faults else []
        cases.append(
            {
                "name": f"{case.get('classname')}::{case.get('name')}",
                "outcome": outcome,
                "seconds": float(case.get("time") or 0),
                "message": message[0] if message else "",
            }
        )
    return cases


def failures(report: Mapping[str, Any]) -> list[str]:
    """What failed, one line each."""
    tested = report["tests"]
    lines = [f"{case['name']}: {case['message']}" for case in tested["cases"] if case["outcome"] == "failed"]
    if not tested["ended"]:
        lines.append("the tests did not come to their end")
    if not tested["passed"]:
        lines.append("no test passed")
    return lines + [
        f"{benchmark['size']}, {row['way']}: {row['failed']}"
        for benchmark in report["benchmarks"]
        for row in benchmark["rows"]
        if "failed" in row
    ]


def summary(report: Mapping[str, Any]) -> str:
    """The tables, the numbers of tests, and what failed."""
    tested, device = report["tests"], f"{report['device']}, torch {report['torch']}"
    tables = [table(each["rows"], f"{each['size']}, {device}") for each in report["benchmarks"]]
    counts = ", ".join(f"{tested[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped"))
    last = f"tests: {counts}; {report['seconds']:.0f} s in all"
    return "\n".join(
        ["\n\n".join(tables), "", last, *(f"failed: {line}" for line in failures(report))]
    ).strip()


if __name__ == "__main__":
    run_main(main)
