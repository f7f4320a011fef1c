"""The training task of an LM: its examples in memory as token ids, and batches of like length."""

from array import array
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset
from transformers.utils import logging as transformers_logging

from companions.lamp.lm.evaluate import evaluate_file
from companions.lamp.lm.examples import Example, PromptReader, without_profile_text
from companions.lamp.lm.load import load_lm
from companions.lamp.lm.model import AnswerBatch, AnsweringModel
from companions.lamp.lm.settings import USUAL_BATCH, TrainConfig
from companions.lamp.questions import read_questions
from companions.lamp.tasks import task_of
from dataset.overlap import Overlap
from dataset.sampler import BatchSampler
from models.task import Prepared, Task
from trainer.training import train
from utils.distributed import DistributedContext
from utils.errors import UserError, existing_file
from utils.precision import decide_precision

Numbered = tuple[int, Example]


class Examples(Dataset[Numbered]):
    """Examples by number."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, number: int) -> Numbered:
        return number, self.examples[number]


def train_lm(
    config: TrainConfig,
    distributed: DistributedContext,
    name: str | None,
    ds_config_path: str | None = None,
    resume: str | None = None,
) -> Path:
    """Train the LM of a configuration; with a test file, evaluate its best checkpoint on that.

    Args:
        config: of train_llm.
        distributed: the processes; all of them call this.
        name: of the run folder, before the time; the task's by default.
        ds_config_path: DeepSpeed configuration; the default is the project's.
        resume: a run folder whose training goes on, see `trainer.training.train`.

    Returns:
        The run folder, with the LM in its folder `model`.

    Raises:
        UserError: what is wrong with configuration, LM or files.
    """
    task, test = lm_task(config), config.dataset.test
    if test:
        existing_file(test, "test file")
        if not config.training.save_model:
            raise UserError("a test file needs the checkpoint that training.save_model: false does not keep")
    name = name or task_of(config.dataset.task or "").option
    folder = train(task, distributed, name, ds_config_path, resume=resume)
    if test:
        precision = task.config.model.load_bit
        lm = load_lm(str(folder), precision).to(distributed.device)
        reader = PromptReader(config.dataset, lm, config.model.released)
        evaluate_file(lm, reader, test, config.generation, distributed, folder, "test", config.model.released)
    return folder


def lm_task(config: TrainConfig) -> Task:
    """The task of a configuration; its precision is what this device has.

    Raises:
        UserError: an unknown task, a file that is not there, or a precision that this device lacks.
    """
    task_of(config.dataset.task or "")
    files = {"train": config.dataset.train or "", "valid": config.dataset.valid or ""}
    for path in files.values():
        existing_file(path, "merged file")
    precision, reason = decide_precision(config.model.load_bit, "model.load_bit")
    decided = config.replaced({"model": {"load_bit": precision}})
    return Task(
        config=decided,
        prepare=partial(_prepare, decided),
        precision=precision,
        accumulation_steps=decided.training.accumulation_steps,
        notes=[reason] if reason else [],
        files=files,
    )


def _prepare(config: TrainConfig, distributed: DistributedContext) -> Prepared:
    """LM, then examples, then batches."""
    transformers_logging.disable_progress_bar()
    data, training, generation = config.dataset, config.training, config.generation
    lm = load_lm(config.model.model_name or "", config.model.load_bit)
    lm.check_lengths(data.max_length, generation.max_length)
    if config.model.gradient_checkpointing:
        lm.model.gradient_checkpointing_enable({"use_reentrant": False})
    reader = PromptReader(data, lm, config.model.released)
    train_examples = read_examples(reader, data.train or "")
    valid_examples = read_examples(reader, data.valid or "")
    if len(train_examples) < distributed.size:
        raise UserError(f"{data.train}: {len(train_examples)} question(s) for {distributed.size} ranks")
    notes = []
    for path, examples in ((data.train, train_examples), (data.valid, valid_examples)):
        if cut := sum(example.is_cut for example in examples):
            notes.append(
                f"{cut} of {len(examples)} prompts of {path} are cut to {data.max_length} tokens, without their end"
            )
        if alone := sum(example.without_profile for example in examples):
            notes.append(f"{path}: {without_profile_text(alone, data.max_length)}")
    return Prepared(
        module=AnsweringModel(
            lm,
            reader.task,
            lm.search(generation.num_beams, generation.max_length),
            training,
            config.model.released,
        ),
        train=make_loader(train_examples, config, distributed, training.batch_size, shuffle=True),
        valid=make_loader(
            valid_examples, config, distributed, generation.batch_size or USUAL_BATCH, shuffle=False
        ),
        notes=notes,
        warnings=_overlap(config, train_examples, valid_examples),
    )


def _overlap(config: TrainConfig, train: Sequence[Example], valid: Sequence[Example]) -> dict[str, str]:
    known = set(map(_hash, train))
    equal = sum(_hash(example) in known for example in valid)
    overlap = Overlap(dialogues=0, num_dialogues=0, examples=equal, num_examples=len(valid), personas=0)
    sentence = overlap.warning(config.dataset.train or "", config.dataset.valid or "")
    return {} if sentence is None else {"overlap": sentence}


def _hash(example: Example) -> int:
    return hash(tuple(array("i", ids).tobytes() for ids in (example.source, example.target)))


def read_examples(reader: PromptReader, path: str) -> list[Example]:
    """The examples of a merged file as token ids in arrays, without their texts.

    Raises:
        UserError: what is wrong with the file, or it has no question.
    """
    task = reader.task if reader.data.use_profile else None
    examples = [
        replace(example, prompt="", source=array("i", example.source), target=array("i", example.target))
        for example in reader.examples(read_questions(path, task, need_output=True))
    ]
    if not examples:
        raise UserError(f"{path}: no question")
    return examples


def make_loader(
    examples: Sequence[Example],
    config: TrainConfig,
    distributed: DistributedContext,
    batch_size: int,
    shuffle: bool,
) -> "DataLoader[Numbered]":
    """Batches of this rank: an `AnswerBatch` each."""
    sampler = BatchSampler(
        [len(example.source) for example in examples],
        range(len(examples)),
        batch_size=batch_size,
        rank=distributed.rank,
        world_size=distributed.size,
        seed=config.training.seed,
        shuffle=shuffle,
    )
    workers = config.training.num_workers
    return DataLoader(
        Examples(examples),
        batch_sampler=sampler,
        collate_fn=_collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        # the loader draws its workers' seeds; from the global state it would draw more with workers than without
        generator=torch.Generator(),
    )


def _collate(numbered: Sequence[Numbered]) -> AnswerBatch:
    numbers, examples = zip(*numbered, strict=True)
    return AnswerBatch(tuple(examples), torch.tensor(numbers))
