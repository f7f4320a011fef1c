"""Training and prediction of one call of the command."""

import argparse
from pathlib import Path

from companions.lamp.rspg.inference import PREDICTIONS, validate
from companions.lamp.rspg.settings import RspgConfig
from companions.lamp.rspg.task import rspg_task
from trainer.training import train
from utils.distributed import DistributedContext


def run_rspg(config: RspgConfig, args: argparse.Namespace, distributed: DistributedContext) -> None:
    """Train a scorer, predict with it, or both.

    Predictions go to `predictions/` of the run folder, or to `<checkpoint_dir>/<name>/predictions/` where nothing was
    trained.

    Raises:
        UserError: what is wrong with configuration, files or scorer.
    """
    folder = Path(config.training.log_dir) / args.name
    if args.do_train:
        folder = train(rspg_task(config), distributed, args.name, args.deepspeed_config)
        config = config.replaced({"model": {"model_name": str(folder)}})
    if args.do_validation:
        report = validate(config, folder / "predictions", distributed)
        for name in ("chosen", "oracle"):
            figures = "  ".join(f"{metric} {value:.4f}" for metric, value in report[name].items())
            distributed.say(f"{name}: {figures}")
        distributed.say(f"success rate {report['success_rate']:.4f}")
        distributed.say(f"predictions: {folder / 'predictions' / PREDICTIONS}")
