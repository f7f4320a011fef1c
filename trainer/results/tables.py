"""Figures as tables of Markdown, and a page whose tables are brought up to date."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.errors import UserError, existing_file
from utils.files import write_whole
from utils.untrusted import LARGEST_TEXT

_HEADS = {
    "ppl": "perplexity",
    "f1": "F1",
    "bleu": "BLEU",
    "dist_1": "DIST-1",
    "dist_2": "DIST-2",
    "replies": "distinct replies",
}
_DIGITS = {"ppl": 2, "f1": 2, "bleu": 2, "dist_1": 2, "dist_2": 2, "replies": 1}
_BLOCK = re.compile(r"(<!-- table: ([a-z_]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def tables_of(figures: Mapping[str, Any]) -> dict[str, str]:
    """The tables by name, from the figures of `figures_of`."""
    methods = figures["methods"]
    kinds = ("per_example", "in_all", "others", "silence")
    return {
        **{kind: _scores([one for one in methods.values() if kind in one["tables"]]) for kind in kinds},
        "differences": _differences(figures),
        "choices": _choices(figures),
        "learning_rates": _learning_rates(list(methods.values())),
        "time": _time(list(methods.values())),
    }


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _scores(methods: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [one["title"], *(_score(one["metrics"][name], _DIGITS[name]) for name in _HEADS)] for one in methods
    ]
    return _table(["method", *_HEADS.values()], rows)


def _score(metric: Mapping[str, Any], digits: int) -> str:
    half = (metric["high"] - metric["low"]) / 2
    return f"{metric['value']:.{digits}f} ± {half:.{digits}f}{_spread(metric, digits)}"


def _spread(metric: Mapping[str, Any], digits: int) -> str:
    return "" if metric.get("spread") is None else f" ({metric['spread']:.{digits}f})"


def _differences(figures: Mapping[str, Any]) -> str:
    titles = {name: one["title"] for name, one in figures["methods"].items()}
    rows = [
        [
            f"{titles[one['first']]} − {titles[one['second']]}",
            *(_difference(one["metrics"][name], _DIGITS[name]) for name in _HEADS),
        ]
        for one in figures["differences"]
    ]
    return _table(["first − second", *_HEADS.values()], rows)


def _difference(metric: Mapping[str, Any], digits: int) -> str:
    half = (metric["high"] - metric["low"]) / 2
    p = f"p < {0.001}" if metric["p"] < 0.001 else f"p = {metric['p']:.3f}"
    value = f"{metric['value']:+.{digits}f} ± {half:.{digits}f}{_spread(metric, digits)}"
    return f"{value}, {p}".replace("-", "−")


def _choices(figures: Mapping[str, Any]) -> str:
    """A row per run: the perplexity of its best fixed prompt, and by how many percent each choice changes it."""
    kinds = ("own choice", "turn", "linear", "random choice", "oracle")
    rows = [
        [
            f"{figures['methods'][one['method']]['title']}, seed {one['seed']}",
            f"{one['choices']['best fixed prompt']['perplexity']:.2f}",
            *(_change(one["choices"][kind]) for kind in kinds),
            " ".join(f"{100 * share:.0f}" for share in one["choices"]["own choice"]["shares"]),
        ]
        for one in figures["choices"]
    ]
    head = [
        "run",
        "best fixed prompt",
        "own choice, %",
        "by turn, %",
        "linear router, %",
        "random, %",
        "oracle, %",
    ]
    return _table([*head, "shares of the own choice, %"], rows)


def _change(choice: Mapping[str, Any]) -> str:
    return f"{choice['change']:+.2f} ({choice['low']:+.2f} to {choice['high']:+.2f})".replace("-", "−")


def _learning_rates(methods: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            one["title"],
            ", ".join(f"{rate}: {loss:.4f}" for rate, loss in one["tuning"].items()),
            rate_text(one),
        ]
        for one in methods
        if one["tuning"]
    ]
    return _table(["method", "loss per token on the held-out dialogues, by learning rate", "chosen"], rows)


def rate_text(method: Mapping[str, Any]) -> str:
    """The learning rate that a method has, for a table."""
    return f"{method['learning_rate']:g}"


def _time(methods: Sequence[Mapping[str, Any]]) -> str:
    def minutes(seconds: float) -> str:
        return f"{seconds / 60:.1f}"

    rows = [
        [
            one["title"],
            *(
                minutes(one[f"{what}_{unit}"])
                for what in ("training", "decoding")
                for unit in ("seconds", "processor_seconds")
            ),
        ]
        for one in methods
    ]
    head = ["method", "training, by the clock", "processor", "decoding, by the clock", "processor"]
    return _table(head, rows)


def with_tables(text: str, tables: Mapping[str, str]) -> str:
    """A page whose blocks `<!-- table: NAME -->` .. `<!-- end -->` hold the tables.

    Raises:
        UserError: a block names no table.
    """

    def filled(block: re.Match[str]) -> str:
        if block[2] not in tables:
            raise UserError(
                f"<!-- table: {block[2]} -->: there is no such table; they are {', '.join(tables)}"
            )
        return f"{block[1]}\n{tables[block[2]]}\n{block[4]}"

    return _BLOCK.sub(filled, text)


def update_page(path: Path, tables: Mapping[str, str]) -> None:
    """Bring the tables of a page up to date.

    Raises:
        UserError: it is not there, cannot be written, or a block names no table.
    """
    text = existing_file(path, "page", LARGEST_TEXT).read_text(encoding="utf-8")
    write_whole(path, with_tables(text, tables))
