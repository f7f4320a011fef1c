"""Run the ways one after the other, each in its own process; print a table and write JSON."""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from tests.benchmark.measure import WAYS, measure
from tests.benchmark.setting import SAMPLE, SIZES
from utils.errors import UserError, existing_file, nearest, run_main


def main() -> None:
    """Measure all ways, or one in this process when --way names it."""
    args = _arguments()
    existing_file(args.data, "dialogue file")
    if args.way:
        if args.way not in WAYS:
            raise UserError(f"--way '{args.way}'{nearest(args.way, WAYS)}")
        print(json.dumps(measure(args.way, args)))
        return
    wanted = [way for way in WAYS if args.only is None or args.only in way]
    rows = [_in_own_process(way) for way in wanted]
    machine = (
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    )
    if args.device == "cuda":
        machine = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    print(table(rows, f"{args.size}, {args.data}, {machine}"))
    print(agreement(rows))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"machine": machine, "size": args.size, "rows": rows}, indent=2) + "\n")
    print(f"written: {args.out}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="opt-125m", help="size of the LM; random weights")
    parser.add_argument("--data", type=Path, default=SAMPLE, help="a ConvAI2 file; default: the sample")
    parser.add_argument("--share", type=float, default=0.1, help="share of its dialogues that is read")
    parser.add_argument("--batch", type=int, default=10, help="examples per batch, rows: dialogue")
    parser.add_argument("--example_batch", type=int, default=2, help="examples per batch, rows: example")
    parser.add_argument("--examples", type=int, default=64, help="examples that rows: dialogue is timed on")
    parser.add_argument("--example_examples", type=int, default=16, help="the same for rows: example")
    parser.add_argument("--baseline_examples", type=int, default=2, help="the same for the baseline")
    parser.add_argument("--decoded", type=int, default=128, help="examples that are decoded")
    parser.add_argument("--baseline_decoded", type=int, default=16, help="the same for the baseline")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda"
    )
    parser.add_argument("--precision", type=lambda text: text if text == "bf16" else int(text), default=32)
    parser.add_argument("--only", help="measure the ways whose name holds this text")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("runs_bench/results.json"), help="figures as JSON")
    return parser.parse_args()


def _in_own_process(way: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmark", *sys.argv[1:], "--way", way]
    print(f"measuring: {way}", file=sys.stderr, flush=True)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        print(f"{way}: failed: {reason}", file=sys.stderr)
        return {"way": way, "failed": reason}
    return json.loads(done.stdout.strip().splitlines()[-1])


def agreement(rows: list[dict[str, Any]]) -> str:
    """How far the losses of the same two examples lie apart between the ways of one precision."""
    losses = [row["losses"] for row in rows if "losses" in row and row["precision"] == "32"]
    if len(losses) < 2:
        return ""
    apart = max(abs(losses[0][name] - other[name]) for other in losses[1:] for name in losses[0])
    return f"the float32 losses of the same two examples differ by {apart:.1e} at most"


def table(rows: list[dict[str, Any]], title: str) -> str:
    """A Markdown table; `times` is against the baseline of the same kind."""
    lines = [
        title,
        "",
        "| way | examples/s | times | peak GiB | tokens/example | share of matrix rate |",
        "|---|---|---|---|---|---|",
    ]
    baseline: dict[str, float] = {}
    for row in rows:
        kind = row["way"].split()[0].rstrip(",")
        if "failed" in row:
            lines.append(f"| {row['way']} | failed | | | | |")
            continue
        if "baseline" in row["way"]:
            baseline[kind] = row["examples_per_second"]
        times = f"{row['examples_per_second'] / baseline[kind]:.1f}" if kind in baseline else ""
        tokens = f"{row['tokens_per_example']:.0f}" if "tokens_per_example" in row else ""
        share = f"{100 * row['matrix_share']:.0f} %" if "matrix_share" in row else ""
        rate = f"{row['examples_per_second']:.3f}"
        lines.append(f"| {row['way']} | {rate} | {times} | {row['peak_gib']:.2f} | {tokens} | {share} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_main(main)
