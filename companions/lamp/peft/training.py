"""Trains an adapter for each user of a file, one after the other on one LM.

The loop is its own: the shared trainer sets up an engine, a run folder and checkpoints, which takes seconds and pays
for hours of training. A user has some hundred steps on a few thousand numbers, and there are thousands of users. What a
crash costs is the work on one user.
"""

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from companions.lamp.json_stream import read_object
from companions.lamp.lm.evaluate import made_folder
from companions.lamp.lm.examples import encode_pairs
from companions.lamp.lm.load import LM, load_lm
from companions.lamp.peft.adapters import METADATA, UserAdapters
from companions.lamp.peft.examples import SHARES, ProfileExample, profile_examples
from companions.lamp.peft.settings import UserTrainConfig, UserTrainingSettings
from companions.lamp.peft.users import chosen_users, is_empty_shard, user_of
from companions.lamp.questions import Question, read_questions
from companions.lamp.tasks import Task, task_of
from models.settings import OptimisationSettings
from trainer.schedule import make_scheduler
from utils.distributed import DistributedContext
from utils.errors import UserError, shown
from utils.files import to_json
from utils.liveness import together
from utils.precision import decide_precision

ADAPTERS = "adaptors"
"""the folder of the users' folders, as the benchmark's code spells it"""


@dataclass(frozen=True)
class Encoded:
    """One example as token ids."""

    source: Sequence[int]
    target: Sequence[int]


def train_users(config: UserTrainConfig, folder: str | Path, distributed: DistributedContext) -> None:
    """Write `adaptors/<user>/` to a folder for each user of a configuration that has none there yet.

    Args:
        config: of train_peft.
        folder: is made if need be.
        distributed: the processes; each takes its share of the users.

    Raises:
        UserError: what is wrong with the configuration, the LM or the file, or an adapter that is there was trained
            with other settings.
    """
    path, task = config.dataset.train or "", task_of(config.dataset.task or "")
    users = chosen_users(map(user_of, first_questions(path, task)), config.users, path)
    if is_empty_shard(users, config.users, path, distributed):
        return
    adapters_folder = made_folder(Path(folder) / ADAPTERS)
    settings = _settings(config)
    chosen = set(users)
    missing = [
        question.user
        for question in first_questions(path, task)
        if question.user in chosen
        and not _is_done(adapters_folder / user_of(question), settings | _profile(question))
    ]
    distributed.say(f"{len(users)} users, {len(users) - len(missing)} of them done already")
    if not missing:
        return
    precision, reason = decide_precision(config.model.load_bit, "model.load_bit")
    if reason:
        distributed.say(f"automatic choice: {reason}")
    lm = load_lm(config.model.model_name or "", precision)
    lm.check_lengths(config.dataset.max_length, config.dataset.max_length)
    lm.to(distributed.device)
    if config.model.gradient_checkpointing:
        lm.model.gradient_checkpointing_enable({"use_reentrant": False})
    adapters = UserAdapters(lm, config.adapter)
    mine = set(missing[distributed.rank :: distributed.size])
    with together(distributed), tqdm(total=len(mine), unit="user", disable=not distributed.is_main) as bar:
        for question in first_questions(path, task):
            user = user_of(question)
            if user in mine:
                seed = user_seed(config.training.seed, user)
                examples = list(profile_examples(question, task, share_of(seed)))
                encoded = _encoded(lm, examples, config.dataset.max_length)
                loss = train_user(adapters, encoded, config.training, seed)
                facts = {"user": user, "question": question.id, "examples": len(examples), "loss": loss}
                adapters.save(adapters_folder / user, {**facts, "settings": settings | _profile(question)})
                bar.update()
                bar.set_postfix(loss=f"{loss:.4f}")
    distributed.say(f"adapters: {adapters_folder}")


