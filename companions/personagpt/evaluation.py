"""Evaluation of a run: figures of true answers, generated replies in result files, following of action codes.

What each figure is, and which of them may be compared with what, says README.md beside this file.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from transformers.utils import logging as transformers_logging

from companions.personagpt.actions import goals_in
from companions.personagpt.following import (
    Following,
    GoalScore,
    measure_following,
    openings_of,
    score_following,
)
from companions.personagpt.prepared import is_prepared
from companions.personagpt.scores import Totals, totals
from companions.personagpt.settings import PersonaConfig
from companions.personagpt.speaking import rows_drawn
from companions.personagpt.teacher_forcing import score_answers
from dataset.dialogue import Example
from dataset.row_files import KeptRows
from models.conversation import ConversationModel
from models.decoding.decode import DecodeOptions, decode_run
from models.decoding.evaluate import read_examples as read_results
from models.decoding.resuming import row_settings
from models.decoding.runs import load_run, read_run_config
from models.decoding.settings import SEED
from models.reading import make_encoder, texts_of
from utils.distributed import DistributedContext
from utils.errors import UserError
from utils.files import check_writable, write_whole
from utils.liveness import together
from utils.metrics import Score, score
from utils.precision import decide_precision

RESULT = "evaluation.json"
"""in the run folder"""
WITHOUT_CAP = 1_000_000
"""`dataset.max_utterances` for generated replies: the cap is one of the original's own protocol"""

_PARTS: dict[str, dict[str, Any]] = {
    "evaluation_answers.part": {
        "first_nll": (float, int),
        "rest_nll": (float, int),
        "num_tokens": int,
        "f1": (float, int),
    },
    "evaluation_following.part": {"reply": str},
}
"""folders of what is done, until all of it is, with the keys of their rows"""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """What is evaluated, and how; the defaults are the command's."""

    batch_size: int = 16
    valid_path: str | None = None
    speakers: Literal["self", "both"] = "self"
    """whose replies are generated"""
    skip_exists: bool = True
    """keep replies that are there"""
    openings: int = 50
    """that each goal is tried on; 0: action codes are not evaluated"""
    assignments: tuple[str, ...] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)
    """nested sections of the configuration that the script's own flags set"""
    seed: int = SEED


def evaluate_run(run: Path, distributed: DistributedContext, options: EvaluateOptions) -> None:
    """Evaluate a run folder of PersonaGPT; `evaluation.json` and the result files lie in it afterwards.

    Interrupted, it goes on where it was when it is asked for again.

    Raises:
        UserError: what is wrong with the run, the validation file or the goals.
    """
    transformers_logging.disable_progress_bar()
    with together(distributed):  # before hours of work
        config = _config(run, options)
        goals = goals_in(config.dataset.goals)
        examples = texts_of(config).read_examples(config.dataset.valid, config)
        openings = openings_of(examples, options.openings, options.seed) if options.openings else []
        if distributed.is_main:
            check_writable(run)
    decoding = _decode_options(config, options)
    torch.manual_seed(options.seed)  # see _loaded
    decode_run(run, distributed, decoding)  # first: it refuses replies of other settings that are there
    with together(distributed):
        model = _loaded(run, config, options).to(distributed.device)
    if added := getattr(model, "rows_added", 0):
        distributed.say(f"automatic choice: {rows_drawn(added)}")
    distributed.say(f"{run}: {len(examples)} answers of {config.dataset.valid}, both speakers")
    settings = {
        **row_settings(run, config, decoding.described(run, config), distributed),
        "openings": openings,
        "goals": goals,
    }
    with ExitStack() as stack:
        kept = [
            stack.enter_context(KeptRows(run / name, settings, distributed, None, keys))
            for name, keys in _PARTS.items()
        ]
        answers = _answer_scores(model, config, examples, options, distributed, kept[0])
        following = None
        if openings:
            with together(distributed):
                replies = measure_following(
                    model, config, openings, goals, options.batch_size, options.seed, distributed, kept[1]
                )
            following = score_following(_in_order(replies, distributed), openings, goals)
        with together(distributed):
            if distributed.is_main:
                _write(run, config, options, decoding, answers, following)
                for part in kept:
                    part.remove()


