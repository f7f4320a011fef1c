"""`python -m trainer.fit_router RUN`: fits routers, measures every way to choose a prompt, and says what it found."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dataset.dialogue import Example
from models.conversation import ConversationModel
from models.decoding.runs import load_run, read_run_config
from models.decoding.texts import encode_texts
from models.reading import texts_of
from models.routing.fitting import ROUTERS, LinearRouter, all_features, dialogue_folds, fit_router
from models.routing.measuring import Measured, measure
from models.routing.report import (
    FIXED,
    ORACLE,
    OWN,
    RANDOM,
    Figures,
    as_json,
    figures_of,
    format_table,
    one_hot,
    verdict,
)
from models.settings import Config
from utils.errors import UserError
from utils.files import check_writable, file_sha256, to_json, write_whole
from utils.precision import decide_precision

REPORT = "router_report.json"
_NAMES = {"fixed": FIXED, "turn": "turn", "linear": "linear"}


@dataclass(frozen=True, slots=True)
class RouterOptions:
    """What a router is fitted on and measured on."""

    fit_on: str | None = None
    """dialogues that the run was not trained on; None: what training_ratio left, else parts of the validation file"""
    valid_path: str | None = None
    """dialogues to measure on; None: the configuration's"""
    fit_examples: int = 4000
    """examples to fit on, at most"""
    assignments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FitPart:
    """What the routers are fitted on."""

    examples: list[Example]
    path: str
    words: str


def route(run: Path, options: RouterOptions) -> None:
    """Measure a run, print the report and write it to RUN/router_report.json.

    Raises:
        UserError: the run has nothing to choose, or what is wrong with it or with a file.
    """
    config = read_run_config(run, options.assignments)
    precision, reason = decide_precision(config.model.load_bit, "model.load_bit")
    if reason:
        print(f"automatic choice: {reason}")
    valid = options.valid_path or config.dataset.valid
    config = config.replaced({"model": {"load_bit": precision}, "dataset": {"valid": valid}})
    examples = texts_of(config).read_examples(valid, config)
    part = fit_part(config, options)
    check_writable(run)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_run(run, config).to(device)
    if model.num_prompts < 2:
        raise UserError(f"{run}: it has {model.num_prompts} soft prompt(s): there is nothing to choose")
    measured = _measure(model, config, examples, device, "validation")
    if part is None:
        where = f"by parts of {valid} itself, each by a router that was fitted on the others"
        print(
            f"no dialogues were held out from training: fitted {where} (--fit_on gives dialogues of their own)"
        )
        choices, preferred = cross_fitted(measured)
        fitted: Measured = measured
    else:
        fitted = _measure(model, config, part.examples, device, "fit part")
        where = f"on {part.words}: {len(fitted.tokens)} examples of {_dialogues(fitted)} dialogues"
        routers = {name: fit_router(name, fitted) for name in ROUTERS}
        preferred = preferred_of({name: loss for name, (_, loss) in routers.items()})
        choices = {name: chosen(router, measured) for name, (router, _) in routers.items()}
    rows = {row.name: row for row in all_figures(measured, choices)}
    fixed = _fixed_words(choices["fixed"])
    words = verdict(rows, _NAMES[preferred], fixed)
    print(
        "\n".join(
            [
                f"measured on {valid}: {len(measured.tokens)} examples of {_dialogues(measured)} dialogues",
                f"fitted {where}",
                f"against {fixed} for everything; intervals by drawing dialogues",
                "",
                *format_table(list(rows.values())),
                "",
                *words,
            ]
        )
    )
    report = {
        "run": str(run),
        "valid": valid,
        "valid_sha256": file_sha256(valid),
        "examples": len(measured.tokens),
        "dialogues": _dialogues(measured),
        "tokens": int(measured.tokens.sum()),
        "fit_on": None if part is None else part.path,
        "fit_examples": len(fitted.tokens),
        "fit_dialogues": _dialogues(fitted),
        "preferred": preferred,
        "choices": as_json(list(rows.values())),
        "verdict": words,
    }
    write_whole(run / REPORT, to_json(report, indent=2) + "\n")
    print(f"\n{run / REPORT}")


