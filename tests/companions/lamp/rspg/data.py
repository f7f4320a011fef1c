"""What the tests of RSPG share: the golden scorer, and small data sets in which one strategy serves."""

import json
import random
from pathlib import Path

from safetensors.torch import load_file

from companions.lamp.encoder import load_encoder
from companions.lamp.rspg.inputs import InputMaker
from companions.lamp.rspg.model import Scorer
from companions.lamp.rspg.settings import RspgConfig
from companions.lamp.rspg.task import input_maker
from tests.companions.lamp.golden import GOLDEN

ENCODER = GOLDEN / "models" / "longformer-tiny"
SMALL = GOLDEN / "models" / "bert-tiny"
STRATEGIES = ("none", "recency", "bm25")


def config_of(task: str, kind: str, fidelity: str = "paper", **training: object) -> RspgConfig:
    """A configuration of the tiny scorer."""
    return RspgConfig.model_validate(
        {
            "model": {"model_name": str(ENCODER), "fidelity": fidelity},
            "dataset": {"task": task, "rspg_type": kind, "valid": "valid.json"},
            "training": training,
        }
    )


def golden_scorer(config: RspgConfig, name: str, strategies: list[str]) -> Scorer:
    """The scorer of the golden cases, in evaluation mode; `name` is its folder."""
    encoder = load_encoder(config.model.model_name)
    weights = load_file(GOLDEN / name / "model.safetensors")
    of = {
        prefix: {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        for prefix in ("model.", "classifier.")
    }
    encoder.model.load_state_dict(of["model."])
    return Scorer(encoder, config, strategies, of["classifier."]).eval()


def maker_of(scorer: Scorer, max_length: int) -> InputMaker:
    """Makes the inputs of a scorer."""
    config = scorer.config.replaced({"dataset": {"max_length_input": max_length}})
    return input_maker(config, scorer.encoder)


WORDS = {"none": "oven", "recency": "harbour", "bm25": "garden"}
"""a question with this word is served by the strategy"""


def write_rows(folder: Path, name: str, count: int, seed: int = 0) -> str:
    """RSPG data of LaMP-4: the prompt of one strategy, which the question's first word names, gives the gold."""
    generator = random.Random(seed)
    rows = []
    for number in range(count):
        wanted = generator.choice(STRATEGIES)
        gold = f"a title {number}"
        rows.append(
            {
                "id": f"q{number}",
                "input": "Generate a headline",
                "gold": gold,
                "labels": [1.0 if strategy == wanted else 0.0 for strategy in STRATEGIES],
                "outputs": [gold if strategy == wanted else "Nothing" for strategy in STRATEGIES],
                "inputs": [
                    f"the {WORDS[strategy] if strategy == wanted else 'sensor'} and the quiet kernel"
                    for strategy in STRATEGIES
                ],
                "strategies": list(STRATEGIES),
                "metric": "rouge-1",
            }
        )
    path = folder / f"{name}.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return str(path)
