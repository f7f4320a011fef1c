"""What is frozen is the same on every rank, and stays as it is: sums of its bits, which one pass over it gives."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bit_sum(weight: Tensor) -> Tensor:
    """The sum of the bits of all values, in words of eight bytes, an int64 scalar on their device.

    Whole numbers have one sum, however the words are added up. Of a partitioned parameter it is that of this rank's
    share.
    """
    values = getattr(weight, "ds_tensor", weight).detach()
    size = values.element_size()
    flat = values.reshape(-1)  # without a copy, but for a transposed one
    is_aligned = flat.storage_offset() * size % 8 == 0
    in_words = len(flat) * size // 8 * 8 // size if is_aligned else 0
    total = flat[in_words:].view(_BITS[size]).sum(dtype=torch.int64)
    return total + flat[:in_words].view(torch.int64).sum() if in_words else total


class FrozenWeights:
    """Tells which frozen parameters have other values than at the last look.

    Args:
        named: parameters by name; those that are trained are left out.
    """

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]]) -> None:
        self._named = [(name, weight) for name, weight in named if not weight.requires_grad]
        self._sums = self._look()

    def changed(self) -> list[str]:
        """Names of those of this rank that changed since the last call."""
        before, self._sums = self._sums, self._look()
        pairs = zip(self._named, before, self._sums, strict=True)
        return [name for (name, _), old, new in pairs if old != new]

    def _look(self) -> list[int]:
        sums = [bit_sum(weight) for _, weight in self._named]
        # one reading for all; shares of partitioned weights may lie on the host
        if len({sum_.device for sum_ in sums}) == 1:
            return torch.stack(sums).tolist()
        return [int(sum_) for sum_ in sums]
