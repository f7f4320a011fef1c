"""What the tests of ROPG share: golden cases as the files that training reads, and their batches."""

import dataclasses
import json
from pathlib import Path

from companions.lamp.encoder import Encoder, load_encoder
from companions.lamp.ropg.batches import Collator, Items, RetrievalBatch
from companions.lamp.ropg.examples import Examples, read_examples
from companions.lamp.ropg.settings import FeedbackDataSettings
from tests.companions.lamp.golden import GOLDEN, load

ENCODER = GOLDEN / "models" / "bert-tiny"


def encoder() -> Encoder:
    """A fresh copy of the tiny encoder."""
    return load_encoder(str(ENCODER))


def data_of(golden: dict, case: dict) -> FeedbackDataSettings:
    """The settings of a golden case."""
    return FeedbackDataSettings(
        task=golden["task"],
        train=str(GOLDEN / golden["train_data"]),
        train_scores=str(GOLDEN / golden["feedback_file"]),
        ctx_size=case["ctx_size"],
        max_length_query=case["max_length_query"],
        max_length_document=case["max_length_document"],
    )


def examples_of(golden: dict, case: dict, folder: Path, encoder: Encoder) -> Examples:
    """The questions of a golden case, in its order, read from a merged file with these alone."""
    by_id = {question["id"]: question for question in load(golden["train_data"])}
    merged = folder / "merged.json"
    merged.write_text(json.dumps([by_id[name] for name in case["ids"]]), encoding="utf-8")
    data = data_of(golden, case)
    return read_examples(str(merged), data.train_scores, data, encoder)


def batch_of(examples: Examples, ctx_size: int, seed: int = 0) -> RetrievalBatch:
    """All questions as one batch."""
    items = Items(examples, seed)
    return Collator(ctx_size, pad_id=0)([items[number] for number in range(len(items))])


def swept(batch: RetrievalBatch, **changes: object) -> RetrievalBatch:
    """The batch with some of its tensors replaced."""
    return dataclasses.replace(batch, **changes)
