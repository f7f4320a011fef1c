"""What several test modules do: encode examples, make batches, build the model, read what a run wrote."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from dataset.batch import Batch, InferenceBatch
from dataset.dialogue import Example
from dataset.encoding import EncodedExample
from dataset.readers import read_dialogues
from models.conversation import ConversationModel
from models.dialogue_task import dialogue_task
from models.reading import make_collator, make_encoder
from models.registry import build_model, build_tokenizer, model_type
from models.settings import Config
from models.trainable import StepOutput
from tests.progress import run_while_it_moves
from trainer import training
from trainer.clock import STEP_PARTS
from utils.distributed import DistributedContext

SPT = model_type("selective_pt").config_class()
# what rows of the phase `train` have beside losses and diagnostics
STEP_FIGURES = {"lr", "examples_per_second", *(f"seconds_{part}" for part in STEP_PARTS)}


def model_of(config: Config) -> ConversationModel:
    """The model of a configuration, in evaluation mode."""
    return build_model(config, build_tokenizer(config)).eval()


def untied(model: ConversationModel) -> ConversationModel:
    """The model with drawn prompts and a head that is not tied to the embeddings.

    A random LM with a tied one repeats its last token for ever.
    """
    torch.manual_seed(5)
    with torch.no_grad():
        model.soft_prompts.weight.normal_()
        head = torch.randn_like(model.lm.head_weight)
        model.lm.model.lm_head.weight = nn.Parameter(head, requires_grad=False)
    return model


@torch.no_grad()
def route_apart(
    model: ConversationModel, examples: Sequence[Example], size: float = 20.0
) -> ConversationModel:
    """The model with a drawn router whose logits differ between the examples: means of long texts are nearly equal."""
    model.router.weight.normal_(std=size)
    model.router.bias.zero_()
    model.router.bias.copy_(-model.logits(train_batch(model, examples).query).mean(dim=0))
    return model


def train(
    config: Config,
    distributed: DistributedContext,
    name: str,
    ds_config_path: str | None = None,
    ckpt_path: str | None = None,
) -> Path:
    """The run folder of a training on dialogues, as train.py makes it."""
    return training.train(dialogue_task(config), distributed, name, ds_config_path, ckpt_path)


def encoded(model: ConversationModel, examples: Sequence[Example], response: bool) -> list[EncodedExample]:
    """Encoded examples under the model's own configuration."""
    return make_encoder(model.tokenizer, model.config).encode(examples, with_response=response)


def train_batch(model: ConversationModel, examples: Sequence[Example], decoding: bool = False) -> Batch:
    """One training batch; `decoding` asks for a row per example and no pairs."""
    collator = make_collator(make_encoder(model.tokenizer, model.config), model.config, decoding)
    return collator.train(encoded(model, examples, response=True))


def inference_batch(model: ConversationModel, examples: Sequence[Example]) -> InferenceBatch:
    """One left-padded decoding batch."""
    collator = make_collator(make_encoder(model.tokenizer, model.config), model.config, decoding=True)
    return collator.inference(encoded(model, examples, response=False))


@torch.no_grad()
def target_losses(
    model: ConversationModel, batch: Batch, choice: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Teacher-forced cross-entropy of each example with its chosen prompt, from a pass that does nothing else.

    Args:
        model: the model.
        batch: examples that share a row have the same prompt.
        choice: [B] as in `prompts_for`.

    Returns:
        Sums over the target tokens [B] in nats, and their numbers [B].
    """
    prompts = model.prompts_for(choice, batch.num_examples, batch.query)
    if prompts is not None:
        examples_of_rows = torch.zeros_like(batch.indices)
        examples_of_rows[batch.target_rows] = batch.target_examples
        prompts = prompts[examples_of_rows[: len(batch.input_ids)]]
    return model.summed_losses(model.hidden_with(batch, prompts)[0], batch)


class BareEngine:
    """What validation asks of an engine, around a model without one."""

    def __init__(self, model: ConversationModel) -> None:
        self.module = model

    def __call__(self, batch: Batch, progress: float) -> StepOutput:
        """The model's forward pass."""
        return self.module(batch, progress)

    def eval(self) -> None:
        """Evaluation mode."""
        self.module.eval()


def as_tab_separated(path: Path) -> str:
    """A ConvAI2 file in the format of the reader in docs/extending.md."""
    blocks = []
    for dialogue in read_dialogues(path, "convai2"):
        rows = [f"persona\t{line}" for line in dialogue.persona]
        rows += [f"{utterance.speaker}\t{utterance.text}" for utterance in dialogue.utterances]
        blocks.append("\n".join(rows))
    return "\n\n".join(blocks) + "\n"


def json_rows(path: Path) -> list[dict]:
    """The objects of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def logged(run: Path, phase: str) -> list[dict]:
    """The rows of a run's metrics.jsonl of one phase: train, train_epoch or valid_epoch."""
    return [row for row in json_rows(run / "metrics.jsonl") if row["phase"] == phase]


def assert_same_results(ours: list[dict], theirs: list[dict]) -> None:
    """Equal rows of two result files, but for the last digits of scores and losses."""
    for mine, other in zip(ours, theirs, strict=True):
        for key in other:
            close = key in ("scores", "nll")
            assert mine[key] == (pytest.approx(other[key], rel=1e-4) if close else other[key]), key


def launch(
    *command: str, stdin: str = "", variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in the repository; `deepspeed` is this environment's launcher, on a free port.

    Args:
        command: program and arguments.
        stdin: its standard input.
        variables: of its environment, besides those of the tests.
    """
    root = Path(__file__).resolve().parent.parent
    if command[0] == "deepspeed":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        launcher = [sys.executable, "-m", "deepspeed.launcher.runner", f"--master_port={port}"]
        command = (*launcher, *command[1:])
    ours = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}  # of the tests' own process
    env = {name: value for name, value in os.environ.items() if name not in ours}
    env |= {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", **(variables or {})}
    return run_while_it_moves(command, stdin, cwd=root, env=env)
