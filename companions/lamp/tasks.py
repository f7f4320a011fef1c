"""The tasks of LaMP in one table: what a question asks, what is retrieved by what, how items are told, what is scored.

Wording, labels and names are those of the benchmark (Salemi et al., 2024, LaMP; section 3 and appendices).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from utils.errors import UserError, nearest, shown

Item = Mapping[str, Any]
"""a profile item as the file has it: `id`, the text fields of its task, and `date` where the file has one"""


LOWEST, HIGHEST = 1, 5
"""the scale of ratings"""


@dataclass(frozen=True)
class Scoring:
    """How outputs of one kind are scored; the arithmetic is that of companions/lamp/metrics.py."""

    kind: Literal["labels", "rating", "text"]
    best: str
    """the metric that chooses the best checkpoint and is the feedback of retrieval"""
    direction: Literal["higher", "lower"]
    """which way of `best` is better"""
    headline: tuple[str, ...]
    """the metrics that the official evaluation reports"""
    official: tuple[str, ...]
    """what it calls them"""


LABELS = Scoring("labels", "accuracy", "higher", ("accuracy", "f1"), ("accuracy", "f1"))
RATING = Scoring("rating", "mae", "lower", ("mae", "rmse"), ("MAE", "RMSE"))
TEXT = Scoring("text", "rouge-1", "higher", ("rouge-1", "rouge-L"), ("rouge-1", "rouge-L"))


@dataclass(frozen=True)
class ItemText:
    """How a profile item is told to the LM, and what that costs beside its long field."""

    template: str
    """by field name; the long field is cut to the tokens that are left, all others are whole"""
    long_field: str
    overhead: str | int
    """a template whose tokens are counted as the cost of the rest, or that cost in tokens"""


@dataclass(frozen=True)
class Aggregate:
    """How the items and the input become one prompt; items are joined with ", and "."""

    before_input: str = ""
    """stands between the items and the input"""
    after_word: str = ""
    """the items are put into the input after this word's first occurrence instead"""
    reserved: str | None = ""
    """a phrase whose tokens, and one more, are kept free; None: nothing is"""


