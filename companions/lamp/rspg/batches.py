"""Questions with their inputs under every strategy: as arrays, and as padded batches."""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from companions.lamp.metrics import OutputError, Scored, compare, official_names
from companions.lamp.ropg.batches import in_parts
from companions.lamp.rspg.data import Row, read_rows
from companions.lamp.rspg.inputs import InputMaker
from companions.lamp.tasks import Task
from utils.errors import UserError

_CHUNK = 64  # questions that are tokenised together


@dataclass(frozen=True)
class Example:
    """One question under R strategies."""

    inputs: list[NDArray[np.int32]]  # R of [tokens]
    utilities: NDArray[np.float32]  # [R], higher is better
    values: NDArray[
        np.float64
    ]  # [R, S] of each output, see `Scored.values`; S is 0 where they are not asked for
    number: int
    """its place in the file"""


@dataclass(frozen=True)
class ChoiceBatch:
    """B questions under R strategies."""

    texts: tuple[tuple[Tensor, Tensor], ...]
    """ids and mask [n, S] of each part; together at least R * B texts"""
    places: Tensor
    """[R, B] which text is the input"""
    utilities: Tensor
    """[R, B] float32"""
    values: Tensor
    """[R, B, S] float64, see `Example`"""
    indices: Tensor
    """[B] places in the file"""

    @property
    def num_examples(self) -> int:
        """B."""
        return len(self.indices)

    def to(self, device: torch.device) -> "ChoiceBatch":
        """The same batch on another device."""
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        texts = tuple((ids.to(device), mask.to(device)) for ids, mask in self.texts)
        return ChoiceBatch(texts=texts, **tensors)


class Examples(Dataset[Example]):
    """The questions of a file as token ids in a few arrays; example i of pass p (from 0) has the number p * n + i.

    Args:
        strategies: R names.
        ids: the ids of all inputs one after another, R for each of n questions.
        ends: where each input ends in `ids` [n * R].
        utilities: [n, R].
        values: [n, R, S].
    """

    def __init__(
        self,
        strategies: tuple[str, ...],
        ids: NDArray[np.int32],
        ends: NDArray[np.int64],
        utilities: NDArray[np.float32],
        values: NDArray[np.float64],
    ) -> None:
        self.strategies, self.ids = strategies, ids
        self.borders = np.append(0, ends)
        self.utilities, self.values = utilities, values

    def __len__(self) -> int:
        return len(self.utilities)

    def __getitem__(self, number: int) -> Example:
        place = number % len(self)
        count = len(self.strategies)
        texts = range(place * count, (place + 1) * count)
        inputs = [self.ids[self.borders[text] : self.borders[text + 1]] for text in texts]
        return Example(inputs, self.utilities[place], self.values[place], place)

    def tokens(self) -> NDArray[np.int64]:
        """Tokens of each question's inputs in all [n]."""
        lengths: NDArray[np.int64] = np.diff(self.borders).reshape(len(self), -1).sum(axis=1)
        return lengths


def read_examples(path: str, task: Task, maker: InputMaker, with_values: bool = False) -> Examples:
    """The questions of a file.

    Args:
        path: as create_data writes it.
        task: its task.
        maker: makes the inputs.
        with_values: keep what the official metrics of each output are made of.

    Raises:
        UserError: what is wrong with the file, by question, or a single strategy, which leaves nothing to choose.
    """
    ids, lengths, utilities, values = array("i"), [], [], []
    strategies: tuple[str, ...] = ()
    rows = read_rows(path, task)
    while chunk := list(islice(rows, _CHUNK)):
        strategies = chunk[0].strategies
        if len(strategies) < 2:
            raise UserError(
                f"{path}: one strategy ({strategies[0]}) leaves nothing to choose; give two or more"
            )
        found = inputs_of(chunk, maker)
        for text in found:
            ids.extend(text)
            lengths.append(len(text))
        utilities += [row.utilities for row in chunk]
        if with_values:
            values.append(compare_outputs(path, task, chunk, maker.form.released).values)
    shape = (len(utilities), len(strategies))
    return Examples(
        strategies=strategies,
        ids=np.frombuffer(ids, dtype=np.int32),
        ends=np.cumsum(lengths, dtype=np.int64),
        utilities=np.asarray(utilities, dtype=np.float32),
        values=np.concatenate(values).reshape(*shape, -1) if values else np.empty((*shape, 0)),
    )


def inputs_of(rows: Sequence[Row], maker: InputMaker) -> list[list[int]]:
    """Token ids of the inputs of some questions, R for each."""
    prompts = [prompt for row in rows for prompt in row.prompts]
    return maker.ids(prompts, [output for row in rows for output in row.outputs])


def official_of(task: Task) -> Callable[[NDArray[np.float64]], dict[str, float]]:
    """What makes the official metrics of a task from the means [S] of `Scored.values`."""
    gold = task.labels[0] if task.labels else ""
    combine = compare(task, [gold], [gold]).combine

    def metrics(means: NDArray[np.float64]) -> dict[str, float]:
        return {name: float(value) for name, value in official_names(task, combine(means)).items()}

    return metrics


def compare_outputs(path: str, task: Task, rows: Sequence[Row], released: bool) -> Scored:
    """The outputs of some questions, R for each, compared with their golds.

    Raises:
        UserError: an output or a gold that cannot be scored.
    """
    outputs = [(row, output) for row in rows for output in row.outputs]
    try:
        return compare(task, [output for _, output in outputs], [row.gold for row, _ in outputs], released)
    except OutputError as error:
        raise UserError(f"{path}: question '{outputs[error.index][0].id}': {error}") from None


class Collator:
    """Makes a batch of examples.

    Args:
        pad_id: of the encoder's tokenizer; None where it has none.
    """

    def __init__(self, pad_id: int | None) -> None:
        self.pad_id = pad_id

    def __call__(self, examples: Sequence[Any]) -> ChoiceBatch:
        """The batch of these examples."""
        texts = [text.tolist() for example in examples for text in example.inputs]
        parts, place = in_parts(texts, self.pad_id)
        return ChoiceBatch(
            texts=parts,
            places=place.view(len(examples), -1).T,
            utilities=torch.from_numpy(np.stack([example.utilities for example in examples])).T,
            values=torch.from_numpy(np.stack([example.values for example in examples])).transpose(0, 1),
            indices=torch.tensor([example.number for example in examples]),
        )
