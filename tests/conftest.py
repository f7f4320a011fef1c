"""Shared fixtures: a small dialogue file, tiny LMs of every family, and configurations for them."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import HealthCheck, settings
from transformers import AutoModelForCausalLM

from dataset.dialogue import Example, examples_of
from dataset.readers import read_dialogues
from models.configuration import build_config
from models.lm.base_lm import lm_config_of, train_tokenizer
from models.registry import model_type
from models.settings import Config
from utils.config.loading import merged
from utils.config.schema import keys_of, nested

if TYPE_CHECKING:
    from utils.distributed import DistributedContext

pytest_plugins = ["tests.report"]

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "data_file" / "sample"
SHARED = ROOT.parent / "shared"
TRAIN = SAMPLE / "train_self_original_no_cands.txt"
VALID = SAMPLE / "valid_self_original_no_cands.txt"
FAMILIES = ("opt", "llama", "gpt2")

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")
# what is tried is the same on every machine and at every time, and no test is judged by the clock; a fixture serves
# all inputs of a test, which therefore must not depend on what the inputs before it left there
settings.register_profile(
    "quick",
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("long", settings.get_profile("quick"), max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
# tests are run side by side, and threads of several that wait for each other take most of the time
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` need a CUDA device, those marked `long` TESTS=long.

    Modules with slow tests begin, so that none is left for one worker.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    for item in items:
        if item.get_closest_marker("long") and os.environ.get("TESTS") != "long":
            item.add_marker(pytest.mark.skip(reason="takes long: TESTS=long (make test-long)"))
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def head_of(path: Path, dialogues: int) -> str:
    """The first dialogues of a ConvAI2 file, as text."""
    blocks: list[list[str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("1 "):
            blocks.append([])
        blocks[-1].append(line)
    return "".join(line + "\n" for block in blocks[:dialogues] for line in block)


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> dict[str, Path]:
    """`train` (12 dialogues) and `valid` (4 dialogues), cut from the embedded sample."""
    folder = tmp_path_factory.mktemp("data")
    files = {"train": folder / "train.txt", "valid": folder / "valid.txt"}
    files["train"].write_text(head_of(TRAIN, 12), encoding="utf-8")
    files["valid"].write_text(head_of(VALID, 4), encoding="utf-8")
    return files


@pytest.fixture(scope="session")
def examples(data) -> list[Example]:
    """All examples of the small training file."""
    return examples_of(read_dialogues(data["train"], "convai2"))


@pytest.fixture(scope="session")
def lm_folder(tmp_path_factory, data) -> Callable[[str], Path]:
    """Folder of a tiny LM with random weights, by family; made once per session."""
    made: dict[str, Path] = {}

    def make(family: str = "opt") -> Path:
        if family not in made:
            init = {
                "architecture": family,
                "hidden_size": 32,
                "num_layers": 2,
                "num_heads": 4,
                "vocab_size": 400,
                "max_positions": 384,
            }
            config = build_config(
                [
                    (
                        "test",
                        {
                            "model": {"model_type": "language_model", "init": init},
                            "dataset": {"train": str(data["train"])},
                        },
                    )
                ]
            )
            tokenizer = train_tokenizer(config)
            torch.manual_seed(7)
            model = AutoModelForCausalLM.from_config(lm_config_of(config.model.init, tokenizer))
            with torch.no_grad():  # weights of 0.02 give flat distributions, whose argmax would prove little
                for parameter in model.parameters():
                    if parameter.dim() > 1:
                        parameter.mul_(4)
            folder = tmp_path_factory.mktemp(f"lm_{family}")
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            made[family] = folder
        return made[family]

    return make


def config_for(data: dict[str, Path], lm: Path, log_dir: Path, *sections: dict) -> Config:
    """A small configuration on a tiny LM, with `sections` laid over it; of its model type's keys only."""
    wanted = merged([("test", section) for section in sections]).get("model", {})
    keys = dict(keys_of(model_type(wanted.get("model_type", "selective_pt")).config_class()))
    small = {"model.model_name": str(lm), "model.K": 3, "model.peft_config.num_virtual_tokens": 4}
    base = {
        **nested({key: value for key, value in small.items() if key in keys}),
        "training": {"batch_size": 4, "log_dir": str(log_dir), "learning_rate": 0.01},
        "dataset": {"train": str(data["train"]), "valid": str(data["valid"])},
    }
    return build_config([("test base", base), *(("test", section) for section in sections)])


@pytest.fixture
def make_config(data, lm_folder, tmp_path) -> Callable[..., Config]:
    """A configuration on a tiny LM: make_config("opt", model={...}, training={...}, dataset={...})."""

    def make(family: str = "opt", **sections: dict) -> Config:
        return config_for(data, lm_folder(family), tmp_path / "runs", sections)

    return make


@pytest.fixture(scope="session")
def distributed() -> "Iterator[DistributedContext]":
    """The distributed context of a single process, on the CPU."""
    from utils.distributed import (  # seconds of import, for the tests that need it
        end_distributed,
        start_distributed,
    )

    yield start_distributed()
    end_distributed()


@pytest.fixture(scope="session")
def trained_run(data, lm_folder, distributed, tmp_path_factory) -> Path:
    """The folder of an SPT run of three epochs; not to be written to, see `run_copy`."""
    from tests.helpers import train

    log_dir = tmp_path_factory.mktemp("trained")
    config = config_for(data, lm_folder("opt"), log_dir, {"training": {"num_epochs": 3, "log_every": 5}})
    return train(config, distributed, "spt")


@pytest.fixture
def run_copy(trained_run, tmp_path) -> Path:
    """A copy of `trained_run` that a test may change."""
    return Path(shutil.copytree(trained_run, tmp_path / "copy"))
