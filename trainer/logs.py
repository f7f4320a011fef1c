"""What a run writes about itself: metrics.jsonl and TensorBoard, each loss apart."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from models.conversation import StepOutput
from models.feedback import usage_entropy
from utils.distributed import DistributedContext
from utils.files import json_line, write_errors
from utils.runs import METRICS

DOMINANT = 0.95
WATCHED = ("agreement", "regret")  # sums over examples that are no losses


@dataclass
class Tally:
    """Sums over batches, kept on the device: reading them is the only synchronisation.

    Each loss is weighted by the number of tokens, examples or pairs that it is a mean over, so that its mean
    over an epoch does not depend on how the epoch was cut into batches.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    examples: int = 0

    def add(self, output: StepOutput, num_examples: int) -> None:
        """Add one batch. With 0 examples (they were counted elsewhere) it adds nothing."""
        for name, value in output.losses.items():
            count = output.counts[name] if num_examples else 0
            self._add(name, value.detach().double() * count)
            self.counts[name] += count
        for name, value in output.diagnostics.items():
            self._add(name, value.double() * int(num_examples > 0))
        self.examples += num_examples

    def _add(self, name: str, value: Tensor) -> None:
        self.sums[name] = self.sums[name] + value if name in self.sums else value

    def read(
        self,
        distributed: DistributedContext,
        total_loss: Callable[[Mapping[str, float]], float],
        file_losses: Mapping[str, float] | None = None,
    ) -> dict[str, Any]:
        """Means over all batches of all ranks, with what they say of the retriever.

        Args:
            distributed: the processes; all of them must call it.
            total_loss: the model's, see `ConversationModel.total_loss`.
            file_losses: losses of the whole file, which no batch has.

        Returns:
            A row: examples, total and each loss (nats; 0 for one that no batch had anything to take a mean
            over), and where prompts are chosen: prompt_share [K], prompt_entropy (nats, at most log K),
            agreement (share of examples whose argmax of the scores is the argmin of the LM's losses), regret
            (nats per token: the LM's loss with the chosen prompt minus its lowest).
        """
        names = sorted(self.sums)
        counts = [float(self.examples), *(float(self.counts[name]) for name in names)]
        flat = [self.sums[name].flatten() for name in names]
        device = flat[0].device if flat else distributed.device
        packed = torch.cat([torch.tensor(counts, device=device, dtype=torch.float64), *flat])
        values = distributed.sum(packed).tolist()
        examples, counts, values = values[0], values[1 : 1 + len(names)], values[1 + len(names) :]
        losses, watched = {}, {}
        for name, count, part in zip(names, counts, flat, strict=True):
            mine, values = values[: part.numel()], values[part.numel() :]
            if name == "usage":
                watched["prompt_share"] = [number / max(1.0, sum(mine)) for number in mine]
                watched["prompt_entropy"] = usage_entropy(torch.tensor(mine)).item()
            elif name in WATCHED:
                watched[name] = mine[0] / examples
            else:
                losses[name] = mine[0] / max(1.0, count)
        losses |= file_losses or {}
        total = float(total_loss(losses)) if losses else math.nan
        return {"examples": int(examples), "total": total, **losses, **watched}


def dominance_warning(row: dict[str, Any], what: str) -> str | None:
    """A sentence when one prompt takes more than 95 % of the choices."""
    shares = row.get("prompt_share", [])
    if len(shares) < 2 or max(shares) <= DOMINANT:
        return None
    index = shares.index(max(shares))
    advice = "Try a higher selective_loss_weight, a lower tau_gold, or adding_noise"
    if "selection" not in row:
        advice = "Nothing teaches the retriever to choose: L_selection is off"
    return (
        f"warning: prompt {index} was chosen for {100 * shares[index]:.1f} % of {what}; the other "
        f"{len(shares) - 1} are hardly used. {advice}"
    )


class RunLog:
    """metrics.jsonl and TensorBoard of one run; writes on the main process only.

    Raises:
        UserError: from every method, when one of the files cannot be written.
    """

    def __init__(self, folder: Path, distributed: DistributedContext) -> None:
        self.distributed, self.path = distributed, folder / METRICS
        self.file, self.board = None, None
        if distributed.is_main:
            with write_errors(self.path):
                self.file = self.path.open("a", encoding="utf-8")
                self.board = SummaryWriter(str(folder))

    def write(self, phase: str, step: int, row: dict[str, Any], whole_epoch: bool = False) -> None:
        """One row.

        Args:
            phase: "train" or "valid".
            step: optimiser steps so far.
            row: from `Tally.read`, with whatever else belongs to it.
            whole_epoch: the row sums up an epoch.
        """
        if self.file is None or self.board is None:
            return
        kind = f"{phase}_epoch" if whole_epoch else phase
        with write_errors(self.path):
            self.file.write(json_line({"phase": kind, "step": step, **row}))
            self.file.flush()
            self._draw(self.board, kind, f"total_{phase}" if whole_epoch else phase, step, row)

    def _draw(self, board: SummaryWriter, kind: str, released: str, step: int, row: dict[str, Any]) -> None:
        # the release's names for the total loss, so that old and new runs share a plot
        board.add_scalar(f"Loss-{self.distributed.rank}/{released}", row["total"], step)
        for name, value in row.items():
            if name == "prompt_share":
                for index, share in enumerate(value):
                    board.add_scalar(f"Prompt share/{kind}/{index}", share, step)
            elif isinstance(value, float):
                board.add_scalar(f"{name}/{kind}", value, step)

    def close(self) -> None:
        """Flush and close."""
        if self.file is not None and self.board is not None:
            with write_errors(self.path):
                self.file.close()
                self.board.close()
