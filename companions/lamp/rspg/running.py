"""Training and prediction of one call of the command."""

from pathlib import Path

from companions.lamp.rspg.inference import PREDICTIONS, validate
from companions.lamp.rspg.settings import RspgConfig
from companions.lamp.rspg.task import rspg_task
from trainer.training import train
from utils.distributed import DistributedContext


def run_rspg(
    config: RspgConfig,
    distributed: DistributedContext,
    name: str,
    do_train: bool,
    do_validation: bool,
    ds_config_path: str | None = None,
    resume: str | None = None,
) -> Path:
    """Train a scorer, predict with it, or both.

    Args:
        config: the whole configuration.
        distributed: the processes.
        name: run name, without the time.
        do_train: train a scorer.
        do_validation: write predictions and metrics to `predictions/` of the run folder, or of
            `<checkpoint_dir>/<name>` where nothing is trained.
        ds_config_path: DeepSpeed configuration; the default is the project's ds_config.json.
        resume: a run folder whose training goes on, see `trainer.training.train`.

    Returns:
        That folder.

    Raises:
        UserError: what is wrong with configuration, files or scorer.
    """
    folder = Path(config.training.log_dir) / name
    if do_train:
        folder = train(rspg_task(config), distributed, name, ds_config_path, resume=resume)
        config = config.replaced({"model": {"model_name": str(folder)}})
    if do_validation:
        report = validate(config, folder / "predictions", distributed)
        for who in ("chosen", "oracle"):
            figures = "  ".join(f"{metric} {value:.4f}" for metric, value in report[who].items())
            distributed.say(f"{who}: {figures}")
        distributed.say(f"success rate {report['success_rate']:.4f}")
        distributed.say(f"predictions: {folder / 'predictions' / PREDICTIONS}")
    return folder
