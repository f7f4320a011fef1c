"""Scoring of decoded runs: finds their result files, applies the metrics, and writes one report over all.

Its input is the `evaluation_result*.jsonl` of run folders. It knows no model and no metric by name.
"""

import csv
import io
import json
import math
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset.strict_json import SURROGATE
from utils.errors import UserError, existing_file, first_line, printable, shown
from utils.files import write_together
from utils.metrics import Metric, Score, score, select
from utils.untrusted import LARGEST_TEXT, check_comparable

RESULT_STEM = "evaluation_result"
COUNT = "examples"  # always the last column, so it may be asked for, but it is no metric
COLUMNS_PER_TABLE = 5

# Key of a line -> what it may hold, in Python and in words. Other keys are of no concern to the metrics.
REQUIRED = {"prediction": (str, "a string"), "target": (str, "a string")}
OPTIONAL = {
    "nll": ((int, float, type(None)), "a number or null"),
    "nll_tokens": ((int, type(None)), "an integer or null"),
}


@dataclass(frozen=True)
class Result:
    """One scored result file."""

    run: str
    file: str
    scores: dict[str, Score]
    examples: int


def evaluate_runs(
    main_path: str | Path, metrics: Sequence[str] | None = None, settings: Mapping[str, str] | None = None
) -> None:
    """Score all runs under `main_path`, write `results.txt` and `results.csv` there, and print the table.

    Args:
        main_path: a folder of run folders, or a run folder itself.
        metrics: names of the metrics in the order of the columns; None for all.
        settings: what a metric may be told, e.g. `bertscore_model`.

    Raises:
        UserError: an unknown metric, no result file, a malformed line, or a folder that cannot be written to.
            Nothing is written then.
    """
    chosen = select(None if metrics is None else [name for name in metrics if name != COUNT])
    names = [metric.name for metric in chosen]
    paths, twinless = find_results(Path(main_path))
    for path in twinless:
        print(printable(f"note: {path} has no .jsonl twin and is not scored"), file=sys.stderr)
    results = []
    for path in paths:
        examples = read_examples(path)
        scores = score(examples, names, settings)
        results.append(Result(Path(os.path.abspath(path)).parent.name, path.name, scores, len(examples)))
    for line in missing_notes(results):
        print(printable(line), file=sys.stderr)
    table = format_table(results, chosen)
    report = f"{table}\n\n{format_signatures(results, chosen)}\n"
    write_together(Path(main_path), {"results.csv": format_csv(results, names), "results.txt": report})
    print(printable(f"{table}\n\nwritten: results.txt and results.csv in {main_path}"))


def find_results(main_path: Path) -> tuple[list[Path], list[Path]]:
    """The result files in `main_path` and in the folders directly below it, and `.txt` ones without a twin.

    Raises:
        UserError: there is none, or `main_path` is no folder.
    """
    if not os.path.isdir(main_path):  # Path's own raises for a name that is too long
        raise UserError(
            f"{str(main_path)[:300]} is not a folder of runs; train with train.py and decode with test.py first"
        )
    jsonl, txt = (
        sorted([*main_path.glob(f"{RESULT_STEM}*.{end}"), *main_path.glob(f"*/{RESULT_STEM}*.{end}")])
        for end in ("jsonl", "txt")
    )
    twinless = [path for path in txt if path.with_name(f"{path.stem}.jsonl") not in jsonl]
    if jsonl:
        return jsonl, twinless
    if twinless:
        raise UserError(
            f"{twinless[0]} has no .jsonl twin, which the metrics read; to write it run: "
            f"{decode_command(twinless[0])}"
        )
    raise UserError(f"no {RESULT_STEM}*.jsonl in {main_path} or in a folder below it; run test.py first")


def decode_command(path: Path) -> str:
    """The command that writes the result file `path` anew, also where test.py takes it for finished."""
    _, _, noise = path.stem.partition("_selection_noise=")
    flags = ["--skip_exists=no", *([f"--selection_noise={noise}"] if noise else [])]
    return shlex.join(["python", "test.py", f"--model_path={path.parent}", *flags])


def read_examples(path: Path) -> list[dict[str, Any]]:
    """The examples of a result file, in order.

    Raises:
        UserError: the file is empty, or a line is not a JSON object with the keys that metrics need. The
            message names the file, the line and the key.
    """
    if path.is_file() and path.stat().st_size == 0:
        raise UserError(f"result file is empty: {path}; to write it anew run: {decode_command(path)}")
    examples = []
    # In bytes, because only "\n" ends a line here. Text mode would report a bad encoding without its line.
    with existing_file(path, "result file", LARGEST_TEXT).open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                examples.append(_parse_line(line))
            except UserError as error:
                raise UserError(f"{path}, line {number}: {error}") from error
    return examples


