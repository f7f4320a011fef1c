"""The training task of every model type: dialogues, a tokenizer, and a model on an LM."""

import mmap
import os
from collections.abc import Sequence
from functools import partial
from typing import cast

from transformers.utils import logging as transformers_logging

from dataset.dialogue import SILENCE
from dataset.encoding import EncodedExample
from dataset.loading import Ranks
from dataset.overlap import encoded_overlap
from dataset.settings import DatasetSettings
from models.reading import make_loader
from models.registry import build_model, build_tokenizer
from models.settings import Config
from models.task import BatchLoader, Prepared, Task
from utils.distributed import DistributedContext
from utils.liveness import main_first
from utils.precision import decide_precision


def dialogue_task(config: Config) -> Task:
    """The task of a configuration; its precision is what this device has.

    Raises:
        UserError: a precision that this device lacks.
    """
    precision, reason = decide_precision(config.model.load_bit, "model.load_bit")
    decided = config.replaced({"model": {"load_bit": precision}})
    return Task(
        config=decided,
        prepare=partial(_prepare, decided),
        precision=precision,
        notes=[reason] if reason else [],
        files={"train": decided.dataset.train, "valid": decided.dataset.valid},
    )


def _prepare(config: Config, distributed: DistributedContext) -> Prepared:
    """Tokenizer, model, then batches: random numbers are drawn in this order."""
    transformers_logging.disable_progress_bar()
    tokenizer = build_tokenizer(config)
    model = build_model(config, tokenizer)
    limit, wanted = model.text_limit(0), config.dataset.max_token_length
    notes = [] if model.lm.attention_note is None else [model.lm.attention_note]
    if limit is not None and limit < wanted:
        notes.append(f"texts are cut to {limit} tokens, not {wanted}: the LM's positions")
    if tokenizer.pad_token_id is None:
        notes.append("padding with eos: the tokenizer has no pad token; targets are marked by position")
    silence = silence_note(config.dataset)
    if silence is not None:
        notes.append(silence)
    ranks = Ranks(distributed.rank, distributed.size)

    def loader(path: str, train: bool) -> BatchLoader:
        make = partial(make_loader, path, tokenizer, config, train=train, ranks=ranks, max_tokens=limit)
        return cast(BatchLoader, main_first(distributed, make, config.dataset.cache_dir is not None))

    train, valid = loader(config.dataset.train, True), loader(config.dataset.valid, False)
    return Prepared(
        module=model,
        train=train,
        valid=valid,
        notes=notes,
        batching=f"rows: {config.training.rows}",
        warnings=overlap_warnings(config.dataset, train.dataset.examples, valid.dataset.examples)
        if distributed.is_main
        else {},
    )


def overlap_warnings(
    data: DatasetSettings, train: Sequence[EncodedExample], valid: Sequence[EncodedExample]
) -> dict[str, str]:
    """For `Prepared.warnings`: what the validation file has in common with the training file.

    Args:
        data: names the files.
        train: examples of the training file.
        valid: those of the validation file, of the same encoder.
    """
    sentence = encoded_overlap(train, valid).warning(data.train, data.valid)
    return {} if sentence is None else {"overlap": sentence}


def silence_note(data: DatasetSettings) -> str | None:
    """What is to be said where `__SILENCE__` stands in the training file and stays, and the validation file has none.

    Args:
        data: names the files; that one of them cannot be read is said by its reader.
    """
    if data.silence != "keep" or not _holds_silence(data.train) or _holds_silence(data.valid):
        return None
    return (
        f"dataset.silence: keep leaves {SILENCE} in the texts of {data.train}, which {data.valid} has nowhere; drop or "
        "skip leaves it out (docs/data.md)"
    )


def _holds_silence(path: str) -> bool:
    if not os.path.isfile(path):  # opening a pipe would wait for ever
        return False
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(SILENCE.encode()) >= 0
    except (OSError, ValueError):  # ValueError: it is empty
        return False


def set_tokenizer_threads(parallel: bool) -> None:
    """`--tokenizer_parallel`: whether the tokenizers library may use threads of its own."""
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if parallel else "false"
