"""Questions, golds and a ranking become one file: profiles in the ranking's order, questions with their outputs."""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from companions.lamp.disk_table import DiskTable
from companions.lamp.json_stream import write_array
from companions.lamp.questions import Question, read_outputs, read_questions
from companions.lamp.rankings import read_rankings
from companions.lamp.tasks import Item
from utils.files import to_json


def merge(questions: Path, outputs: Path | None, ranking: Path | None, merged: Path) -> Counter[str]:
    """Write the merged file: an array of the questions, with `profile` in a new order and with `output`.

    An item that the ranking does not name is left out, and an id that the profile does not have is passed over. Of
    two golds of one id the first counts. The questions are read one at a time, golds and rankings into tables on the
    disk, so that memory does not depend on their number.

    Args:
        questions: the questions file.
        outputs: the golds; None for questions without any, which get no `output`.
        ranking: item ids by question, best first; None keeps the order of the file.
        merged: the file to write, in the place of an earlier one.

    Returns:
        How many `questions` were merged, `items` left out, and `ids` passed over.

    Raises:
        UserError: a file cannot be read, or lacks a question; an earlier merged file is as it was.
    """
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        golds = None if outputs is None else stack.enter_context(_gold_table(outputs))
        ranks = None if ranking is None else stack.enter_context(_rank_table(ranking))

        def row(question: Question) -> dict[str, Any]:
            record = dict(question.record)
            if ranks is not None:
                found = ranks.get(question.id)
                if found is None:
                    raise question.error(f"it has no ranking in {ranking}; rank this file")
                record["profile"] = _reordered(question.profile, json.loads(found), counts)
            if golds is not None:
                record["output"] = golds.get(question.id)
                if record["output"] is None:
                    raise question.error(
                        f'it has no output in {outputs}; merge questions without golds with --lamp_output_addr ""'
                    )
            counts["questions"] += 1
            return record

        write_array(merged, map(row, read_questions(questions, task=None)))
    return counts


def _gold_table(path: Path) -> DiskTable:
    """Outputs by question id."""
    golds = DiskTable()
    for question, output in read_outputs(path, task=None):
        golds.add(question, output)
    return golds


def _rank_table(path: Path) -> DiskTable:
    """The array of item ids, as JSON, by question id."""
    ranks = DiskTable()
    for question, items in read_rankings(path):
        ranks.add(question, to_json(items))
    return ranks


def _reordered(profile: Sequence[Item], order: Sequence[str], counts: Counter[str]) -> list[Item]:
    by_id = {item["id"]: item for item in profile}
    kept = [by_id[item] for item in order if item in by_id]
    counts["items"] += len(profile) - len(kept)
    counts["ids"] += len(order) - len(kept)
    return kept
