"""The jobs of a plan: trainings that choose a learning rate, trainings, routers and decodings; each waits for others.

A job is a few commands of the project in a folder of their own. Some of their words are known only when earlier
commands have ended, such as the learning rate that was chosen; so each is made when its turn comes.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.decoding.evaluate import read_examples
from trainer.results.plan import MethodSettings, Plan
from utils.errors import UserError
from utils.runs import find_runs

RESULT = "evaluation_result.jsonl"
REPORT = "router_report.json"
Command = tuple[str, ...]
"""words after `python`"""


@dataclass(frozen=True)
class Job:
    """Commands that make one thing."""

    name: str
    """its folder, in the plan's"""
    commands: Callable[[], Iterator[Command]]
    after: tuple[str, ...]
    """names of the jobs whose results it reads"""
    minutes: float
    """what it is thought to take on one core of the reference machine"""


class Layout:
    """Where the results of a plan lie: in the folder that it names."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.root = Path(plan.data.folder)
        self.train = self.root / "data" / "train.txt"
        self.held_out = self.root / "data" / "held_out.txt"

    def run_of(self, job: str) -> Path:
        """The run folder that a training made.

        Raises:
            UserError: there is not exactly one.
        """
        runs = find_runs(self.root / job)
        if len(runs) != 1:
            raise UserError(
                f"{self.root / job}: {len(runs)} run folders instead of one; remove it, and give the command again"
            )
        return runs[0]

    def learning_rate(self, method: MethodSettings) -> float:
        """The one with the lowest loss per token on the held-out dialogues."""
        if len(method.learning_rates) == 1:
            return method.learning_rates[0]
        losses = {rate: self.held_out_loss(method, rate) for rate in method.learning_rates}
        return min(losses, key=lambda rate: losses[rate])

    def held_out_loss(self, method: MethodSettings, rate: float) -> float:
        """Loss per token (nats) of the held-out dialogues with the chosen prompts, after a tuning run."""
        return loss_per_token(self.run_of(tuning_job(method, rate)) / RESULT)


def loss_per_token(result: Path) -> float:
    """Nats per target token of a result file."""
    rows = read_examples(result)
    return sum(float(row["nll"]) for row in rows) / sum(int(row["nll_tokens"]) for row in rows)


def tuning_job(method: MethodSettings, rate: float) -> str:
    """The name of the training that tries a learning rate."""
    return f"{method.name}/tuning_LR={rate:g}"


def training_job(method: str, seed: int) -> str:
    """The name of a training."""
    return f"{method}/seed={seed}"


def decoding_job(method: str, seed: int) -> str:
    """The name of a decoding of the validation dialogues."""
    return f"{method}/decoding_seed={seed}"


def report_job(method: str, seed: int) -> str:
    """The name of a report on what any selector could reach."""
    return f"{method}/router_seed={seed}"


def jobs_of(layout: Layout) -> list[Job]:
    """All jobs of a plan, each after those that it waits for."""
    jobs: list[Job] = []
    for method in layout.plan.methods:
        jobs += _jobs_of_method(layout, method)
    return jobs


def _jobs_of_method(layout: Layout, method: MethodSettings) -> list[Job]:
    plan, jobs = layout.plan, list[Job]()
    waits: tuple[str, ...] = ()
    if len(method.learning_rates) > 1:
        seed = plan.tuning.seed
        for rate in method.learning_rates:
            name = tuning_job(method, rate)
            share = plan.tuning.training_ratio * plan.tuning.num_epochs
            jobs.append(
                Job(
                    name,
                    _tuning_commands(layout, method, name, rate),
                    (training_job(method.start, seed),) if method.start else (),
                    method.minutes * share + 0.5,
                )
            )
            waits += (name,)
    for seed in plan.seeds_of(method):
        name = training_job(method.name, seed)
        start = (training_job(method.start, seed),) if method.start else ()
        jobs.append(Job(name, _training_commands(layout, method, name, seed), waits + start, method.minutes))
        decoding = decoding_job(method.name, seed)
        commands = _decoding_commands(layout, method, name)
        jobs.append(Job(decoding, commands, (name,), plan.decode_minutes))
        if method.report:
            report = _report_commands(layout, name)
            jobs.append(Job(report_job(method.name, seed), report, (name,), plan.decode_minutes))
    return jobs


def _train(
    layout: Layout, method: MethodSettings, name: str, seed: int, settings: Mapping[str, Any]
) -> Command:
    """The command of a training, which goes on where an earlier call was stopped."""
    begun = sorted((layout.root / name).glob("*/start.json"))
    if begun:
        return ("train.py", f"--resume={begun[-1].parent}")
    words = ["train.py", "--exp_name=run", *plan_words(layout, method, seed, settings)]
    words.append(_set("training.log_dir", layout.root / name))
    if method.start is not None:
        start = layout.run_of(training_job(method.start, seed))
        is_whole = method.start_as == "ckpt_path"
        words.append(f"--ckpt_path={start}" if is_whole else _set("training.warm_start_prompt", start))
    return tuple(words)


def plan_words(layout: Layout, method: MethodSettings, seed: int, settings: Mapping[str, Any]) -> list[str]:
    """The words of a training's command that the plan alone decides.

    Args:
        layout: of the plan.
        method: the method.
        seed: of the training.
        settings: further ones, by `section.key`.
    """
    values = {
        **layout.plan.settings,
        **method.settings,
        "model.model_name": layout.plan.data.model_name,
        "dataset.train": layout.train,
        "dataset.valid": layout.held_out,
        "training.seed": seed,
        **settings,
    }
    return [f"--config={method.config}", *(_set(key, value) for key, value in values.items())]


def _set(key: str, value: Any) -> str:
    """A flag as --set reads it; JSON is YAML."""
    return f"--set={key}={json.dumps(str(value) if isinstance(value, Path) else value)}"


def tuning_settings(plan: Plan, rate: float) -> dict[str, Any]:
    """What a training that tries a learning rate has beside the others' settings."""
    return {
        "training.learning_rate": rate,
        "training.training_ratio": plan.tuning.training_ratio,
        "training.num_epochs": plan.tuning.num_epochs,
    }


