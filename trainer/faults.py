"""Faults that leave the losses looking well: a part without a gradient, a frozen weight that changed, and others."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from models.trainable import Trainable
from trainer.frozen import FrozenWeights
from trainer.logs import RunLog
from utils.distributed import DistributedContext


class GradientsSeen:
    """Which parts of a module have had a gradient that is not zero, in an epoch.

    Each part is looked at until it has had one: mostly in the first step alone, and on a GPU until the next report,
    as only that reads what was found.

    Args:
        parts: see `Trainable.learning_parts`.
    """

    def __init__(self, parts: Mapping[str, Sequence[nn.Parameter]]) -> None:
        self._seen: dict[str, bool] = {}
        self._found: dict[str, Tensor] = {}  # bool, on the device
        for name, parameters in parts.items():
            for parameter in parameters:
                if parameter.requires_grad:
                    self._seen[name] = False
                    parameter.register_hook(partial(self._look, name))

    def begin(self) -> None:
        """Nothing has been seen yet."""
        self._seen = dict.fromkeys(self._seen, False)
        self._found.clear()

    def _look(self, name: str, gradient: Tensor) -> None:
        if self._seen[name]:
            return
        found = gradient.any()
        if found.device.type == "cpu":
            self._seen[name] = bool(found)
        else:
            self._found[name] = self._found[name] | found if name in self._found else found

    def read(self) -> None:
        """Take over what was found on the device."""
        for name, found in self._found.items():
            self._seen[name] = bool(found)
        self._found.clear()

    def missing(self, distributed: DistributedContext) -> list[str]:
        """Parts that had none on any rank; all ranks must call it."""
        self.read()
        ranks = distributed.gather(self._seen)
        return [name for name in self._seen if not any(seen[name] for seen in ranks)]


class Faults:
    """Looks for faults at the end of every epoch; says each of them once in a run, and writes it to the log.

    What was said is read from the log, so that a run that is resumed does not say it again.

    Args:
        module: the module, in its engine.
        distributed: the processes; all of them must call every method.
        log: of the run.
    """

    def __init__(self, module: Trainable, distributed: DistributedContext, log: RunLog) -> None:
        self.module, self.distributed, self.log = module, distributed, log
        self._said = {str(row.get("fault")) for row in log.rows("warning")}
        self._gradients = GradientsSeen(module.learning_parts())
        self._frozen = FrozenWeights(module.named_parameters())
        self._begun = 0  # steps of the run before those of this epoch that are looked at

    def begin_epoch(self, steps: int) -> None:
        """The training of an epoch begins, or goes on, after `steps` steps of the run."""
        self._begun = steps
        self._gradients.begin()

    def read_gradients(self) -> None:
        """Where the device is waited for anyway: take over what was found on it."""
        self._gradients.read()

    def end_epoch(self, epoch: int, steps: int) -> None:
        """Look for all faults, after `steps` steps of the run; the epoch is counted from 0."""
        for name, sentence in self._found(epoch, steps):
            self.say(name, sentence, epoch, steps)

    def say(self, name: str, sentence: str, epoch: int, step: int) -> None:
        """Say and write a warning, unless that was done in this run."""
        if name in self._said:
            return
        self._said.add(name)
        self.distributed.say(f"warning: {sentence}")
        self.log.add("warning", step, {"epoch": epoch, "fault": name, "warning": sentence})

    def _found(self, epoch: int, steps: int) -> Iterator[tuple[str, str]]:
        """Name and sentence of each fault."""
        if steps > self._begun:
            for part in self._gradients.missing(self.distributed):
                yield (
                    f"no gradient: {part}",
                    f"the gradient of {part} was zero in all steps from {self._begun + 1} to {steps} (epoch "
                    f"{epoch + 1}): it learns nothing; no loss that is on depends on it, or those that do are constant",
                )
        changed = [name for names in self.distributed.gather(self._frozen.changed()) for name in names]
        if changed := list(dict.fromkeys(changed)):
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            yield (
                "frozen weights changed",
                f"{changed[0]}{more} is frozen, and yet changed in epoch {epoch + 1}: what is trained belongs to "
                "another base model than the one that it will be used with",
            )
        with torch.no_grad():
            yield from self.module.faults().items()
