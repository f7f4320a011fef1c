"""Files of users who answer one text in different ways, and adapters for them."""

import json
from pathlib import Path

import pytest

from companions.lamp.peft.settings import UserEvaluationConfig, UserTrainConfig
from companions.lamp.peft.training import train_users
from tests.companions.lamp.golden import GOLDEN
from utils.config.schema import merge

T5 = str(GOLDEN / "models" / "t5-tiny")
TAGS = {"7": "comedy", "8": "action", "9": "violence"}


def record(number: int, user: str, items: int = 4) -> dict:
    """A question of LaMP-2 whose user gives all movies the same tag."""
    words = ["baker", "robot", "harbour", "violin", "pond", "sensor"]
    profile = [
        {"id": f"{number}{item}", "description": f"The {words[item % 6]} waits.", "tag": TAGS[user]}
        for item in range(items)
    ]
    asked = f"Which tag? description: The {words[number % 6]} waits."
    return {"id": str(number), "user_id": user, "input": asked, "profile": profile, "output": TAGS[user]}


def write(path: Path, records: list[dict]) -> str:
    """A questions file."""
    path.write_text(json.dumps(records), encoding="utf-8")
    return str(path)


def train_config(file: str, lm: str = T5, **sections: dict) -> UserTrainConfig:
    """Quick training of strong adapters."""
    content = {
        "model": {"model_name": lm},
        "dataset": {"train": file, "task": "LaMP-2", "max_length": 64},
        "training": {"learning_rate": 0.01, "num_epochs": 30, "batch_size": 4},
        "adapter": {"lora_dropout": 0.0},
    }
    return UserTrainConfig.model_validate(merge(content, sections))


def evaluation_config(file: str, checkpoints: Path, **sections: dict) -> UserEvaluationConfig:
    """Evaluation with short outputs."""
    content = {
        "model": {"model_name": T5},
        "dataset": {"test": file, "task": "LaMP-2", "max_length": 64},
        "users": {"checkpoints": str(checkpoints)},
        "generation": {"max_length": 8},
    }
    return UserEvaluationConfig.model_validate(merge(content, sections))


@pytest.fixture(scope="session")
def train_file(tmp_path_factory) -> str:
    """A question for each user, and a second one of the first."""
    records = [record(0, "7"), record(1, "8"), record(2, "9"), record(3, "7", items=6)]
    return write(tmp_path_factory.mktemp("users") / "train_questions.json", records)


@pytest.fixture(scope="session")
def trained(train_file, distributed, tmp_path_factory) -> Path:
    """Adapters of all users: the output folder."""
    folder = tmp_path_factory.mktemp("adapters")
    train_users(train_config(train_file), folder, distributed)
    return folder
