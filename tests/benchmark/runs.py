"""Ways run one after the other, each in its own process; what the rows that come back say."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from tests.progress import Hangs, TooSlow, run_while_it_moves


def run_way(way: str, arguments: Sequence[str], limit: float = float("inf")) -> dict[str, Any]:
    """The figures of one way, or why there are none.

    Args:
        way: a name of tests.benchmark.measure.WAYS.
        arguments: flags of `python -m tests.benchmark`.
        limit: seconds that it may take.

    Returns:
        See tests.benchmark.measure.measure; or `way` and `failed`, one line.
    """
    print(f"measuring: {way}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "tests.benchmark", *arguments, "--way", way]
    try:
        done = run_while_it_moves(command, limit=limit)
    except TooSlow as error:
        return _failed(way, str(error))
    except Hangs as error:
        return _failed(way, str(error).splitlines()[0])
    if done.returncode:
        return _failed(way, (done.stderr.strip().splitlines() or ["no output"])[-1])
    return json.loads(done.stdout.strip().splitlines()[-1])


def _failed(way: str, reason: str) -> dict[str, Any]:
    print(f"{way}: failed: {reason}", file=sys.stderr, flush=True)
    return {"way": way, "failed": reason}


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
