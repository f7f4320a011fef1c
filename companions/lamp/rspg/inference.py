"""Predictions of a scorer from outputs that the LM gave under every strategy, and how good the choice is."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from companions.lamp.lm.evaluate import made_folder
from companions.lamp.metrics import Scored
from companions.lamp.rspg.batches import compare_outputs, official_of
from companions.lamp.rspg.choosing import choose
from companions.lamp.rspg.data import Row, read_rows
from companions.lamp.rspg.model import is_trained, load_scorer, scorer_encoder
from companions.lamp.rspg.settings import RspgConfig
from companions.lamp.rspg.task import check_golds, input_maker
from companions.lamp.tasks import Task, task_of
from utils.distributed import DistributedContext
from utils.errors import UserError
from utils.files import to_json, write_whole
from utils.liveness import together
from utils.precision import decide_precision

PREDICTIONS, METRICS = "final_preds.json", "metrics.json"
_CHUNK = 256  # questions whose outputs are compared with their golds together


def validate(config: RspgConfig, folder: Path, distributed: DistributedContext) -> dict[str, Any]:
    """Choose a strategy for each question of `dataset.valid`; its output is the prediction.

    Args:
        config: `model.model_name` is the run folder of a trained scorer.
        folder: gets `final_preds.json` in the benchmark's form, with the strategy's number as `index`, and
            `metrics.json`; earlier ones are replaced. It is made if need be.
        distributed: the processes; all of them call this.

    Returns:
        What is in `metrics.json`, see `Summary.report`; on every rank.

    Raises:
        UserError: what is wrong with the scorer, a file or the folder.
    """
    task = task_of(config.dataset.task or "")
    with together(distributed):
        if not is_trained(config.model.model_name):
            raise UserError(
                f"--model_path {config.model.model_name}: predictions need the run folder of a trained scorer"
            )
        if distributed.is_main:
            made_folder(folder)
        precision, _ = decide_precision(config.model.load_bit, "model.load_bit")
        config = config.replaced({"model": {"load_bit": precision}})
        check_golds(config)
        strategies, mine, summary = _mine(config, task, distributed)
    predictions = distributed.gather_shares(mine)
    report = sum(distributed.gather(summary), start=Summary()).report(task, strategies)
    with together(distributed):
        if distributed.is_main:
            golds = {"task": task.name, "golds": predictions}
            write_whole(folder / PREDICTIONS, to_json(golds, indent=1) + "\n")
            write_whole(folder / METRICS, to_json(report, indent=4) + "\n")
    return report


def _mine(
    config: RspgConfig, task: Task, distributed: DistributedContext
) -> "tuple[tuple[str, ...], list[dict[str, Any]], Summary]":
    """Strategies, and this rank's predictions, every n-th question of n ranks, with what they are worth."""
    path = config.dataset.valid or ""
    strategies = next(read_rows(path, task)).strategies
    encoder = scorer_encoder(config)
    scorer = load_scorer(config, encoder, strategies).eval().to(distributed.device)
    rows = islice(read_rows(path, task), distributed.rank, None, distributed.size)
    choices = choose(scorer, input_maker(config, encoder), rows, config.training.batch_size)
    summary, predictions = Summary(), []
    while chunk := list(islice(choices, _CHUNK)):
        compared = compare_outputs(path, task, [row for row, _ in chunk], config.model.released)
        summary += summary_of(chunk, compared)
        predictions += [{"id": row.id, "output": row.outputs[index], "index": index} for row, index in chunk]
    return strategies, predictions, summary


@dataclass(frozen=True)
class Summary:
    """Sums over questions, from which it is told how good their choices are."""

    questions: int = 0
    successes: int = 0
    """no strategy had a higher utility than the chosen one"""
    regret: float = 0.0
    """how much more utility the best one had"""
    usage: NDArray[np.int64] | int = 0
    """[R] how often each strategy was chosen"""
    values: NDArray[np.float64] | float = 0.0
    """[R + 3, S] `Scored.values` of each strategy, and of the chosen, the best and the worst one"""

    def __add__(self, other: "Summary") -> "Summary":
        return Summary(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def report(self, task: Task, strategies: Sequence[str]) -> dict[str, Any]:
        """What `metrics.json` holds.

        Args:
            task: says which metrics are official.
            strategies: R names.

        Returns:
            questions; success_rate, the share of questions for which no strategy has a higher utility than the chosen
            one; regret, a mean in units of the utility; share of each strategy; and the official metrics of the
            `chosen` outputs, of each of the `strategies` alone, and of the `oracle` and the `worst` choice by utility.
        """
        combine = official_of(task)
        metrics = [combine(row / self.questions) for row in np.asarray(self.values)]
        alone, (chosen, best, worst) = metrics[: len(strategies)], metrics[len(strategies) :]
        shares = (np.asarray(self.usage) / self.questions).tolist()
        return {
            "questions": self.questions,
            "success_rate": self.successes / self.questions,
            "regret": self.regret / self.questions,
            "chosen": chosen,
            "oracle": best,
            "worst": worst,
            "strategies": dict(zip(strategies, alone, strict=True)),
            "share": dict(zip(strategies, shares, strict=True)),
        }


def summary_of(choices: Sequence[tuple[Row, int]], compared: Scored) -> Summary:
    """The summary of some questions.

    Args:
        choices: B questions, each with the number of its strategy.
        compared: their outputs with their golds, R for each question.
    """
    utilities = np.array([row.utilities for row, _ in choices])  # [B, R]
    questions, chosen = np.arange(len(choices)), np.array([index for _, index in choices])
    values = compared.values.reshape(*utilities.shape, -1)  # [B, R, S]
    picks = (chosen, utilities.argmax(axis=1), utilities.argmin(axis=1))
    regrets = utilities.max(axis=1) - utilities[questions, chosen]
    return Summary(
        questions=len(choices),
        successes=int((regrets == 0).sum()),
        regret=float(regrets.sum()),
        usage=np.bincount(chosen, minlength=utilities.shape[1]),
        values=np.stack([*values.sum(axis=0), *(values[questions, pick].sum(axis=0) for pick in picks)]),
    )
