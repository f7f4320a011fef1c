"""Training examples of ROPG: a question's query, the first items of its profile, and how well each served the LM."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from companions.lamp.encoder import Encoder
from companions.lamp.item_feedback import feedback_files, feedback_key, read_feedback
from companions.lamp.questions import Question, read_questions
from companions.lamp.ropg.settings import FeedbackDataSettings
from companions.lamp.tasks import Task, task_of
from companions.lamp.utilities import utility
from utils.errors import UserError

_CHUNK = 64  # questions that are tokenised together


@dataclass(frozen=True)
class Example:
    """One question. Its documents stand in the profile's order; the first is that of the encoder to start from."""

    query: NDArray[np.int32]  # [tokens]
    documents: list[NDArray[np.int32]]  # [tokens] each, 1 to ctx_size of them
    utilities: NDArray[np.float32]  # [documents], higher is better
    number: int
    """its place in the file"""


class Examples:
    """The questions of a file by number, as token ids in a few arrays: no object is kept per question or text.

    Args:
        ids: the ids of all texts one after another, a query before its documents.
        ends: where each text ends in `ids` [texts].
        firsts: which text is the query of each question [questions].
        utilities: of each text [texts]; NaN for queries.
        left_out: questions without profile items, from which nothing can be learnt.
    """

    def __init__(
        self,
        ids: NDArray[np.int32],
        ends: NDArray[np.int64],
        firsts: NDArray[np.int64],
        utilities: NDArray[np.float32],
        left_out: int,
    ) -> None:
        self.ids, self.ends, self.firsts, self.utilities, self.left_out = (
            ids,
            ends,
            firsts,
            utilities,
            left_out,
        )

    def __len__(self) -> int:
        return len(self.firsts)

    def __getitem__(self, number: int) -> Example:
        first, end = self._texts_of(number)
        query, *documents = [self._text(text) for text in range(first, end)]
        return Example(query, documents, self.utilities[first + 1 : end], number)

    def tokens(self) -> NDArray[np.int64]:
        """Tokens of each question's texts in all [questions]."""
        starts = np.append(0, self.ends)
        return np.diff(np.append(starts[self.firsts], starts[-1]))

    def _texts_of(self, number: int) -> tuple[int, int]:
        after = number + 1
        return int(self.firsts[number]), int(self.firsts[after] if after < len(self) else len(self.ends))

    def _text(self, text: int) -> NDArray[np.int32]:
        return self.ids[self.ends[text - 1] if text else 0 : self.ends[text]]


def read_examples(path: str, scores: str, data: FeedbackDataSettings, encoder: Encoder) -> Examples:
    """The questions of a merged file with the utilities of their first `ctx_size` items.

    Args:
        path: the merged file, ranked by the encoder to start from.
        scores: feedback on its items, a file or a folder of several; it may be of more items than are used.
        data: the task, the limits, and whether dates are part of documents.
        encoder: gives the tokenizer.

    Raises:
        UserError: what is wrong with a file, by question, or an item without feedback.
    """
    task = task_of(data.task or "")
    reading = _Reading(task, data, encoder)
    questions = read_questions(path, task, need_output=task.scoring.kind == "rating")
    while chunk := list(islice(questions, _CHUNK)):
        reading.add(chunk)
    if not reading.firsts:
        raise UserError(f"{path}: no question has a profile item; there is nothing to learn from")
    return reading.with_feedback(path, scores)


class _Reading:
    """What has been read of a file so far."""

    def __init__(self, task: Task, data: FeedbackDataSettings, encoder: Encoder) -> None:
        self.task, self.data, self.encoder = task, data, encoder
        self.ids = array("i")
        self.lengths: list[int] = []
        self.firsts: list[int] = []
        self.golds: dict[int, str] = {}  # of ratings, by text
        self.texts: dict[str, int] = {}  # which text has the feedback of a key
        self.left_out = 0

    def add(self, questions: Sequence[Question]) -> None:
        """Take the texts of questions."""
        used = [question for question in questions if question.profile]
        self.left_out += len(questions) - len(used)
        queries, documents = [], []
        for question in used:
            query = self.task.query(question.input)
            if query is None:
                raise question.error(f"field 'input' lacks the marks of {self.task.option}'s query")
            queries.append(query)
            items = question.profile[: self.data.ctx_size]
            documents += [self.task.document_of(item, self.data.use_date) for item in items]
        query_ids = iter(self.encoder.tokenize(queries, self.data.max_length_query))
        document_ids = iter(self.encoder.tokenize(documents, self.data.max_length_document))
        for question in used:
            self._add_question(question, next(query_ids), document_ids)

    def _add_question(self, question: Question, query: list[int], documents: Iterator[list[int]]) -> None:
        self.firsts.append(len(self.lengths))
        self._add_text(query)
        for item in question.profile[: self.data.ctx_size]:
            key = feedback_key(question.id, item["id"])
            if key in self.texts:
                raise question.error(
                    f"its feedback has the key '{key}', as that of another question's item has"
                )
            self.texts[key] = len(self.lengths)
            if question.output is not None and self.task.scoring.kind == "rating":
                self.golds[len(self.lengths)] = question.output
            self._add_text(next(documents))

    def _add_text(self, ids: list[int]) -> None:
        # a text without tokens still has a vector
        ids = ids or [self.encoder.tokenizer.pad_token_id or 0]
        self.ids.extend(ids)
        self.lengths.append(len(ids))

    def with_feedback(self, path: str, scores: str) -> Examples:
        """The examples, once the feedback is read."""
        utilities = np.full(len(self.lengths), np.nan, dtype=np.float32)
        for file in feedback_files(scores):
            for key, metrics in read_feedback(file):
                text = self.texts.get(key)
                if text is None:  # of an item that is not used
                    continue
                try:
                    value = np.float32(utility(self.task, metrics, self.golds.get(text, "")))
                except ValueError as error:
                    raise UserError(f"{file}: '{key}': {error}") from None
                if not np.isnan(utilities[text]) and utilities[text] != value:
                    raise UserError(f"{file}: '{key}' has another feedback, read before")
                utilities[text] = value
        lacking = next((key for key, text in self.texts.items() if np.isnan(utilities[text])), None)
        if lacking is not None:
            raise UserError(
                f"{scores}: no feedback on '{lacking}' (question-item) of {path}; collect it for the first "
                f"{self.data.ctx_size} items of every profile, or give a smaller --ctx_size"
            )
        return Examples(
            ids=np.frombuffer(self.ids, dtype=np.int32),
            ends=np.cumsum(self.lengths, dtype=np.int64),
            firsts=np.asarray(self.firsts, dtype=np.int64),
            utilities=utilities,
            left_out=self.left_out,
        )