def _tuning_commands(
    layout: Layout, method: MethodSettings, name: str, rate: float
) -> Callable[[], Iterator[Command]]:
    def commands() -> Iterator[Command]:
        settings = tuning_settings(layout.plan, rate)
        yield _train(layout, method, name, layout.plan.tuning.seed, settings)
        run = layout.run_of(name)
        if method.router:
            yield _fit_router(layout, run)
        yield _decode(method, run, layout.held_out, "--max_new_tokens=1")

    return commands


def _training_commands(
    layout: Layout, method: MethodSettings, name: str, seed: int
) -> Callable[[], Iterator[Command]]:
    def commands() -> Iterator[Command]:
        rates = {"training.learning_rate": layout.learning_rate(method)} if method.learning_rates else {}
        yield _train(layout, method, name, seed, rates)
        if method.router:
            yield _fit_router(layout, layout.run_of(name))

    return commands


def _fit_router(layout: Layout, run: Path) -> Command:
    return ("-m", "trainer.fit_router", str(run), f"--fit_on={layout.held_out}", "--save")


def _decoding_commands(layout: Layout, method: MethodSettings, name: str) -> Callable[[], Iterator[Command]]:
    def commands() -> Iterator[Command]:
        yield _decode(method, layout.run_of(name), Path(layout.plan.data.valid))

    return commands


def _report_commands(layout: Layout, name: str) -> Callable[[], Iterator[Command]]:
    def commands() -> Iterator[Command]:
        files = (f"--fit_on={layout.held_out}", f"--valid_path={layout.plan.data.valid}")
        yield "-m", "trainer.fit_router", str(layout.run_of(name)), *files

    return commands


def _decode(method: MethodSettings, run: Path, dialogues: Path, *flags: str) -> Command:
    chosen = ("--router=fitted",) if method.router else ()
    return ("test.py", f"--model_path={run}", f"--valid_path={dialogues}", "--batch_size=64", *flags, *chosen)
