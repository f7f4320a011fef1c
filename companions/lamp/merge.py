"""Questions, golds and a ranking become one file: the profiles in the ranking's order, each question with its output."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from companions.lamp.disk_table import DiskTable
from companions.lamp.questions import golds_of, raw_questions
from companions.lamp.rankings import read_rankings
from utils.errors import UserError
from utils.files import to_json
from utils.json_streams import write_json_array


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
        golds = ranks = None
        if outputs is not None:
            golds = stack.enter_context(DiskTable())
            for question, output in golds_of(outputs):
                golds.add(question, output)
        if ranking is not None:
            ranks = stack.enter_context(DiskTable())
            for question, items in read_rankings(ranking):
                if not ranks.add(question, to_json(items)):
                    raise UserError(f"{ranking}: question '{question}' is given twice")

        def rows() -> Iterator[dict[str, Any]]:
            for question in raw_questions(questions):
                row = dict(question)
                if ranks is not None:
                    found = ranks.get(row["id"])
                    if found is None:
                        raise UserError(f"{ranking}: question '{row['id']}' of {questions} is missing")
                    row["profile"] = _reordered(row["profile"], json.loads(found), counts)
                if golds is not None:
                    output = golds.get(row["id"])
                    if output is None:
                        raise UserError(
                            f"{outputs}: question '{row['id']}' of {questions} has no gold; questions without any "
                            'golds are merged with --lamp_output_addr ""'
                        )
                    row["output"] = output
                yield row

        counts["questions"] = write_json_array(merged, rows(), indent=4)
    return counts


def _reordered(profile: list[dict[str, Any]], order: list[str], counts: Counter[str]) -> list[dict[str, Any]]:
    by_id = {item["id"]: item for item in profile}
    kept = [by_id[item] for item in order if item in by_id]
    counts["items"] += len(profile) - len(kept)
    counts["ids"] += len(order) - len(kept)
    return kept