def fit_part(config: Config, options: RouterOptions) -> FitPart | None:
    """The dialogues to fit on, none of which the run was trained on; None where there are none.

    Raises:
        UserError: their file cannot be read, or has no example.
    """
    read = texts_of(config).read_examples
    if options.fit_on is not None:
        examples, path, words = read(options.fit_on, config), options.fit_on, options.fit_on
    elif config.training.training_ratio < 1:
        path = config.dataset.train
        trained = len(read(path, config, config.training.training_ratio))
        examples = read(path, config)[trained:]
        words = f"what training_ratio: {config.training.training_ratio:g} left of {path}"
        if not examples:
            return None
    else:
        return None
    if not examples:
        raise UserError(f"{path}: no example")
    return FitPart(_few(examples, options.fit_examples), path, words)


def _few(examples: Sequence[Example], most: int) -> list[Example]:
    """Whole dialogues from all over the file, with `most` examples together at most, yet one dialogue at least."""
    starts = [0, *(i for i in range(1, len(examples)) if examples[i].dialogue != examples[i - 1].dialogue)]
    stops = [*starts[1:], len(examples)]
    step = math.ceil(len(examples) / most)
    return [
        example
        for start, stop in list(zip(starts, stops, strict=True))[::step]
        for example in examples[start:stop]
    ]


def _measure(
    model: ConversationModel, config: Config, examples: Sequence[Example], device: torch.device, what: str
) -> Measured:
    return measure(model, config, encode_texts(model, config, examples), device, what)


def _dialogues(measured: Measured) -> int:
    return len(np.unique(measured.dialogues))


def chosen(router: LinearRouter, measured: Measured) -> np.ndarray:
    """The prompt [n] of each example."""
    return router.scores(all_features(measured)).argmax(axis=0)


def cross_fitted(measured: Measured) -> tuple[dict[str, np.ndarray], str]:
    """The choice [n] of every router, for each dialogue by one that was fitted without it; and the router preferred."""
    choices = {name: np.zeros(len(measured.tokens), dtype=np.int64) for name in ROUTERS}
    held_out = dict.fromkeys(ROUTERS, 0.0)
    for kept, left in dialogue_folds(measured.dialogues):
        for name in ROUTERS:
            router, loss = fit_router(name, measured.part(kept))
            choices[name][left] = chosen(router, measured.part(left))
            held_out[name] += loss
    return choices, preferred_of(held_out)


def preferred_of(losses: dict[str, float]) -> str:
    """The router with the lowest loss; of equal ones the simplest."""
    return min(ROUTERS, key=lambda name: losses[name])


def all_figures(measured: Measured, choices: dict[str, np.ndarray]) -> list[Figures]:
    """Of the fitted routers' choices, the run's own, a random one and the oracle's."""
    losses = measured.losses
    num_prompts, count = losses.shape
    ways: dict[str, Any] = {
        **{_NAMES[name]: choice for name, choice in choices.items()},
        OWN: measured.choice,
        RANDOM: np.full((num_prompts, count), 1 / num_prompts),
        ORACLE: one_hot(losses.argmin(axis=0), num_prompts),
    }
    order = [FIXED, OWN, *(_NAMES[name] for name in ROUTERS[1:]), RANDOM, ORACLE]
    of_examples = losses, measured.tokens, measured.dialogues, choices["fixed"]
    return [figures_of(name, ways[name], *of_examples) for name in order]


def _fixed_words(fixed: np.ndarray) -> str:
    found = sorted(set(fixed.tolist()))
    return f"prompt {found[0]}" if len(found) == 1 else f"prompts {' and '.join(map(str, found))}"
