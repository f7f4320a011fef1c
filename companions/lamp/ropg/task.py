"""The training task of ROPG: the encoder to start from, and batches of questions with feedback on their items."""

from functools import partial

from transformers.utils import logging as transformers_logging

from companions.lamp.encoder import load_encoder
from companions.lamp.item_feedback import feedback_files
from companions.lamp.ropg.batches import Collator, Items, make_loaders
from companions.lamp.ropg.examples import Examples, read_examples
from companions.lamp.ropg.model import Retriever, set_dropout
from companions.lamp.ropg.settings import KDConfig, RLConfig
from companions.lamp.tasks import task_of
from models.task import Prepared, Task
from utils.distributed import DistributedContext
from utils.errors import existing_file
from utils.precision import decide_precision


def ropg_task(config: KDConfig | RLConfig) -> Task:
    """The task of a configuration; its precision is what this device has.

    Raises:
        UserError: an unknown task, a file that is not there, or a precision that this device lacks.
    """
    task_of(config.dataset.task or "")
    precision, reason = decide_precision(config.model.load_bit, "model.load_bit")
    decided = config.replaced(
        {"model": {"load_bit": precision}, "training": {"num_epochs": config.training.rounds}}
    )
    return Task(
        config=decided,
        prepare=partial(_prepare, decided),
        precision=precision,
        accumulation_steps=decided.training.accumulation_steps,
        notes=[reason] if reason else [],
        files=_files(decided),
    )


def _files(config: KDConfig | RLConfig) -> dict[str, str]:
    data = config.dataset
    files = {"train": str(existing_file(data.train or "", "merged file"))}
    shards = feedback_files(data.train_scores or "")
    for number, path in enumerate(shards, start=1):
        files["train_scores" if len(shards) == 1 else f"train_scores_{number}"] = str(path)
    return files


def _prepare(config: KDConfig | RLConfig, distributed: DistributedContext) -> Prepared:
    """Encoder, then examples, then batches."""
    transformers_logging.disable_progress_bar()
    data, training, model = config.dataset, config.training, config.model
    encoder = load_encoder(model.model_name, flag="--model_path FOLDER", precision=model.load_bit)
    if model.gradient_checkpointing:
        encoder.model.gradient_checkpointing_enable({"use_reentrant": False})
    if model.dropout is not None:
        set_dropout(encoder.model, model.dropout)
    train = read_examples(data.train or "", data.train_scores or "", data, encoder)
    notes = _left_out(train, data.train or "")
    valid = train
    if data.valid:
        valid = read_examples(data.valid, data.valid_scores or "", data, encoder)
        notes += _left_out(valid, data.valid)
    else:
        notes.append("validation on the training questions: dataset.valid (--validation_data) is not given")
    collate = Collator(data.ctx_size, encoder.tokenizer.pad_token_id)
    train_loader, valid_loader, on_rounds = make_loaders(
        Items(train, training.seed), Items(valid, training.seed), collate, training, distributed, data.train
    )
    return Prepared(
        module=Retriever(encoder, training),
        train=train_loader,
        valid=valid_loader,
        notes=notes + on_rounds,
        batching=f"at most {data.ctx_size} items per question",
    )


def _left_out(examples: Examples, path: str) -> list[str]:
    count = examples.left_out
    return [f"{count} question(s) of {path} without profile items are left out"] if count else []