def _write(
    run: Path,
    config: PersonaConfig,
    options: EvaluateOptions,
    decoding: DecodeOptions,
    answers: Totals,
    following: Following | None,
) -> None:
    rows = read_results(decoding.paths(run)[0])
    f1 = score(rows, ["f1_parlai"])["f1_parlai"]
    report = _report(run, config, decoding, answers, f1, len(rows), following)
    write_whole(run / RESULT, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    print(_table(run, config, options, answers, f1, len(rows), following), flush=True)


def _config(run: Path, options: EvaluateOptions) -> PersonaConfig:
    """The run's configuration, in the precision that this device has."""
    config = read_run_config(run, options.assignments, options.flags)
    if not isinstance(config, PersonaConfig):
        raise UserError(f"{run}: a run of model_type {config.model.model_type}, not of PersonaGPT")
    precision, _ = decide_precision(config.model.load_bit, "model.load_bit")
    valid = options.valid_path or config.dataset.valid
    return config.replaced({"model": {"load_bit": precision}, "dataset": {"valid": valid}})


def _loaded(run: Path, config: PersonaConfig, options: EvaluateOptions) -> ConversationModel:
    """The model; rows that its LM lacks are drawn, and must be the same on all ranks and whenever it is loaded."""
    torch.manual_seed(options.seed)
    return load_run(run, config)


def _decode_options(config: PersonaConfig, options: EvaluateOptions) -> DecodeOptions:
    """How `decode_run` is to generate: the replies of the official protocol, whatever was trained on."""
    dataset: dict[str, Any] = {"speakers": options.speakers}
    if not is_prepared(config.dataset.valid):  # which holds no more than its own cap left
        dataset["max_utterances"] = WITHOUT_CAP
    return DecodeOptions(
        batch_size=options.batch_size,
        valid_path=config.dataset.valid,
        skip_exists=options.skip_exists,
        assignments=options.assignments,
        flags={**options.flags, "dataset": dataset},
        seed=options.seed,
    )


def _answer_scores(
    model: ConversationModel,
    config: PersonaConfig,
    examples: Sequence[Example],
    options: EvaluateOptions,
    distributed: DistributedContext,
    kept: KeptRows,
) -> Totals:
    with together(distributed):
        encoder = make_encoder(model.tokenizer, config, model.text_limit(0), response_only=True)
        encoded = encoder.encode(examples, with_response=True)
        scores = score_answers(model, encoded, options.batch_size, distributed, kept)
    return totals(_in_order(scores, distributed))


def _in_order(share: Mapping[int, _T], distributed: DistributedContext) -> list[_T]:
    """What all ranks have, by number."""
    shares = distributed.gather(dict(share))
    return [value for _, value in sorted((item for share in shares for item in share.items()), key=_number)]


def _number(item: tuple[int, Any]) -> int:
    return item[0]


def _report(
    run: Path,
    config: PersonaConfig,
    decoding: DecodeOptions,
    answers: Totals,
    f1: Score,
    replies: int,
    following: Following | None,
) -> dict[str, Any]:
    """What `evaluation.json` holds."""
    steering = None
    if following is not None:
        steering = {
            "steered": following.steered,
            "others": following.others,
            "unsteered": following.unsteered,
            "action_prompt": config.model.action_prompt,
            **dataclasses.asdict(following),
        }
    return {
        "answers": {**dataclasses.asdict(answers), "fidelity": config.model.fidelity},
        "replies": {"f1_parlai": f1.value, "stderr": f1.stderr, "number": replies},
        "action_codes": steering,
        "decoding": decoding.described(run, config.replaced(dict(decoding.flags))),
    }


def _table(
    run: Path,
    config: PersonaConfig,
    options: EvaluateOptions,
    answers: Totals,
    f1: Score,
    replies: int,
    following: Following | None,
) -> str:
    """The same in short, for people."""
    who = "the modelled speaker" if options.speakers == "self" else "both speakers"
    f1_text = "-" if f1.value is None else f"{f1.value:.2f}"
    lines = [
        "",
        f"{answers.answers} true answers of both speakers, teacher-forced:",
        f"  legacy perplexity  {answers.legacy_perplexity:8.2f}   the original's: mean per answer without first token",
        f"  teacher-forced F1  {100 * answers.teacher_forced_f1:8.2f}   the original's, x100, each given the true text",
        f"  token perplexity   {answers.token_perplexity:8.2f}   mean per token, first token and eos included",
        f"{replies} generated replies of {who}:",
        f"  F1 (ParlAI)        {f1_text:>8}   x100; every metric: evaluate_runs_results.py --main_path={run}",
    ]
    if following is not None:
        lines += [
            f"replies that hold a keyword of the action code, in percent, on {following.openings} openings:",
            "  steered  other codes  unsteered   action code: keywords (* any ending)",
        ]
        for goal in following.goals:
            rule = ", ".join(goal.keywords[:6]) + (", ..." if len(goal.keywords) > 6 else "")
            lines.append(f"{_shares(goal)}   {goal.goal} {rule}")
        lines.append(f"{_shares(following)}   mean; action prompt {config.model.action_prompt}")
    return "\n".join([*lines, f"written: {run / RESULT}"])


def _shares(of: Following | GoalScore) -> str:
    """The three shares in percent, as columns."""
    others = "-" if of.others is None else f"{100 * of.others:.1f}"
    return f"  {100 * of.steered:7.1f}  {others:>11}  {100 * of.unsteered:9.1f}"
