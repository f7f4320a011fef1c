"""Outputs of the LM for a stream of prompts: in large batches of like length, the same as one at a time.

In float32 an output does not depend on its neighbours. In bf16 and float16 sums are rounded otherwise in another
batch, so that of two nearly equal tokens the other one may win.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from companions.lamp.lm.beam_search import BeamSettings, beam_search
from companions.lamp.lm.examples import Example
from companions.lamp.lm.load import LM
from companions.lamp.lm.room import Room

WINDOW = 2048
"""prompts that are sorted by length together: enough for full batches, however many there are in all"""
_LEAVE = 0.25  # the last ones of a batch are left and asked again together, from the start


@dataclass(frozen=True)
class Answer:
    """What the LM made of a prompt."""

    text: str
    """the output without special tokens, stripped"""
    loss: float
    """mean cross-entropy of the target's tokens; 0 where there is none"""
    target_tokens: int


Answered = dict[int, tuple[Example, Answer]]
"""the answers of a batch, by the place of their prompts in a stream"""


class Answerer:
    """Asks an LM in batches.

    Args:
        lm: the LM, on its device.
        search: beams and limits.
        room: how many prompts a batch has, by the length of the longest.
        with_losses: of the targets, too; otherwise they are 0.
    """

    def __init__(self, lm: LM, search: BeamSettings, room: Room, with_losses: bool = True) -> None:
        self.lm, self.search, self.room, self.with_losses = lm, search, room, with_losses

    def stream(self, examples: Iterable[Example], window: int = WINDOW) -> Iterator[Answered]:
        """The answers of a stream of examples, batch by batch; a window of it is in memory at a time."""
        source, before = iter(examples), 0
        while part := list(islice(source, window)):
            for batch in self.batches(part):
                yield {before + number: (part[number], answer) for number, answer in batch.items()}
            before += len(part)

    def batches(self, examples: Sequence[Example]) -> Iterator[dict[int, Answer]]:
        """The answers of some examples by number, batch by batch; equal prompts are asked once."""
        same: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
        for number, example in enumerate(examples):
            same.setdefault((tuple(example.source), tuple(example.target)), []).append(number)
        equal = {numbers[0]: numbers for numbers in same.values()}
        for batch in self._different(examples, list(equal)):
            yield {number: answer for first, answer in batch.items() for number in equal[first]}

    def _different(self, examples: Sequence[Example], numbers: list[int]) -> Iterator[dict[int, Answer]]:
        losses: dict[int, tuple[float, int]] = {}
        late = numbers
        while late:
            batches, late = list(self._batches(examples, late)), []
            for batch in batches:
                leave = 0 if len(batches) == 1 else int(_LEAVE * len(batch))
                texts = self._ask([examples[number] for number in batch], batch, leave, losses)
                late += [number for number, text in zip(batch, texts, strict=True) if text is None]
                yield {
                    number: Answer(text, *losses.pop(number))
                    for number, text in zip(batch, texts, strict=True)
                    if text is not None
                }

    def _batches(self, examples: Sequence[Example], numbers: Sequence[int]) -> Iterator[list[int]]:
        """Numbers by length, the longest first: the first batch shows whether the memory is enough."""
        order = sorted(numbers, key=lambda number: -len(examples[number].source))
        start = 0
        while start < len(order):
            end = start + self.room(len(examples[order[start]].source))
            yield order[start:end]
            start = end

    @torch.inference_mode()
    def _ask(
        self,
        examples: Sequence[Example],
        numbers: Sequence[int],
        leave: int,
        losses: dict[int, tuple[float, int]],
    ) -> list[str | None]:
        """The outputs of a batch; losses are kept for those that are left, too."""
        kind = self.lm.kind
        read = kind.read([example.source for example in examples])
        if not all(number in losses for number in numbers):
            found = self._losses(read, examples)
            losses.update(zip(numbers, found, strict=True))
        outputs = beam_search(kind.decoder(read), self.search, leave)
        done = [output for output in outputs if output is not None]
        texts = iter(self.lm.tokenizer.batch_decode(done, skip_special_tokens=True))
        return [None if output is None else next(texts).strip() for output in outputs]

    def _losses(self, read: object, examples: Sequence[Example]) -> list[tuple[float, int]]:
        counts = [len(example.target) for example in examples]
        if not self.with_losses or not any(counts):
            return [(0.0, 0)] * len(examples)
        values, owner = self.lm.kind.token_losses(read, [example.target for example in examples])
        sums = torch.zeros(len(examples), device=values.device).index_add_(0, owner, values)
        return [(total / max(1, count), count) for total, count in zip(sums.tolist(), counts, strict=True)]
