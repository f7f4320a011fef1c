"""Ranking files: for each question the ids of its profile's items, best first."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from companions.lamp.json_stream import read_object, write_object
from companions.lamp.questions import Question, read_questions
from companions.lamp.rankers import Candidates, Ranker, RankerKind, RankerOptions, ranker_kind
from companions.lamp.tasks import Task, date_key
from utils.errors import UserError, shown

if TYPE_CHECKING:
    from utils.distributed import DistributedContext  # seconds of import, which reading a ranking needs not

WINDOW = 4096
"""profile items that a rank works on at a time; questions are ranked together as long as theirs are fewer"""


def rank_file(
    questions: Path,
    ranking: Path,
    task: Task,
    ranker: str,
    distributed: "DistributedContext",
    options: RankerOptions | None = None,
    use_date: bool = False,
    released: bool = False,
) -> None:
    """Rank the whole profile of every question of a file, in the order of the file.

    The questions are read a window at a time, of which each rank takes a part; the main process writes.

    Args:
        questions: the questions file.
        ranking: the file to write, in the place of an earlier one.
        task: which of the benchmark's.
        ranker: its name.
        distributed: the processes; all of them call this.
        options: of the ranker.
        use_date: documents end with their date.
        released: search for what the release does, see `Task.released_query`.

    Raises:
        UserError: unknown ranker, or a fault in the file, by question, item and field. An earlier ranking stays.
    """
    kind = ranker_kind(ranker)
    asked = (
        candidates(question, task, kind, use_date, released) for question in read_questions(questions, task)
    )
    rank = kind.make(options or RankerOptions(device=distributed.device))
    bar = tqdm(desc=ranker, unit=" questions", disable=not distributed.is_main, mininterval=0.5)
    with bar:
        found = _counted(rankings_of(asked, rank, distributed), bar)
        if distributed.is_main:
            write_object(ranking, found)
        else:  # it takes part in the exchange
            deque(found, maxlen=0)
    distributed.say(f"{ranking}: {bar.n} questions ranked by {ranker}")


def _counted(pairs: Iterator[tuple[str, list[str]]], bar: "tqdm[Any]") -> Iterator[tuple[str, list[str]]]:
    for pair in pairs:
        yield pair
        bar.update()


def candidates(
    question: Question, task: Task, kind: RankerKind, use_date: bool = False, released: bool = False
) -> tuple[Candidates, list[str]]:
    """What a ranker reads of a question, and the ids of its items.

    Args:
        question: with its whole profile.
        task: which of the benchmark's.
        kind: the ranker.
        use_date: documents end with their date.
        released: search for what the release does.

    Raises:
        UserError: the input lacks the marks around the query, or an item its date, and the ranker reads it.
    """
    query_of = (released and task.released_query) or task.query
    query = query_of(question.input) if kind.reads_query else ""
    if query is None:
        raise question.error(
            f"field 'input' lacks the marks of {task.option}, between which the query stands: {shown(question.input)}"
        )
    dates = []
    for item in question.profile:
        if use_date and "date" not in item:
            raise question.error("field 'date' is missing, which --use_date asks for", item)
        if kind.reads_dates:
            try:
                dates.append(date_key(item))
            except ValueError as error:
                raise question.error(str(error), item) from None
    documents = [task.document_of(item, use_date) for item in question.profile]
    return Candidates(question.id, query, documents, dates), [item["id"] for item in question.profile]


def rankings_of(
    asked: Iterable[tuple[Candidates, list[str]]], rank: Ranker, distributed: "DistributedContext"
) -> Iterator[tuple[str, list[str]]]:
    """Rank questions over the processes: the id of each, and those of its items, best first; on every process."""
    for window in windows(asked, WINDOW * distributed.size):
        mine = shares(window, distributed.size)[distributed.rank]
        orders = rank([question for question, _ in mine])
        found = [
            (question.question, [ids[position] for position in order])
            for (question, ids), order in zip(mine, orders, strict=True)
        ]
        for share in distributed.gather(found):
            yield from share


def shares(
    window: Sequence[tuple[Candidates, list[str]]], count: int
) -> list[list[tuple[Candidates, list[str]]]]:
    """Cut questions into `count` parts in a row, of about as many profile items.

    Questions of one user, which stand together where they bring the same profile along, are not dealt out among the
    processes: each would read that profile.
    """
    parts: list[list[tuple[Candidates, list[str]]]] = [[] for _ in range(count)]
    total, before = sum(len(ids) + 1 for _, ids in window), 0
    for question in window:
        parts[before * count // total].append(question)
        before += len(question[1]) + 1
    return parts


def windows(
    asked: Iterable[tuple[Candidates, list[str]]], items: int
) -> Iterator[Sequence[tuple[Candidates, list[str]]]]:
    """Cut a stream into parts of at most `items` questions and about as many profile items, or of one question."""
    window: list[tuple[Candidates, list[str]]] = []
    held = 0
    for question in asked:
        if window and (held + len(question[1]) > items or len(window) == items):
            yield window
            window, held = [], 0
        window.append(question)
        held += len(question[1])
    if window:
        yield window


def read_rankings(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The rankings of a file, of which one at a time is held: question id and item ids.

    Raises:
        UserError: the file is none of rankings; with the question where it goes wrong.
    """
    for question, items in read_object(path, "ranking file"):
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise UserError(
                f"{path}: question '{question}' has {shown(items)}, expected an array of item ids"
            )
        if len(set(items)) < len(items):
            twice = Counter(items).most_common(1)[0][0]
            raise UserError(f"{path}: question '{question}' ranks item '{twice}' twice")
        yield question, items
