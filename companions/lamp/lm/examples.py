"""From a questions or merged file to what the LM reads: prompts and targets as token ids, in a stream."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from companions.lamp.lm.load import LM
from companions.lamp.lm.settings import PromptSettings
from companions.lamp.prompts import Encoded, PromptBuilder, chosen_items, encode
from companions.lamp.questions import Question
from companions.lamp.rankers import Candidates, Ranker, RankerOptions, ranker_kind
from companions.lamp.rankings import candidates
from companions.lamp.tasks import Item, Task, task_of

if TYPE_CHECKING:
    from utils.distributed import DistributedContext

Pair = tuple[Question, Item]

_CHUNK = 64  # prompts that are made together


@dataclass(frozen=True)
class Example:
    """One prompt."""

    question: str
    """id"""
    item: str | None
    """id of the profile item in it, where there is one for each item"""
    prompt: str
    gold: str | None
    """the output that is right, as the file has it"""
    source: Sequence[int]
    """the prompt's token ids"""
    target: Sequence[int]
    """those of the gold output; empty where there is none"""
    is_cut: bool
    """the prompt has lost its tail, which holds the question itself"""
    without_profile: bool = False
    """there were items for it, and none fits: the prompt is the question alone"""


class PromptReader:
    """Makes the prompts of one configuration.

    Args:
        data: the task and what of the profiles is told.
        lm: gives tokenizer and kind.
        released: prompts of the benchmark's code, bug for bug.
    """

    def __init__(self, data: PromptSettings, lm: LM, released: bool = False) -> None:
        self.data, self.lm, self.released = data, lm, released
        self.task: Task = task_of(data.task or "")
        self.builder = PromptBuilder(self.task, lm.tokenizer, data.max_length, released)
        ranker = "contriever" if data.retriever == "recency_contriever" else data.retriever
        self.ranker = ranker_kind(ranker)
        self.rank: Ranker | None = None  # loads an encoder, perhaps: once it is needed
        self.without_profile = 0  # prompts since it was told of them

    def examples(self, questions: Iterable[Question]) -> Iterator[Example]:
        """A prompt for each question, in their order.

        Raises:
            UserError: what is wrong with a question.
        """
        stream = iter(questions)
        while chunk := list(islice(stream, _CHUNK)):
            chosen: list[list[Item]] = [[] for _ in chunk]
            if self.data.use_profile:
                chosen = [
                    chosen_items(question, self.data.num_retrieved, self.data.retriever, self.released)
                    for question in self._ranked(chunk)
                ]
            yield from self._examples(chunk, chosen, [None] * len(chunk))

    def item_examples(self, pairs: Iterable[Pair]) -> Iterator[Example]:
        """A prompt for each pair of a question and an item, which alone stands in it."""
        stream = iter(pairs)
        while chunk := list(islice(stream, _CHUNK)):
            questions, items = zip(*chunk, strict=True)
            yield from self._examples(questions, [[item] for item in items], [item["id"] for item in items])

    def tell(self, distributed: "DistributedContext") -> None:
        """Say how many prompts, since this was called last, lack their profile; all processes call this."""
        count = sum(distributed.gather(self.without_profile))
        self.without_profile = 0
        if count:
            distributed.say(without_profile_text(count, self.data.max_length))

    def _ranked(self, questions: Sequence[Question]) -> list[Question]:
        if self.data.is_ranked:
            return list(questions)
        if self.rank is None:
            options = RankerOptions(encoder=self.data.encoder, device=self.lm.model.device)
            self.rank = self.ranker.make(options)
        asked: list[Candidates] = [candidates(question, self.task, self.ranker)[0] for question in questions]
        return [
            replace(question, profile=tuple(question.profile[place] for place in order))
            for question, order in zip(questions, self.rank(asked), strict=True)
        ]

    def _examples(
        self,
        questions: Sequence[Question],
        chosen: Sequence[Sequence[Item]],
        names: Sequence[str | None],
    ) -> Iterator[Example]:
        inputs = [question.input for question in questions]
        prompts = self.builder.build(inputs, chosen)
        self.without_profile += sum(prompt.without_profile for prompt in prompts)
        golds = [question.output or "" for question in questions]
        texts = [prompt.text for prompt in prompts]
        encoded = encode_pairs(self.lm, texts, golds, self.data.max_length)
        for question, name, prompt, one in zip(questions, names, prompts, encoded, strict=True):
            known = question.output is not None
            yield Example(
                question.id,
                name,
                prompt.text,
                question.output,
                one.source,
                one.target if known else [],
                one.cut,
                prompt.without_profile,
            )


def without_profile_text(count: int, max_length: int) -> str:
    """What is said of prompts that lack their profile."""
    return f"{count} prompts are the question alone: their profile items do not fit into {max_length} tokens"


def encode_pairs(lm: LM, prompts: Sequence[str], golds: Sequence[str], max_length: int) -> list[Encoded]:
    """Token ids of prompts and of the outputs that are right, as an LM of its kind reads them.

    Args:
        lm: gives tokenizer and kind.
        prompts: as the LM is asked.
        golds: an output for each.
        max_length: L: of either, in tokens; a longer one loses its end.
    """
    if lm.has_encoder:
        return encode(lm.tokenizer, prompts, golds, max_length)
    encoded = encode(lm.tokenizer, prompts, [], max_length)
    # without an encoder the target follows the prompt after a space, and ends with eos
    ids = lm.tokenizer([f" {gold}" for gold in golds], add_special_tokens=False)["input_ids"]
    end = [] if lm.tokenizer.eos_token_id is None else [lm.tokenizer.eos_token_id]
    return [
        replace(one, target=[*target[: max_length - len(end)], *end])
        for one, target in zip(encoded, ids, strict=True)
    ]
