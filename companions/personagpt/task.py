"""The training task of both stages: dialogues alone, or examples of action codes beside them."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from torch.utils.data import DataLoader
from transformers.utils import logging as transformers_logging

from companions.personagpt.action_data import encode_actions, read_action_examples
from companions.personagpt.control import build_controlled
from companions.personagpt.model import PersonaGPT, build_personagpt
from companions.personagpt.prepared import read_with_counts
from companions.personagpt.prompts import PersonaEncoder
from companions.personagpt.released import WholeUpdates, shuffled
from companions.personagpt.settings import PersonaConfig
from companions.personagpt.streams import StreamCollator, StreamDataset, StreamSampler, joined, recycled
from companions.personagpt.tokens import make_tokenizer
from dataset.batch import Collator
from dataset.encoded import EncodedDataset
from dataset.encoded_cache import encoded_file
from dataset.encoding import EncodedExample
from dataset.loading import Ranks, load_batches, make_batches, make_sampler
from models.dialogue_task import dialogue_task, overlap_warnings
from models.reading import example_file
from models.task import BatchLoader, Prepared, Task
from utils.distributed import DistributedContext
from utils.errors import UserError, existing_file
from utils.files import file_sha256
from utils.liveness import main_first


def persona_task(config: PersonaConfig) -> Task:
    """The task of a configuration; its precision is what this device has.

    Raises:
        UserError: a precision that this device lacks, a missing file, or what is wrong with one of action codes.
    """
    files = {"train": config.dataset.train}
    # told before an earlier stage of the same command is trained
    existing_file(config.dataset.train, "dialogue file")
    existing_file(config.dataset.valid, "dialogue file")
    if config.training.stage == "control":
        files["actions"] = str(config.dataset.actions)
        for path in (config.dataset.actions, config.dataset.valid_actions):
            if path is not None:
                read_action_examples(path, config)
    task = dialogue_task(config)
    return replace(task, prepare=partial(_prepare, task.config), files=files)


def _prepare(config: PersonaConfig, distributed: DistributedContext) -> Prepared:
    """Tokenizer, model, then batches: random numbers are drawn in this order."""
    transformers_logging.disable_progress_bar()
    ranks = Ranks(distributed.rank, distributed.size)
    if config.model.released and ranks.world_size > 1:
        raise UserError(
            f"model.fidelity: released_code trains on one rank, as the release did; here are {ranks.world_size}"
        )
    control = config.training.stage == "control"
    tokenizer = make_tokenizer(config.model)
    model = (build_controlled if control else build_personagpt)(config, tokenizer)
    data = _Data(config, PersonaEncoder(tokenizer, config, model.text_limit(0)), distributed)
    train, valid = (_with_actions if control else _dialogues_alone)(data, ranks)
    return Prepared(
        module=model,
        train=cast(BatchLoader, train),
        valid=cast(BatchLoader, valid),
        notes=[*_choices(model, data.encoder.max_tokens), *data.notes],
        batching=f"rows: {config.training.rows}",
        warnings=data.warnings,
    )


def _choices(model: PersonaGPT, max_tokens: int) -> list[str]:
    """What was decided about tokens."""
    notes, wanted = [], model.config.dataset.max_token_length
    if max_tokens < wanted:
        notes.append(f"texts are cut to {max_tokens} tokens, not {wanted}: the LM's positions")
    if model.tokenizer.pad_token_id is None:
        notes.append("padding with eos: the tokenizer has no pad token; targets are marked by position")
    if model.rows_added:
        notes.append(f"{model.rows_added} rows added to the token table, for tokens that the LM did not have")
    return notes


class _Data:
    """Encoded examples of a configuration's files, and notes on what was left out of them."""

    def __init__(
        self, config: PersonaConfig, encoder: PersonaEncoder, distributed: DistributedContext
    ) -> None:
        self.config, self.encoder, self.distributed = config, encoder, distributed
        self.collator = Collator(pad_id=encoder.pad, share_rows=config.training.rows == "dialogue")
        self.notes: list[str] = []
        self.warnings: dict[str, str] = {}

    def both_files(self) -> tuple[Sequence[EncodedExample], Sequence[EncodedExample]]:
        """The examples of training and validation; all ranks must call it."""
        files = self.config.dataset
        train = self.dialogues(files.train, self.config.training.training_ratio)
        valid = self.dialogues(files.valid)
        if self.distributed.is_main:
            self.warnings |= overlap_warnings(files, train, valid)
        return train, valid

    def dialogues(self, path: str, ratio: float = 1.0) -> Sequence[EncodedExample]:
        """The examples of a file of dialogues, with their responses; all ranks must call it."""
        only_longest = self.config.training.only_longest
        sha256 = file_sha256(path)
        examples, counts = read_with_counts(path, self.config, ratio, only_longest)
        if counts is not None:
            self.notes.append(f"{path}: {counts}")
        source = example_file(path, self.config, ratio, only_longest, examples, sha256)
        tokenizer, folder = self.encoder.text.tokenizer, self.config.dataset.cache_dir
        is_main = self.distributed.is_main
        encode = partial(encoded_file, source, self.encoder, tokenizer, True, folder, is_main)
        return main_first(self.distributed, encode, folder is not None)

    def actions(self, path: str | None) -> list[EncodedExample]:
        """The examples of a file of action codes; none without a file."""
        if path is None:
            return []
        return encode_actions(read_action_examples(path, self.config), self.encoder)

    def sampler(self, train: Sequence[EncodedExample], ranks: Ranks) -> Any:
        """Batches of examples of dialogues to train on."""
        training = self.config.training
        if self.config.model.released:
            order = shuffled(len(train), training.seed, training.shuffle_train)
            return WholeUpdates(len(train), training.batch_size, order)
        return make_sampler(train, training, True, ranks, self.config.dataset.train)


_Loaders = tuple[DataLoader[EncodedExample], DataLoader[EncodedExample]]


def _dialogues_alone(data: _Data, ranks: Ranks) -> _Loaders:
    """Batches of the stage `pretrain`."""
    files, training, collate = data.config.dataset, data.config.training, data.collator.train
    train, valid = data.both_files()
    return (
        load_batches(EncodedDataset(train), collate, training.num_workers, data.sampler(train, ranks)),
        make_batches(valid, collate, training, False, ranks, files.valid),
    )


def _with_actions(data: _Data, ranks: Ranks) -> _Loaders:
    """Batches of the stage `control`; validation has each example of either kind once."""
    files, training, collate = data.config.dataset, data.config.training, data.collator.train
    old, old_valid = data.both_files()
    new, new_valid = data.actions(files.actions), data.actions(files.valid_actions)
    data.notes.append(
        f"{files.actions}: {len(new)} examples beside {len(old)} of dialogues; they come again as often as it takes"
    )
    order = recycled(len(new), training.seed, ranks, training.shuffle_train)
    sampler = StreamSampler(data.sampler(old, ranks), len(old), order)
    of_train, of_valid = (StreamCollator(collate, len(part)).train for part in (old, old_valid))
    return (
        load_batches(StreamDataset(joined(old, new), len(old)), of_train, training.num_workers, sampler),
        make_batches(joined(old_valid, new_valid), of_valid, training, False, ranks, files.valid),
    )
