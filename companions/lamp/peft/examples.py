"""A user's profile as training examples: from an item's text to what its author made of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from companions.lamp.questions import Question
from companions.lamp.tasks import Item, Task

SHARES = (0.1, 0.25)
"""the least and the largest share of a tweet's words that is given"""


@dataclass(frozen=True)
class ProfileExample:
    """One item of a profile."""

    id: str
    source: str
    target: str


_TWEET = "Complete the following tweet: {first}"


def profile_examples(
    question: Question, task: Task, draw_share: Callable[[], float]
) -> Iterator[ProfileExample]:
    """An example for each item of a question's profile, in its order.

    Args:
        question: whose user it is.
        task: gives the wording.
        draw_share: gives the share of a tweet's words that stand in the source; called once per item of LaMP-7.
    """
    for number, item in enumerate(question.profile):
        source, target = _pair(item, task, draw_share)
        yield ProfileExample(f"{question.user}-{question.id}-{number}", source, target)


def _pair(item: Item, task: Task, draw_share: Callable[[], float]) -> tuple[str, str]:
    if task.target is not None:
        return (task.target_question or task.question).format(**item), item[task.target]
    words = item["text"].split()
    cut = int(len(words) * draw_share())
    return _TWEET.format(first=" ".join(words[:cut])), " ".join(words[cut:])
