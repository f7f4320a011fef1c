"""From a dialogue file to batches: read, take the share asked for, encode, collate, load."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, Dataset

from dataset.batch import Batch
from dataset.dialogue import Example, examples_of
from dataset.encoding import EncodedExample, ExampleEncoder
from dataset.readers import read_dialogues
from dataset.sampler import BatchSampler
from dataset.settings import DataConfig
from utils.errors import UserError


class EncodedDataset(Dataset[EncodedExample]):
    """Encoded examples by number."""

    def __init__(self, examples: Sequence[EncodedExample]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, number: int) -> EncodedExample:
        return self.examples[number]


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
        config: gives the format.
        ratio: share of the dialogues that is kept, from the start of the file.
        only_longest: keep the last turn of each dialogue only.
    """
    dialogues = read_dialogues(path, config.dataset.format)
    kept = dialogues[: max(1, round(len(dialogues) * ratio))]
    return examples_of(kept, only_longest)


def load_batches(
    path: str,
    config: DataConfig,
    encoder: ExampleEncoder,
    collate: Callable[[Sequence[EncodedExample]], Batch],
    train: bool,
    ranks: Ranks | None = None,
) -> DataLoader[EncodedExample]:
    """Batches of a dialogue file with responses, for training or for the validation loss: a `Batch` each.

    Args:
        path: the file.
        config: the configuration.
        encoder: makes token ids of its examples.
        collate: makes a batch of encoded examples.
        train: shuffle, and apply training_ratio.
        ranks: this process among all; the default is one process.

    Raises:
        UserError: what is wrong with the file or an example, by line.
    """
    ranks = ranks or Ranks()
    training = config.training
    examples = read_examples(path, config, training.training_ratio if train else 1.0, training.only_longest)
    encoded = encoder.encode(examples, with_response=True)
    if train and len(encoded) < ranks.world_size:
        raise UserError(f"{path}: {len(encoded)} example(s) are fewer than the {ranks.world_size} ranks")
    sampler = BatchSampler(
        lengths=[len(example.ids) for example in encoded],
        dialogues=[example.dialogue for example in encoded],
        batch_size=training.batch_size,
        rank=ranks.rank,
        world_size=ranks.world_size,
        seed=training.seed,
        shuffle=train and training.shuffle_train,
        whole_dialogues=training.rows == "dialogue",
    )
    return DataLoader(
        EncodedDataset(encoded),
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=training.num_workers,
        persistent_workers=training.num_workers > 0,  # they keep the BLEU of persona pairs
        pin_memory=torch.cuda.is_available(),
        # the loader draws its workers' seeds; from the global state it would draw more with workers than without
        generator=torch.Generator(),
    )
