"""One call of train_kd or train_rl."""

from typing import TypeVar

from companions.lamp.ropg.arguments import read_arguments
from companions.lamp.ropg.settings import KDConfig, RLConfig
from utils.console import quiet_libraries

_RopgConfig = TypeVar("_RopgConfig", KDConfig, RLConfig)


def train_retriever(config_class: type[_RopgConfig], method: str) -> None:
    """Read the command line of a method, and train.

    Raises:
        UserError: what is wrong with flags, configuration or files.
    """
    args, config = read_arguments(config_class, method)
    quiet_libraries()
    # what is wrong with flags or configuration is told before torch is imported, which takes seconds
    from companions.lamp.ropg.task import ropg_task
    from trainer.training import train
    from utils.liveness import distributed_context

    with distributed_context(args.local_rank) as distributed:
        train(ropg_task(config), distributed, args.name, args.deepspeed_config, resume=args.resume)
