"""Memory and time of ranking and merging, as a user types them, on a questions file of any size.

python -m tests.companions.lamp.benchmark_memory --questions 20000 --items 200 --ranker recency
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.companions.lamp.made_files import write_outputs, write_questions

ROOT = Path(__file__).resolve().parents[3]
# nothing else is imported here: Linux counts what this process has taken before a command begins as the command's


def measure(folder: Path, count: int, items: int, words: int, ranker: str) -> dict[str, float]:
    """Make a file, rank it and merge it, each in a process of its own.

    Args:
        folder: for the files.
        count: questions.
        items: of each profile.
        words: of each item, on average.
        ranker: its name.

    Returns:
        Size of the file in MB, and of both commands the seconds by the clock and of processor time, and the largest
        resident memory in MB.
    """
    questions, outputs, ranking, merged = (
        str(folder / name) for name in ("questions.json", "outputs.json", "ranking.json", "merged.json")
    )
    write_questions(Path(questions), count, items, words)
    write_outputs(Path(outputs), count)
    rank = (
        f"rank_profiles --input_data_addr {questions} --output_ranking_addr {ranking} "
        f"--task LaMP-3 --ranker {ranker}"
    )
    merge = (
        f"merge_with_rank --lamp_questions_addr {questions} --lamp_output_addr {outputs} "
        f"--profile_ranking_addr {ranking} --merged_output_addr {merged}"
    )
    figures = {"questions": count, "file_mb": round(os.path.getsize(questions) / 1e6)}
    for name, command in (("rank", rank), ("merge", merge)):
        seconds, cpu, peak = _run(command.split())
        figures |= {
            f"{name}_wall": round(seconds, 1),
            f"{name}_cpu": round(cpu, 1),
            f"{name}_mb": round(peak),
        }
    return figures


def _run(command: list[str]) -> tuple[float, float, float]:
    """Seconds of a command of the companion by the clock and of processor time, and its largest memory in MB."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", f"companions.lamp.{command[0]}", *command[1:]],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"it failed: {' '.join(command)}")
    used = usage.ru_utime + usage.ru_stime
    return time.perf_counter() - start, used, usage.ru_maxrss / 1e3  # KB on Linux


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--items", type=int, default=200, help="of each profile")
    parser.add_argument("--words", type=int, default=8, help="of each item, on average")
    parser.add_argument("--ranker", default="recency")
    args = parser.parse_args()
    for count in args.questions:
        with tempfile.TemporaryDirectory() as folder:
            figures = measure(Path(folder), count, args.items, args.words, args.ranker)
        print(json.dumps({"ranker": args.ranker, **figures}), flush=True)


if __name__ == "__main__":
    main()
