"""The processes of a run: who this one is, what it may say, and what all of them exchange."""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator
from torch.distributed.distributed_c10d import _set_pg_timeout

from utils.errors import UserError, first_line, printable

T = TypeVar("T")
JOINING = timedelta(minutes=5)  # for all ranks to import, parse and join


@dataclass(frozen=True, slots=True)
class DistributedContext:
    """This process, its device, and the processes beside it."""

    rank: int
    local_rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """The one process that prints and writes."""
        return self.rank == 0

    def say(self, text: str) -> None:
        """Print on the main process."""
        if self.is_main:
            print(printable(text), flush=True)

    def share(self, value: Any) -> Any:
        """The main process's value, on every process."""
        if self.size == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all processes."""
        if self.size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, by rank, on every process."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values

    def gather_shares(self, mine: Sequence[T]) -> list[T]:
        """All of a list in its order, on every process, where process r of n has the places r, r + n, r + 2n, ..."""
        shares = self.gather(mine)
        count = sum(map(len, shares))
        return [shares[place % self.size][place // self.size] for place in range(count)]

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            torch.distributed.barrier()


def start_distributed(local_rank: int = -1) -> DistributedContext:
    """Join the launcher's processes, or make a process group of one when there was no launcher.

    Args:
        local_rank: what the launcher passed as --local_rank; the environment wins.
    """
    accelerator = get_accelerator()
    local_rank = int(os.environ.get("LOCAL_RANK", max(local_rank, 0)))
    if "RANK" not in os.environ:
        alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
        os.environ.update(alone, MASTER_PORT=str(_free_port()))
    accelerator.set_device(local_rank)
    if accelerator.device_name() == "cpu":
        # DeepSpeed would compile a kernel for sharded inference, which nothing here uses: most of a minute on
        # a new machine, and an error where there is no compiler
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    try:
        deepspeed.init_distributed(
            dist_backend="gloo" if accelerator.device_name() == "cpu" else None,
            auto_mpi_discovery=False,
            verbose=False,
            timeout=JOINING,
        )
    except torch.distributed.DistError as error:
        raise UserError(
            f"rank {os.environ['RANK']}: not all of {os.environ['WORLD_SIZE']} ranks joined within "
            f"{JOINING.seconds // 60} minutes; see what the others printed ({first_line(error)})"
        ) from None
    # a rank that died is found by utils/liveness.py; one that is slower than the others may take its time
    _set_pg_timeout(timedelta(days=7))
    return DistributedContext(
        rank=torch.distributed.get_rank(),
        local_rank=local_rank,
        size=torch.distributed.get_world_size(),
        device=torch.device(
            accelerator.device_name(local_rank) if accelerator.device_name() != "cpu" else "cpu"
        ),
    )


def end_distributed() -> None:
    """Leave the process group, so that the process ends without a warning."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
