"""From a dialogue file to examples, and from encoded examples to batches."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader

from dataset.dialogue import SILENCE, Example, examples_of
from dataset.encoded import EncodedDataset, dialogues_of, lengths_of
from dataset.encoding import EncodedExample
from dataset.prefetch import PrefetchingLoader
from dataset.readers import read_dialogues
from dataset.sampler import BatchSampler
from dataset.settings import DataConfig, LoadingSettings
from utils.errors import UserError


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among the processes of a run."""

    rank: int = 0
    world_size: int = 1


def read_examples(
    path: str, config: DataConfig, ratio: float = 1.0, only_longest: bool = False
) -> list[Example]:
    """The examples of a dialogue file.

    Args:
        path: the file.
        config: gives the format, and what becomes of an opening `__SILENCE__`.
        ratio: share of the dialogues that is kept, from the start of the file.
        only_longest: keep the last turn of each dialogue only.

    Raises:
        UserError: what the reader finds wrong with the file, or `dataset.silence` leaves no example.
    """
    dialogues = read_dialogues(path, config.dataset.format)
    kept = dialogues[: max(1, round(len(dialogues) * ratio))]
    examples = examples_of(kept, only_longest, silence=config.dataset.silence)
    if not examples and config.dataset.silence == "skip":
        raise UserError(
            f"{path}: dataset.silence: skip leaves no example, as {SILENCE} is all that is answered in it"
        )
    return examples


def make_batches(
    encoded: Sequence[EncodedExample],
    collate: Callable[[Sequence[EncodedExample]], Any],
    training: LoadingSettings,
    train: bool,
    ranks: Ranks | None = None,
    source: str = "the data",
    read: Callable[[], Sequence[Example]] | None = None,
) -> DataLoader[EncodedExample]:
    """Batches of examples that were encoded with their responses, for training or for the validation loss.

    Args:
        encoded: the examples; those of a dialogue stand side by side, in ascending order of their dialogues.
        collate: makes a batch of encoded examples.
        training: batch size, seed, rows and workers.
        train: shuffle, where `shuffle_train` asks for it.
        ranks: this process among all; the default is one process.
        source: what the examples were read from, for error messages.
        read: reads them again, for the same.

    Raises:
        UserError: there is no example, or for training not one for each rank.
    """
    sampler = make_sampler(encoded, training, train, ranks, source)
    return load_batches(EncodedDataset(encoded, read), collate, training.num_workers, sampler)


def make_sampler(
    encoded: Sequence[EncodedExample],
    training: LoadingSettings,
    train: bool,
    ranks: Ranks | None = None,
    source: str = "the data",
) -> BatchSampler:
    """The sampler of `make_batches`; see there."""
    ranks = ranks or Ranks()
    if not encoded:
        raise UserError(f"{source}: no example")
    if train and len(encoded) < ranks.world_size:
        raise UserError(f"{source}: {len(encoded)} example(s) are fewer than the {ranks.world_size} ranks")
    return BatchSampler(
        lengths=lengths_of(encoded),
        dialogues=dialogues_of(encoded),
        batch_size=training.batch_size,
        rank=ranks.rank,
        world_size=ranks.world_size,
        seed=training.seed,
        shuffle=train and training.shuffle_train,
        whole_dialogues=training.rows == "dialogue",
    )


def load_batches(
    dataset: Any,
    collate: Callable[[Any], Any],
    num_workers: int,
    sampler: Iterable[list[int]],
) -> DataLoader[Any]:
    """The batches that a sampler chooses.

    Args:
        dataset: gives an example by its number.
        collate: makes a batch of a list of examples.
        num_workers: processes that prepare batches.
        sampler: gives the numbers of each batch's examples.
    """
    return PrefetchingLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,  # they keep the tokens of personas
        pin_memory=torch.cuda.is_available(),
        # the loader draws its workers' seeds; from the global state it would draw more with workers than without
        generator=torch.Generator(),
    )
