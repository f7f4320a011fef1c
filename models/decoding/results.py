"""The result files of a decoded run: one JSON object per example for programs, the same as text for people."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset.dialogue import Example
from dataset.text import cut_response, label_turns
from models.decoding.generation import Reply
from utils.errors import UserError
from utils.metrics import score

_OR_NONE = type(None)
ROW_KEYS = {
    "persona": list,
    "context": list,
    "prediction": str,
    "raw_prediction": str,
    "target": str,
    "prompt": (int, _OR_NONE),
    "scores": (list, _OR_NONE),
    "turn": int,
    "dialogue": int,
    "nll": (float, int, _OR_NONE),
    "nll_tokens": (int, _OR_NONE),
}
"""of a row of `evaluation_result.jsonl`, with the types of their values"""
_DECODING = "decoding: "  # how the line begins that names the settings


@dataclass(frozen=True, slots=True)
class Share:
    """What one rank decoded: rows of the result file by their example's number."""

    run: str
    num_examples: int
    """of the whole file"""
    decoding: dict[str, Any]
    """settings, see DecodeOptions.described"""
    rows: dict[int, dict[str, Any]]


def result_row(example: Example, reply: Reply, cut: Callable[[str], str] = cut_response) -> dict[str, Any]:
    """One line of `evaluation_result.jsonl`; `cut` takes the reply out of the generated text."""
    return {
        "persona": list(example.persona),
        "context": label_turns(example.context),
        "prediction": cut(reply.text),
        "raw_prediction": reply.text,
        "target": example.response,
        "prompt": reply.prompt,
        "scores": reply.scores,
        "turn": example.turn,
        "dialogue": example.dialogue,
        "nll": reply.nll,
        "nll_tokens": reply.nll_tokens,
    }


def rows_of(shares: Sequence[Share], run: Path) -> list[dict[str, Any]]:
    """All ranks' rows in the order of the file.

    Raises:
        UserError: they are not those of every example of this run, each once.
    """
    for rank, share in enumerate(shares):
        if share.run != str(run):
            raise UserError(f"rank {rank} sent rows of {share.run}")
        if share.num_examples != shares[0].num_examples:
            raise UserError(f"the validation file of rank {rank} is not that of rank 0")
    numbered = sorted((number, rank) for rank, share in enumerate(shares) for number in share.rows)
    if [number for number, _ in numbered] != list(range(shares[0].num_examples)):
        raise UserError(f"the ranks sent {len(numbered)} rows that are not the file's examples, each once")
    return [shares[rank].rows[number] for number, rank in numbered]


def prompt_counts(rows: Sequence[dict[str, Any]]) -> dict[int, int]:
    """How often each prompt was chosen."""
    return dict(sorted(Counter(row["prompt"] for row in rows if row["prompt"] is not None).items()))


def result_text(rows: Sequence[dict[str, Any]], decoding: dict[str, Any]) -> str:
    """`evaluation_result.txt`: corpus BLEU, counts of the chosen prompts, decoding settings, then every example."""
    lines = [
        f"bleu: {score(rows, ['bleu'])['bleu'].value}",
        f"selected prompts: {prompt_counts(rows)}",
        f"{_DECODING}{json.dumps(decoding)}",
        "",
    ]
    for row in rows:
        lines += [
            f"context: {' '.join(row['context'])}",
            f"persona: {' '.join(row['persona'])}",
            f"pred: {row['prediction']}",
            f"gt: {row['target']}",
            f"selected prompt: {row['prompt']}",
            "",
        ]
    return "\n".join(lines)


def decoding_of(text_path: Path) -> dict[str, Any]:
    """What a result file says of its decoding; nothing where it is older than that line, or the authors'."""
    with text_path.open("rb") as file:
        head = [file.readline(1 << 16).decode("utf-8", "replace") for _ in range(3)]
    try:
        found = json.loads(head[2].removeprefix(_DECODING)) if head[2].startswith(_DECODING) else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