def _parse_line(line: bytes) -> dict[str, Any]:
    try:
        example = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8: {error.reason} at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise UserError(f"not JSON: {error.msg} at character {error.pos}") from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, lists in lists without end
        raise UserError(f"not JSON that can be read: {first_line(error)}") from error
    if not isinstance(example, dict):
        raise UserError("not a JSON object")
    missing = [key for key in REQUIRED if key not in example]
    if example.get("nll") is not None and example.get("nll_tokens") is None:
        missing.append("nll_tokens")
    if missing:
        raise UserError(f"the key '{missing[0]}' is missing")
    for key, (kind, words) in (REQUIRED | OPTIONAL).items():
        value = example.get(key)
        if key in example and (not isinstance(value, kind) or isinstance(value, bool)):
            raise UserError(f"'{key}' must be {words}, not {json.dumps(value)[:60]}")
        if isinstance(value, int | float):
            _check_number(key, value, words)
        if isinstance(value, str) and SURROGATE.search(value):
            raise UserError(f"'{key}' holds half of a surrogate pair, which is no character: {shown(value)}")
    try:
        check_comparable(example["prediction"], example["target"])
    except ValueError as error:
        raise UserError(f"'prediction' and 'target': {error}") from None
    return example


def _check_number(key: str, value: float, words: str) -> None:
    """Refuse what is no loss and no count: infinite, negative, or an integer that no float can hold."""
    try:
        finite = math.isfinite(value)
    except OverflowError as error:
        raise UserError(f"'{key}' is too large: {shown(value)}") from error
    if not finite:
        raise UserError(f"'{key}' must be {words}, not {value}; the decoding went wrong")
    if value < 0:
        raise UserError(f"'{key}' must be 0 or more, not {shown(value)}")


def missing_notes(results: Sequence[Result]) -> list[str]:
    """One line per reason for empty cells. It names the metrics, and the files unless it is all of them."""
    metrics: dict[str, dict[str, None]] = {}
    files: dict[str, dict[str, None]] = {}
    for result in results:
        for name, outcome in result.scores.items():
            if outcome.value is None:
                metrics.setdefault(outcome.reason, {})[name] = None
                files.setdefault(outcome.reason, {})[f"{result.run}/{result.file}"] = None
    return [
        f"note: no {', '.join(names)}"
        + (f" for {', '.join(files[reason])}" if len(files[reason]) < len(results) else "")
        + f": {reason}"
        for reason, names in metrics.items()
    ]


def format_table(results: Sequence[Result], metrics: Sequence[Metric]) -> str:
    """A table with a row per metric and a numbered column per result file, and the files' names above."""
    legend = [f"[{i}] {result.run}/{result.file}" for i, result in enumerate(results, start=1)]
    note = "In parentheses: standard error over examples, taken as independent. A dash: not available."
    blocks = ["\n".join([*legend, "", note])]
    for start in range(0, len(results), COLUMNS_PER_TABLE):
        part = results[start : start + COLUMNS_PER_TABLE]
        rows = [["metric", "better", *(f"[{start + i}]" for i in range(1, len(part) + 1))]]
        for metric in metrics:
            cells = [_format_score(result.scores[metric.name]) for result in part]
            rows.append([metric.name, metric.direction, *cells])
        rows.append([COUNT, "", *(str(result.examples) for result in part)])
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
        ]
        blocks.append("\n".join(line.rstrip() for line in lines))
    return "\n\n".join(blocks)


def _format_score(outcome: Score) -> str:
    if outcome.value is None:
        return "-"
    return f"{outcome.value:.2f}" + ("" if outcome.stderr is None else f" ({outcome.stderr:.2f})")


def format_signatures(results: Sequence[Result], metrics: Sequence[Metric]) -> str:
    """What each metric is, one line each; for one that no file has, why it is missing."""
    lines = ["Signatures"]
    for metric in metrics:
        outcomes = [result.scores[metric.name] for result in results]
        signature = next((outcome.signature for outcome in outcomes if outcome.value is not None), "")
        lines.append(f"{metric.name}: {signature or f'not available: {outcomes[0].reason}'}")
    return "\n".join(lines)


def _as_text(name: str) -> str:
    """A cell that no spreadsheet takes for a formula, whatever a folder is called."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


def format_csv(results: Sequence[Result], names: Sequence[str]) -> str:
    """A row per result file: run, file, the metrics (empty where not available), number of examples."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "file", *names, COUNT])
    for result in results:
        values = [result.scores[name].value for name in names]
        cells = ["" if value is None else round(value, 4) for value in values]
        writer.writerow([_as_text(result.run), _as_text(result.file), *cells, result.examples])
    return text.getvalue()
