"""From a question and its ranked profile to the prompt: the only place that knows how the two are joined."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from companions.lamp.budget import Costs, item_limits
from companions.lamp.questions import Question
from companions.lamp.rankers.orders import newest_first as newest_places
from companions.lamp.tasks import Item, Task, date_key


@dataclass(frozen=True)
class Encoded:
    """A prompt and its target as token ids, cut at the LM's length."""

    source: list[int]
    target: list[int]
    """empty where there is no target"""
    cut: bool
    """the prompt has lost its tail, which holds the question itself"""


@dataclass(frozen=True)
class Prompt:
    """What the LM is given for one question."""

    text: str
    without_profile: bool
    """there were items, and they could not be fitted into the length: the text is the input alone"""


def chosen_items(
    question: Question, count: int, retriever: str = "bm25", released: bool = False
) -> list[Item]:
    """The items of a ranked profile that go into a prompt.

    The first `count`; for `recency_contriever` the first half of them, rounded up, and after these the newest ones,
    newest first, of which some may be there already.

    Args:
        question: its profile is in ranked order.
        count: how many items at most.
        retriever: what has ranked them.
        released: for `recency_contriever` both halves are rounded down, and a half of none is the whole profile as
            the newest ones.

    Raises:
        UserError: an item whose date is needed has none.
    """
    profile = list(question.profile)
    if retriever != "recency_contriever":
        return profile[:count]
    newest = newest_first(question)
    if released:
        return profile[: count // 2] + newest[: count // 2 or None]
    return profile[: math.ceil(count / 2)] + newest[: count // 2]


def newest_first(question: Question) -> list[Item]:
    """A profile by date, newest first; of equal dates the one that stands later in the profile.

    Raises:
        UserError: an item has no date, or a wrong one.
    """

    def key(item: Item) -> tuple[int, ...]:
        try:
            return date_key(item)
        except ValueError as error:
            raise question.error(str(error), item) from None

    return [question.profile[place] for place in newest_places(list(map(key, question.profile)))]


class PromptBuilder:
    """Makes the prompts of one task within a length that one tokenizer counts.

    Args:
        task: its wording.
        tokenizer: that of the LM.
        max_length: L, in tokens.
        released: see `item_limits`; and spaces before punctuation are taken out of long fields unless the tokenizer's
            files say otherwise, which was the default of the libraries of that time.
    """

    def __init__(
        self, task: Task, tokenizer: PreTrainedTokenizerBase, max_length: int, released: bool = False
    ) -> None:
        self.task, self.tokenizer, self.max_length, self.released = task, tokenizer, max_length, released
        self.special = tokenizer.num_special_tokens_to_add()
        self.clean_up = released and tokenizer.init_kwargs.get("clean_up_tokenization_spaces", True)
        phrase = task.aggregate.reserved
        self.reserved = 0 if phrase is None else 1 + (self._count(phrase) if phrase else 0)

    def build(self, inputs: Sequence[str], items: Sequence[Sequence[Item]]) -> list[Prompt]:
        """The prompts of some questions, each with the items chosen for it; each text is tokenized once."""
        field = self.task.item.long_field
        ids = self._ids([*inputs, *(item[field] for chosen in items for item in chosen)])
        rests = [[self._rest(item) for item in chosen] for chosen in items]
        counts = self._ids([rest for of_one in rests for rest in of_one if isinstance(rest, str)])
        prompts = []
        for question, chosen, rest in zip(inputs, items, rests, strict=True):
            costs = Costs(
                input=len(ids[question]) + self.special,
                fields=[len(ids[item[field]]) + self.special for item in chosen],
                overheads=[
                    len(counts[text]) + self.special if isinstance(text, str) else text for text in rest
                ],
                reserved=self.reserved,
            )
            limits = item_limits(costs, self.max_length, self.special, self.released)
            if limits is None:
                prompts.append(Prompt(question, without_profile=bool(chosen)))
                continue
            texts = [
                self._item_text(item, ids[item[field]][: None if limit is None else limit - self.special])
                for item, limit in zip(chosen, limits, strict=True)
            ]
            prompts.append(Prompt(joined(self.task, question, texts), without_profile=False))
        return prompts

    def _rest(self, item: Item) -> str | int:
        """What is counted as the cost of an item's text without its long field, or that cost."""
        overhead = self.task.item.overhead
        return overhead.format_map(item) if isinstance(overhead, str) else overhead

    def _item_text(self, item: Item, ids: list[int]) -> str:
        """An item's text with its long field as these ids give it back, even when they are all of it."""
        field = str(self.tokenizer.decode(ids, skip_special_tokens=True))
        if self.clean_up:
            field = self.tokenizer.clean_up_tokenization(field)
        return self.task.item.template.format_map({**item, self.task.item.long_field: field})

    def _count(self, text: str) -> int:
        """T(text): tokens with special ones."""
        return len(self._ids([text])[text]) + self.special

    def _ids(self, texts: Sequence[str]) -> dict[str, list[int]]:
        """The token ids of each text, without special tokens."""
        different = list(dict.fromkeys(texts))
        if not different:
            return {}
        # verbose: it warns of texts longer than the LM's limit, which are cut here
        ids = self.tokenizer(different, add_special_tokens=False, verbose=False)["input_ids"]
        return dict(zip(different, ids, strict=True))


def encode(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], targets: Sequence[str], max_length: int
) -> list[Encoded]:
    """Token ids of prompts and targets, each with special tokens and cut on the right to `max_length`.

    Args:
        tokenizer: that of the LM.
        prompts: as `PromptBuilder.build` gives them, or inputs alone.
        targets: one per prompt, or none at all.
        max_length: of either, in tokens.
    """
    special = tokenizer.num_special_tokens_to_add()
    whole = tokenizer(list(prompts), add_special_tokens=False, verbose=False)["input_ids"]
    sources = tokenizer(list(prompts), truncation=True, max_length=max_length)["input_ids"]
    labels = tokenizer(list(targets), truncation=True, max_length=max_length)["input_ids"] if targets else []
    return [
        Encoded(source, target, cut=len(ids) + special > max_length)
        for source, ids, target in zip(sources, whole, labels or [[]] * len(sources), strict=True)
    ]


def joined(task: Task, question: str, items: Sequence[str]) -> str:
    """Items and input in the words of the task; an input without the word that they follow stays as it is."""
    text, word = ", and ".join(items), task.aggregate.after_word
    if not word:
        return text + task.aggregate.before_input + question
    before, found, after = question.partition(word)
    return f"{before}{found}, and {text}{after}" if found else question
