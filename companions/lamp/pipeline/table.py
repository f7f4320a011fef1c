"""The table of all systems: what each predicts, its official metrics, and p against the LM without a profile.

`python -m companions.lamp.pipeline.table --task LaMP-3 --rspg_data RSPG_DEV --golds DEV_OUTPUTS --out FOLDER
--systems rspg-pre=PREDICTIONS rspg-post=PREDICTIONS`
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from companions.lamp.comparison import compare_systems
from companions.lamp.evaluation import write_metrics
from companions.lamp.questions import write_outputs
from companions.lamp.rspg.data import Row, read_rows
from companions.lamp.significance import LEVEL
from companions.lamp.tasks import Task, task_of
from utils.config.flags import Parser
from utils.errors import UserError, run_main
from utils.files import write_whole

ORACLE = "oracle"
TEXT, ROWS = "table.txt", "table.json"
LABELS = {
    "none": "no profile",
    "recency": "recency",
    "bm25": "BM25",
    "contriever": "Contriever",
    "ropg-kd": "ROPG-KD",
    "ropg-rl": "ROPG-RL",
    "rspg-pre": "RSPG-Pre",
    "rspg-post": "RSPG-Post",
    ORACLE: "oracle over strategies",
}
"""what the table calls strategies and systems"""


def parser() -> Parser:
    """The flags."""
    flags = Parser(
        description="Strategies, systems that choose among them, and the best choice, in one table."
    )
    flags.add_argument("--task", type=task_of, required=True, help="LaMP-1 to LaMP-7")
    flags.add_argument(
        "--rspg_data",
        type=Path,
        required=True,
        metavar="FILE",
        help="outputs under each strategy (create_data)",
    )
    flags.add_argument("--golds", type=Path, required=True, metavar="FILE", help="the right outputs")
    flags.add_argument(
        "--systems", nargs="*", default=[], metavar="NAME=FILE", help="predictions of further systems"
    )
    flags.add_argument("--note", default="", help="stands below the table")
    flags.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="gets predictions, table.json and table.txt"
    )
    return flags


def compare(args: argparse.Namespace) -> None:
    """Write the predictions of each strategy and of the best choice, and the table of these and of further systems.

    Raises:
        UserError: a file that is not of its form, or without an output for each question.
    """
    rows = list(read_rows(str(args.rspg_data), args.task))
    paths = _write_predictions(rows, args.task, args.out)
    oracle = paths.pop(ORACLE)
    for system in args.systems:
        name, _, path = system.partition("=")
        if not path:
            raise UserError(f"--systems {system}: write NAME=FILE")
        paths[name] = Path(path)
    paths[ORACLE] = oracle
    name_of = {str(path): name for name, path in paths.items()}
    compared = compare_systems(args.task, args.golds, list(paths.values()))
    figures = [row | {"system": name_of[row["system"]]} for row in compared]
    write_metrics(args.out / ROWS, figures)
    lines = [table(figures, args.task, len(rows)), args.note]
    write_whole(args.out / TEXT, "".join(f"{line}\n" for line in lines if line))


def best_outputs(rows: Sequence[Row]) -> list[str]:
    """Of each question the output with the highest utility, the first of equal ones."""
    return [row.outputs[max(range(len(row.outputs)), key=lambda n: row.utilities[n])] for row in rows]


def table(figures: Sequence[Mapping[str, Any]], task: Task, questions: int) -> str:
    """A line for each system.

    Args:
        figures: rows of `compare_systems`, with the systems' names; the first system is what p compares with.
        task: says what is better.
        questions: how many there are.
    """
    metrics = task.scoring.official
    by_system: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in figures:
        by_system.setdefault(row["system"], {})[row["metric"]] = row
    width = max(len(LABELS.get(name, name)) for name in by_system)
    heads = "".join(f"  {metric:>8} {'95 % interval':>16} {'p':>7} " for metric in metrics)
    lines = [f"{'':{width}}{heads}".rstrip()]
    for name, of_one in by_system.items():
        cells = "".join(_cell(of_one[metric]) for metric in metrics)
        lines.append(f"{LABELS.get(name, name):{width}}{cells}".rstrip())
    better = "higher" if task.scoring.direction == "higher" else "lower"
    note = (
        f"{task.option}, {questions} questions; {better} is better; p against the first line, * below {LEVEL}"
    )
    return "\n".join([*lines, note])


def _cell(row: Mapping[str, Any]) -> str:
    p = "" if row["p"] is None else f"{row['p']:.3f}"
    star = "*" if row["p"] is not None and row["p"] < LEVEL else " "
    interval = f"{row['low']:.3f} .. {row['high']:.3f}"
    return f"  {row['value']:8.3f} {interval:>16} {p:>7}{star}"


def _write_predictions(rows: Sequence[Row], task: Task, folder: Path) -> dict[str, Path]:
    """A predictions file for each strategy and for the best choice, by name."""
    outputs = {name: [row.outputs[n] for row in rows] for n, name in enumerate(rows[0].strategies)}
    outputs[ORACLE] = best_outputs(rows)
    paths = {}
    for name, texts in outputs.items():
        paths[name] = folder / f"{name}.json"
        write_outputs(paths[name], task, ((row.id, text) for row, text in zip(rows, texts, strict=True)))
    return paths


def main() -> None:
    """Parse, compare, print."""
    args = parser().parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    compare(args)
    print((args.out / TEXT).read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    run_main(main)
