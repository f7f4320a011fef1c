"""`python -m trainer.fit_router RUN`: fits routers, measures every way to choose a prompt, and says what it found."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dataset.dialogue import Example
from dataset.overlap import overlap_of
from models.conversation import ConversationModel
from models.decoding.runs import load_run, read_run_config
from models.decoding.texts import encode_texts
from models.lm.language_model import weights_sha256
from models.reading import texts_of
from models.routing import report
from models.routing.fitting import FOLDS, ROUTERS, dialogue_folds
from models.routing.measuring import Measured, measure
from models.routing.router import LinearRouter
from models.routing.saved import ROUTER, trained_hash, write_router
from models.settings import Config
from utils.errors import UserError, existing_file
from utils.files import check_writable, file_sha256, to_json, write_whole
from utils.precision import decide_precision
from utils.runs import library_versions

REPORT = "router_report.json"
PREFERRED = "preferred"
_NAMES = {"fixed": report.FIXED, "turn": "turn", "linear": "linear", PREFERRED: PREFERRED}
_COLUMNS = 100
FEW = 30
"""dialogues: the bootstrap of fewer covers clearly less than 95 %"""


@dataclass(frozen=True, slots=True)
class RouterOptions:
    """What routers are fitted on and measured on; the defaults are those of the command."""

    fit_on: str | None = None
    """dialogues that the run was not trained on; None: what training_ratio left, else parts of the validation file"""
    valid_path: str | None = None
    """dialogues to measure on; None: the configuration's"""
    fit_examples: int = 4000
    """examples to fit on, at most"""
    save: str | None = None
    """the router that is put into the run folder; "auto": the one that does best where it was not fitted"""
    assignments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FitPart:
    """Dialogues that the run was not trained on."""

    examples: Sequence[Example]
    path: str
    words: str
    is_given: bool = False
    """whether --fit_on names them"""


def evaluate_routers(run: Path, options: RouterOptions) -> None:
    """Measure a run, print the report, write it to RUN/router_report.json, and with `save` a router beside it.

    Raises:
        UserError: the run has nothing to choose, or what is wrong with it or with a file.
    """
    config, reason = _config(run, options)
    if reason:
        print(f"automatic choice: {reason}")
    valid = config.dataset.valid
    examples = texts_of(config).read_examples(valid, config)
    part = fit_part(config, options)
    to_fit, path = (examples, valid) if part is None else (part.examples, part.path)
    found = len({example.dialogue for example in to_fit})
    if found < FOLDS:
        raise UserError(f"{path}: {found} dialogue(s) to fit a router on; at least {FOLDS} are needed")
    check_writable(run)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_run(run, config).to(device)
    if model.num_prompts < 2:
        raise UserError(f"{run}: there is nothing to choose (soft prompts: {model.num_prompts})")
    measured = _measured(model, config, examples, device, valid)
    fitted = measured
    if part is not None:
        fitted = _measured(model, config, part.examples, device, part.path)
    else:
        print(
            f"no dialogue is set apart for the fit, so parts of {valid} itself take turns: each is measured with "
            f"routers that were fitted on the others (--fit_on gives dialogues of their own)"
        )
    routers, held_out = _fitted_routers(fitted)
    preferred = min(routers, key=lambda name: held_out[name])
    if part is not None:
        choices = {name: chosen(router, measured) for name, router in routers.items()}
    else:
        choices = cross_fitted(measured)
    rows = compare(measured, choices)
    fixed = _prompts_in_words(choices["fixed"])
    judged = preferred if part is not None else PREFERRED
    if judged == PREFERRED and (choices[PREFERRED] == choices["fixed"]).all():
        judged = "fixed"
    sentences = [*seen_before(part, examples, config), *report.verdict(rows, _NAMES[judged], fixed)]
    if _num_dialogues(measured) < FEW:
        sentences.append(
            f"Intervals over {_num_dialogues(measured)} dialogues are shorter than they should be: believe them from "
            f"about {FEW} on (--valid_path gives more)."
        )
    print(f"\nmeasured on {valid}: {_size(measured)}")
    print(f"fitted on {part.words if part is not None else valid}: {_size(fitted)}")
    print(f"compared with {fixed} for everything; intervals over dialogues\n")
    print("\n".join([*report.format_table(list(rows.values())), ""]))
    print("\n".join(textwrap.fill(sentence, _COLUMNS) for sentence in sentences))
    of_fit = {
        "fit_on": valid if part is None else part.path,
        "fit_on_sha256": file_sha256(valid if part is None else part.path),
        "fit_examples": len(fitted.tokens),
        "fit_dialogues": _num_dialogues(fitted),
        "trained_values_sha256": trained_hash(run),
        "base_model": config.model.base_lm,
        "base_model_sha256": weights_sha256(config.model.base_lm) if config.model.base_lm else None,
        "versions": library_versions(),
    }
    content = {
        "valid": valid,
        "valid_sha256": file_sha256(valid),
        "examples": len(measured.tokens),
        "dialogues": _num_dialogues(measured),
        "tokens": int(measured.tokens.sum()),
        **of_fit,
        "cross_fitted": part is None,
        "held_out_loss": held_out,
        "preferred": preferred,
        "choices": {name: report.as_json(row) for name, row in rows.items()},
        "verdict": sentences,
    }
    write_whole(run / REPORT, to_json(content, indent=2) + "\n")
    print(f"\n{run / REPORT}")
    if options.save is not None:
        name = preferred if options.save == "auto" else options.save
        write_router(run, routers[name], {"router": name, "held_out_loss": held_out[name], **of_fit})
        print(f"{run / ROUTER}: the router '{name}'; test.py and the chat choose by it with --router=fitted")


