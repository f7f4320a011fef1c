"""What the tests of ROPG share: golden cases as the files that training reads, and their batches."""

import json
import random
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


PAIRS = (("oven", "harbour"), ("garden", "sensor"), ("choir", "kernel"), ("captain", "beetle"))
"""a question that has the first word is served by the item that has the second"""


def write_files(folder: Path, name: str, count: int, seed: int, date: bool = True) -> dict[str, str]:
    """A merged file of LaMP-4 and its feedback, `merged` and `scores`: four items, one of which serves."""
    generator = random.Random(seed)
    questions, feedback = [], {}
    for number in range(count):
        asked, wanted = generator.choice(PAIRS)
        filler = " ".join(
            generator.choices(("the", "old", "quiet", "in", "every"), k=generator.randint(1, 3))
        )
        profile = []
        for place, (_, word) in enumerate(generator.sample(PAIRS, 4)):
            item = {"id": f"{number}{place}", "title": f"the {word}", "text": f"{filler} {word}"}
            profile.append(item | ({"date": f"20{place + 10}-05"} if date else {}))
            feedback[f"q{number}-{item['id']}"] = {"rouge-1": 0.9 if word == wanted else 0.1, "loss": 1.0}
        text = f"Generate a headline for the following article: the {asked} {filler}"
        questions.append({"id": f"q{number}", "input": text, "profile": profile, "output": "a title"})
    files = {"merged": folder / f"{name}.json", "scores": folder / f"{name}.scores.json"}
    for path, content in zip(files.values(), (questions, feedback), strict=True):
        path.write_text(json.dumps(content), encoding="utf-8")
    return {key: str(path) for key, path in files.items()}