def train_user(
    adapters: UserAdapters, examples: Sequence[Encoded], training: UserTrainingSettings, seed: int
) -> float:
    """Train the adapter from its start on the examples of one user.

    The result does not depend on which users were trained before.

    Args:
        adapters: of the LM.
        examples: of the user; without any the adapter stays at its start.
        training: how.
        seed: of start, order and dropout.

    Returns:
        The mean loss per target token over the last epoch; 0 without examples.
    """
    lm = adapters.lm
    torch.manual_seed(seed)
    adapters.reset()
    parameters = adapters.parameters
    optimizer = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=training.weight_decay)
    steps = math.ceil(math.ceil(len(examples) / training.batch_size) / training.accumulation_steps)
    total = training.num_epochs * steps
    rates = OptimisationSettings(
        **training.model_dump(include={"learning_rate", "warmup_type", "warmup_ratio"})
    )
    schedule = make_scheduler(optimizer, rates, total)
    order = random.Random(seed)
    lm.model.train()
    loss, tokens = torch.zeros(()), 0
    try:
        for _ in range(training.num_epochs):
            loss, tokens = torch.zeros((), device=lm.model.device), 0
            for group in _groups(examples, training, order):
                in_group = sum(len(example.target) for batch in group for example in batch)
                for batch in group:
                    losses = _losses(lm, batch).sum()
                    (losses / max(1, in_group)).backward()
                    loss += losses.detach()
                tokens += in_group
                if training.grad_clip:
                    torch.nn.utils.clip_grad_norm_(parameters, training.grad_clip)
                optimizer.step()
                if schedule is not None:
                    schedule.step()
                optimizer.zero_grad()
    finally:
        lm.model.eval()
    return loss.item() / max(1, tokens)


def first_questions(path: str | Path, task: Task | None) -> Iterator[Question]:
    """The first question of each user, in the order of the file.

    Args:
        path: questions or merged file.
        task: says which fields the items have; None: they are not looked at.

    Raises:
        UserError: what is wrong with the file, or a question without a user.
    """
    seen: set[str] = set()
    for question in read_questions(path, task):
        user = user_of(question)
        if user not in seen:
            seen.add(user)
            yield question


def user_seed(seed: int, user: str) -> int:
    """A seed of the user's own."""
    return int.from_bytes(hashlib.sha256(f"{seed} {user}".encode()).digest()[:7], "big")


def share_of(seed: int) -> Callable[[], float]:
    """Draws the shares of words of LaMP-7."""
    stream = random.Random(seed)
    return lambda: stream.uniform(*SHARES)


def _encoded(lm: LM, examples: Sequence[ProfileExample], max_length: int) -> list[Encoded]:
    if not examples:
        return []
    sources, targets = zip(*((example.source, example.target) for example in examples), strict=True)
    return [Encoded(one.source, one.target) for one in encode_pairs(lm, sources, targets, max_length)]


def _groups(
    examples: Sequence[Encoded], training: UserTrainingSettings, order: random.Random
) -> Iterator[list[list[Encoded]]]:
    """The batches of each optimiser step of an epoch."""
    shuffled = order.sample(examples, len(examples))
    size = training.batch_size
    batches = [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
    for start in range(0, len(batches), training.accumulation_steps):
        yield batches[start : start + training.accumulation_steps]


def _losses(lm: LM, batch: Sequence[Encoded]) -> Tensor:
    """Cross-entropy of each target token [N]."""
    read = lm.kind.read([example.source for example in batch])
    losses, _ = lm.kind.token_losses(read, [example.target for example in batch])
    return losses


def _settings(config: UserTrainConfig) -> dict[str, Any]:
    """What makes an adapter what it is, as JSON has it."""
    return {
        "model_name": config.model.model_name,
        "load_bit": config.model.load_bit,
        "task": task_of(config.dataset.task or "").name,
        "max_length": config.dataset.max_length,
        **config.adapter.model_dump(),
        **config.training.model_dump(),
    }


def _profile(question: Question) -> dict[str, str]:
    """What tells one profile from another, as a setting."""
    return {"profile_sha256": hashlib.sha256(to_json(question.profile).encode()).hexdigest()}


def _is_done(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether a user's adapter is there.

    Raises:
        UserError: with other settings.
    """
    if not folder.exists():
        return False
    path = folder / METADATA
    found = dict(read_object(path, "record of an adapter's training")).get("settings")
    found = found if isinstance(found, dict) else {}
    for key, value in settings.items():
        if found.get(key) != value:
            raise UserError(
                f"{path}: trained with {key} {shown(found.get(key))}, not {shown(value)}; give another --output_dir"
            )
    return True