def _config(run: Path, options: RouterOptions) -> tuple[Config, str | None]:
    config = read_run_config(run, options.assignments)
    precision, reason = decide_precision(config.model.load_bit, "model.load_bit")
    valid = options.valid_path or config.dataset.valid
    return config.replaced({"model": {"load_bit": precision}, "dataset": {"valid": valid}}), reason


def fit_part(config: Config, options: RouterOptions) -> FitPart | None:
    """The dialogues to fit on; None where there are no others than those to measure on.

    Raises:
        UserError: their file cannot be read, or has no example.
    """
    read = texts_of(config).read_examples
    if options.fit_on is not None:
        path, words = options.fit_on, options.fit_on
        if file_sha256(existing_file(path, "dialogue file")) == file_sha256(config.dataset.valid):
            return None
        examples = read(path, config)
    else:
        path, ratio = config.dataset.train, config.training.training_ratio
        if ratio == 1:
            return None
        examples = read(path, config)[len(read(path, config, ratio)) :]
        words = f"what training_ratio {ratio:g} left of {path}"
        if not examples:
            return None
    return FitPart(few(examples, options.fit_examples), path, words, options.fit_on is not None)


def few(examples: Sequence[Example], most: int) -> list[Example]:
    """Whole dialogues from all over a file, with about `most` examples together where it has more."""
    found: dict[int, list[Example]] = {}
    for example in examples:
        found.setdefault(example.dialogue, []).append(example)
    dialogues = list(found.values())
    kept = min(len(dialogues), max(FOLDS, round(len(dialogues) * most / len(examples))))
    evenly = np.arange(kept) * len(dialogues) // kept
    return [example for place in evenly for example in dialogues[place]]


def _measured(
    model: ConversationModel, config: Config, examples: Sequence[Example], device: torch.device, path: str
) -> Measured:
    return measure(model, config, encode_texts(model, config, examples), device, path)


def _fitted_routers(measured: Measured) -> tuple[dict[str, LinearRouter], dict[str, float]]:
    """Every router, and its loss per token on dialogues that it was not fitted on."""
    found = {name: fit(measured) for name, fit in ROUTERS.items()}
    return {name: router for name, (router, _) in found.items()}, {
        name: loss for name, (_, loss) in found.items()
    }


def chosen(router: LinearRouter, measured: Measured) -> np.ndarray:
    """The prompt [n] of each example."""
    return router.scores(measured.context, measured.turns).argmax(axis=0)


def cross_fitted(measured: Measured) -> dict[str, np.ndarray]:
    """The choice [n] of every router, for each dialogue by one that was fitted without it.

    `preferred` is, for each dialogue, that of the router which did best among the dialogues that all of them were
    fitted on: the same dialogues say nothing of which router is taken and of what it is worth.
    """
    choices = {name: np.zeros(len(measured.tokens), dtype=np.int64) for name in (*ROUTERS, PREFERRED)}
    for kept, left in dialogue_folds(measured.dialogues):
        routers, held_out = _fitted_routers(measured.part(kept))
        for name, router in routers.items():
            choices[name][left] = chosen(router, measured.part(left))
        choices[PREFERRED][left] = choices[min(routers, key=lambda name: held_out[name])][left]
    return choices


def seen_before(part: FitPart | None, examples: Sequence[Example], config: Config) -> list[str]:
    """What makes the report too good, in words: dialogues that routers or prompts have seen before they are measured.

    Args:
        part: what routers are fitted on.
        examples: what they are measured on.
        config: names the file that the run was trained on.
    """
    if part is None:
        return []
    found, train = [], Path(config.dataset.train)
    common = overlap_of(part.examples, examples).dialogues
    if common:
        found.append(
            f"{common:,} dialogue(s) of {config.dataset.valid} stand in {part.path} too: routers are measured on what "
            "they were fitted on, and all that is said of them is too good."
        )
    if part.is_given and train.is_file() and file_sha256(train) == file_sha256(part.path):
        found.append(
            f"The run was trained on {part.path}: its prompts know these dialogues by heart, and what routers learn "
            "there need not hold elsewhere."
        )
    return found


def compare(measured: Measured, choices: Mapping[str, np.ndarray]) -> dict[str, report.Figures]:
    """The figures of the routers' choices, of the run's own, of a random one and of the oracle's, by their names."""
    num_prompts, count = measured.losses.shape
    ways: dict[str, Any] = {
        report.FIXED: choices["fixed"],
        report.OWN: measured.choice,
        **{_NAMES[name]: choice for name, choice in choices.items()},
        report.RANDOM: np.full((num_prompts, count), 1 / num_prompts),
        report.ORACLE: measured.losses.argmin(axis=0),
    }
    examples = measured.losses, measured.tokens, measured.dialogues, choices["fixed"]
    return {name: report.figures_of(name, way, *examples) for name, way in ways.items()}


def _prompts_in_words(fixed: np.ndarray) -> str:
    found = sorted(set(fixed.tolist()))
    return f"prompt {found[0]}" if len(found) == 1 else f"prompts {' and '.join(map(str, found))}"


def _num_dialogues(measured: Measured) -> int:
    return len(np.unique(measured.dialogues))


def _size(measured: Measured) -> str:
    return f"{len(measured.tokens):,} examples of {_num_dialogues(measured):,} dialogues"
