"""The training task of RSPG: the scorer, and batches of questions with feedback on every strategy."""

from functools import partial

from transformers.utils import logging as transformers_logging

from companions.lamp.encoder import Encoder
from companions.lamp.questions import read_outputs
from companions.lamp.ropg.batches import make_loaders
from companions.lamp.ropg.model import set_dropout
from companions.lamp.rspg.batches import Collator, read_examples
from companions.lamp.rspg.data import read_rows
from companions.lamp.rspg.inputs import InputFormat, InputMaker
from companions.lamp.rspg.model import load_scorer, scorer_encoder
from companions.lamp.rspg.settings import RspgConfig
from companions.lamp.tasks import task_of
from models.task import Prepared, Task
from utils.distributed import DistributedContext
from utils.errors import UserError, existing_file
from utils.precision import decide_precision


def rspg_task(config: RspgConfig) -> Task:
    """The task of a configuration; its precision is what this device has.

    Raises:
        UserError: an unknown task, a file that is not there or not named, or a precision that this device lacks.
    """
    task_of(config.dataset.task or "")
    if not config.dataset.train:
        raise UserError("dataset.train (--train_data) is missing: a file of create_data")
    precision, reason = decide_precision(config.model.load_bit, "model.load_bit")
    decided = config.replaced(
        {"model": {"load_bit": precision}, "training": {"num_epochs": config.training.rounds}}
    )
    data = decided.dataset
    files = {
        name: str(existing_file(path, "RSPG data"))
        for name, path in (("train", data.train), ("valid", data.valid))
        if path
    }
    return Task(
        config=decided,
        prepare=partial(_prepare, decided),
        precision=precision,
        accumulation_steps=decided.training.accumulation_steps,
        notes=[reason] if reason else [],
        files=files,
    )


def input_maker(config: RspgConfig, encoder: Encoder) -> InputMaker:
    """Makes the inputs that a configuration asks for."""
    data = config.dataset
    return InputMaker(
        encoder, InputFormat(data.rspg_type or "Pre", data.max_length_input, config.model.released)
    )


def check_golds(config: RspgConfig) -> None:
    """The validation questions have the golds of `dataset.valid_golds`, where it is given, and it has no others.

    Raises:
        UserError: the first difference.
    """
    data = config.dataset
    if not data.valid_golds:
        return
    task = task_of(data.task or "")
    golds = dict(read_outputs(data.valid_golds, task, "gold file"))
    for row in read_rows(data.valid or "", task):
        gold = golds.pop(row.id, None)
        if gold is None:
            raise UserError(f"{data.valid_golds}: no gold for question '{row.id}' of {data.valid}")
        if gold != row.gold:
            raise UserError(f"{data.valid}: question '{row.id}': its gold is not that of {data.valid_golds}")
    if golds:
        raise UserError(
            f"{data.valid}: no question '{next(iter(golds))}', of which {data.valid_golds} has the gold"
        )


def _prepare(config: RspgConfig, distributed: DistributedContext) -> Prepared:
    """Encoder, then examples, then batches."""
    transformers_logging.disable_progress_bar()
    data, training = config.dataset, config.training
    check_golds(config)
    task = task_of(data.task or "")
    encoder = scorer_encoder(config)
    maker = input_maker(config, encoder)
    train = read_examples(data.train or "", task, maker)
    valid = read_examples(data.valid or "", task, maker, with_values=True)
    if valid.strategies != train.strategies:
        raise UserError(
            f"{data.valid}: its strategies are {', '.join(valid.strategies)}, those of {data.train} "
            f"{', '.join(train.strategies)}"
        )
    module = load_scorer(config, encoder, train.strategies)
    if config.model.gradient_checkpointing:
        module.lm.gradient_checkpointing_enable({"use_reentrant": False})
    if config.model.dropout is not None:
        set_dropout(module.lm, config.model.dropout)
    collate = Collator(encoder.tokenizer.pad_token_id)
    train_loader, valid_loader, notes = make_loaders(train, valid, collate, training, distributed, data.train)
    return Prepared(
        module=module,
        train=train_loader,
        valid=valid_loader,
        notes=notes,
        batching=f"{len(train.strategies)} strategies per question",
    )
