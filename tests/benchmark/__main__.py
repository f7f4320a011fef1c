"""Run the ways one after the other, each in its own process; print a table and write JSON."""

import argparse
import json
import os
import platform
import sys
from pathlib import Path

import torch

from tests.benchmark.measure import WAYS, measure
from tests.benchmark.runs import agreement, run_way, table
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
    rows = [run_way(way, sys.argv[1:]) for way in wanted]
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


if __name__ == "__main__":
    run_main(main)