@dataclass(frozen=True)
class Task:
    """One task of the benchmark."""

    name: str
    """with underscore, as the `task` field of files has it"""
    question: str
    """template of a question's `input`"""
    query: Callable[[str], str | None]
    """(input) -> what is searched for, or None when the input lacks its marks"""
    document: tuple[str, ...]
    """the fields of an item that are searched, joined with a space"""
    item: ItemText
    aggregate: Aggregate
    scoring: Scoring
    labels: tuple[str, ...] = ()
    target: str | None = None
    """the field of an item that its author made of the rest; None: there is none, as a tweet is both"""
    target_question: str | None = None
    """template of the question that it answers, where that is not `question`"""
    released_query: Callable[[str], str | None] | None = None
    """what the release searches for, where that is something else"""

    @property
    def option(self) -> str:
        """The name with hyphen, as the command line has it."""
        return self.name.replace("_", "-")

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The text fields that an item must have, each once."""
        told = re.findall(r"{(\w+)}", self.item.template)
        return tuple(dict.fromkeys((*self.document, *told)))

    def document_of(self, item: Item, use_date: bool = False) -> str:
        """The text of an item that a query is compared with; its date follows where it is asked for and there."""
        text = " ".join(item[field] for field in self.document)
        return f"{text} date: {item['date']}" if use_date and "date" in item else text


def date_key(item: Item) -> tuple[int, ...]:
    """What items are ordered by: the numbers of `date` between hyphens, of which a missing one comes first.

    Raises:
        ValueError: the item has no `date`, or one that is not made of numbers.
    """
    if "date" not in item:
        raise ValueError("field 'date' is missing")
    parts = str(item["date"]).split("-")
    if not all(part.strip().isdecimal() for part in parts):
        raise ValueError(
            f"field 'date' is {shown(item['date'])}; needed are numbers between hyphens, as in 2012-05-17"
        )
    return tuple(int(part) for part in parts)


def task_of(name: str) -> Task:
    """The task called `name`, with hyphens or underscores.

    Raises:
        UserError: there is none.
    """
    key = name.replace("-", "_")
    if key not in TASKS:
        raise UserError(f"unknown task '{name}'{nearest(name, [task.option for task in TASKS.values()])}")
    return TASKS[key]


def _after(marker: str) -> Callable[[str], str | None]:
    """A query: everything after the first `marker`, stripped."""

    def query(text: str) -> str | None:
        _, found, rest = text.partition(marker)
        return rest.strip() if found else None

    return query


def _references(text: str) -> str | None:
    """The two candidate references between their fixed anchors; a title may have quotation marks itself."""
    _, first, rest = text.partition(' [1]: "')
    one, second, rest = rest.partition('" [2]: "')
    two, end, _ = rest.rpartition('"')
    return f"{one} {two}" if first and second and end else None


def _quoted_references(text: str) -> str | None:
    """The second and third of the texts between pairs of quotation marks, as the release takes them."""
    quoted = text.split('"')[1::2]
    return f"{quoted[1]} {quoted[2]}" if len(quoted) > 2 else None


MOVIE_TAGS = (
    "sci-fi", "based on a book", "comedy", "action", "twist ending", "dystopia", "dark comedy", "classic",
    "psychology", "fantasy", "romance", "thought-provoking", "social commentary", "violence", "true story",
)  # fmt: skip
NEWS_CATEGORIES = (
    "food & drink", "sports", "education", "parents", "religion", "travel", "business", "crime",
    "science & technology", "culture & arts", "entertainment", "politics", "women", "style & beauty",
    "healthy living",
)  # fmt: skip

_ITEMS_FIRST = Aggregate(". ")
_TITLED = '"{title}" is the title for "{text}" '

TASKS = {
    task.name: task
    for task in (
        Task(
            name="LaMP_1",
            question='For an author who has written the paper with the title "{title}", which reference is related? '
            'Just answer with [1] or [2] without explanation. [1]: "{first}" [2]: "{second}"',
            query=_references,
            released_query=_quoted_references,
            document=("title", "abstract"),
            item=ItemText('"{title}"', "title", overhead=2),
            aggregate=Aggregate(after_word="title", reserved=None),
            target="abstract",
            target_question="Write an abstract for this title: {title}",
            scoring=LABELS,
            labels=("[1]", "[2]"),
        ),
        Task(
            name="LaMP_2",
            question="Which tag does this movie relate to among the following tags? Just answer with the tag name "
            f"without further explanation. tags: [{', '.join(MOVIE_TAGS)}] description: {{description}}",
            query=_after("description:"),
            document=("description",),
            item=ItemText(
                'the tag for the movie: "{description}" is "{tag}" ',
                "description",
                overhead='the tag for the movie: " " is "{tag}" ',
            ),
            aggregate=_ITEMS_FIRST,
            target="tag",
            scoring=LABELS,
            labels=MOVIE_TAGS,
        ),
        Task(  # withdrawn from the benchmark
            name="LaMP_2_old",
            question="article: {text}",  # the rest of its wording went with it
            query=_after("article:"),
            document=("title", "text"),
            item=ItemText(
                'the category for the article: "{text}" is "{category}" ',
                "text",
                overhead='the category for the article: " " is "{category}" ',
            ),
            aggregate=_ITEMS_FIRST,
            target="category",
            scoring=LABELS,
            labels=NEWS_CATEGORIES,
        ),
        Task(
            name="LaMP_3",
            question="What is the score of the following review on a scale of 1 to 5? just answer with 1, 2, 3, 4, or "
            "5 without further explanation. review: {text}",
            query=_after("review:"),
            document=("text",),
            item=ItemText(
                '{score} is the score for "{text}" ', "text", overhead='{score} is the score for " " '
            ),
            aggregate=_ITEMS_FIRST,
            target="score",
            scoring=RATING,
            labels=("1", "2", "3", "4", "5"),
        ),
        Task(
            name="LaMP_4",
            question="Generate a headline for the following article: {text}",
            query=_after("article:"),
            document=("title", "text"),
            item=ItemText(_TITLED, "text", overhead='"{title}" is the title for " " '),
            aggregate=_ITEMS_FIRST,
            target="title",
            scoring=TEXT,
        ),
        Task(
            name="LaMP_5",
            question="Generate a title for the following abstract of a paper: {abstract}",
            query=_after(":"),
            document=("title", "abstract"),
            item=ItemText(
                '"{title}" is a title for "{abstract}" ', "abstract", overhead='"{title}" is a title " " '
            ),
            aggregate=Aggregate(". Following the given patterns ", reserved="Following the given patterns"),
            target="title",
            scoring=TEXT,
        ),
        Task(
            name="LaMP_6",
            question="Generate a subject for the following email: {text}",
            query=_after(":"),
            document=("text",),
            item=ItemText(_TITLED, "text", overhead='"{title}" is the title for " " '),
            aggregate=_ITEMS_FIRST,
            target="title",
            scoring=TEXT,
        ),
        Task(
            name="LaMP_7",
            question="Paraphrase the following tweet without any explanation before or after it: {text}",
            query=_after(":"),
            document=("text",),
            item=ItemText('"{text}" ', "text", overhead='"" '),
            aggregate=Aggregate(
                " are written by a person. Following the given patterns ",
                reserved="are written by user. Following the given patterns",
            ),
            scoring=TEXT,
        ),
    )
}
"""by name with underscores"""
