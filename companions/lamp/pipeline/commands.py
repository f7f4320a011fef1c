"""The commands of the chain, run in this process: their own parsers read the words, then one function does the work."""

import argparse
from collections.abc import Callable, Sequence
from functools import partial

from companions.lamp import feedback, merge_with_rank, rank_profiles
from companions.lamp.lm import arguments as lm_arguments
from companions.lamp.lm import settings as lm_settings
from companions.lamp.lm.task import train_lm
from companions.lamp.pipeline import table, tiny_models
from companions.lamp.pipeline.steps import Command
from companions.lamp.ropg import arguments as ropg_arguments
from companions.lamp.ropg.settings import KDConfig, RLConfig
from companions.lamp.ropg.task import ropg_task
from companions.lamp.rspg import arguments as rspg_arguments
from companions.lamp.rspg import create_data
from companions.lamp.rspg.running import run_rspg
from trainer.training import train
from utils.distributed import DistributedContext
from utils.liveness import together

Words = Sequence[str]
Runner = Callable[[Words, DistributedContext], None]


def run_command(command: Command, distributed: DistributedContext) -> None:
    """Run one command; all processes call this.

    Raises:
        UserError: whatever the command has to say.
    """
    _RUNNERS[command.module.removeprefix("companions.lamp.")](command.words, distributed)


def _rank(words: Words, distributed: DistributedContext) -> None:
    rank_profiles.rank(rank_profiles.parser().parse_args(words), distributed)


def _on_main(
    parser: Callable[[], argparse.ArgumentParser],
    work: Callable[[argparse.Namespace], None],
    words: Words,
    distributed: DistributedContext,
) -> None:
    """A command that one process runs, while the others wait."""
    with together(distributed):
        if distributed.is_main:
            work(parser().parse_args(words))


def _train_lm(words: Words, distributed: DistributedContext) -> None:
    args, config = lm_arguments.read_arguments(lm_settings.TrainConfig, "", words, engine_runs=True)
    train_lm(config, distributed, args.name, resume=args.resume)


def _item_feedback(words: Words, distributed: DistributedContext) -> None:
    args, config = lm_arguments.read_arguments(lm_settings.ItemFeedbackConfig, "", words)
    feedback.collect_item_feedback(config, args.output_dir, distributed)


def _retriever_feedback(words: Words, distributed: DistributedContext) -> None:
    args, config = lm_arguments.read_arguments(lm_settings.RetrieverFeedbackConfig, "", words)
    feedback.collect_retriever_feedback(config, args.output_dir, distributed)


def _ropg_kd(words: Words, distributed: DistributedContext) -> None:
    args, config = ropg_arguments.read_arguments(KDConfig, "kd", words)
    train(ropg_task(config), distributed, args.name, resume=args.resume)


def _ropg_rl(words: Words, distributed: DistributedContext) -> None:
    args, config = ropg_arguments.read_arguments(RLConfig, "rl", words)
    train(ropg_task(config), distributed, args.name, resume=args.resume)


def _rspg(words: Words, distributed: DistributedContext) -> None:
    args, config = rspg_arguments.read_arguments(words)
    run_rspg(config, distributed, args.name, args.do_train, args.do_validation, resume=args.resume)


_RUNNERS: dict[str, Runner] = {
    "pipeline.tiny_models": partial(_on_main, tiny_models.parser, tiny_models.make),
    "rank_profiles": _rank,
    "merge_with_rank": partial(_on_main, merge_with_rank.parser, merge_with_rank.merge_files),
    "train_llm": _train_lm,
    "profile_item_utilization_scorer": _item_feedback,
    "ropg.train_kd": _ropg_kd,
    "ropg.train_rl": _ropg_rl,
    "retriever_utilization_scorer": _retriever_feedback,
    "rspg.create_data": partial(_on_main, create_data.parser, create_data.create),
    "rspg.rspg": _rspg,
    "pipeline.table": partial(_on_main, table.parser, table.compare),
}
