"""Where the time of a training goes: seconds of waiting for data, forward and backward pass, update, and the rest."""

import time
from collections import defaultdict
from collections.abc import Mapping

import torch

STEP_PARTS = ("data", "forward", "backward", "update", "logging")
"""what training steps consist of; `data` is waiting for a batch, `update` has the communication of the ranks in it"""
PARTS = (*STEP_PARTS, "validation", "saving")
"""what an epoch consists of"""
_MOST_EVENTS = 4096  # of CUDA, after which the clock reads them of itself


class Clock:
    """Adds up the seconds between marks, by the part of the work that they belong to.

    On a CUDA device a mark is an event in the stream of the work, which the device passes when it gets there: the
    parts are what the device was busy with or waited for, and no mark waits for the device. Elsewhere a mark is a look
    at the clock. Validating, saving and writing rows wait for the device of themselves.

    Args:
        device: where the work is done.
        so_far: seconds of an epoch that goes on, see the method.
    """

    def __init__(self, device: torch.device, so_far: Mapping[str, float] | None = None) -> None:
        self._on_cuda = device.type == "cuda"
        self._marks: list[tuple[str, torch.cuda.Event]] = []
        self._free: list[torch.cuda.Event] = []
        self._recent: dict[str, float] = defaultdict(float)
        self._epoch: dict[str, float] = dict(
            so_far or {}
        )  # what `figures` has given of this epoch, and before
        self.restart()

    def restart(self) -> None:
        """What was done since the last mark belongs to no part."""
        if self._on_cuda:
            self._collect()
            self._before = self._event()
        else:
            self._last = time.perf_counter()

    def mark(self, part: str) -> None:
        """What was done since the last mark belongs to `part`."""
        if self._on_cuda:
            self._marks.append((part, self._event()))
            if len(self._marks) >= _MOST_EVENTS:
                self._collect()
        else:
            now = time.perf_counter()
            self._recent[part] += now - self._last
            self._last = now

    def figures(self) -> dict[str, float]:
        """Seconds of each part of the steps since the last call, as figures of a row; it waits for the device."""
        self._collect()
        recent = dict(self._recent)
        self._recent.clear()
        self._epoch = _sum(self._epoch, recent)
        return as_figures({part: recent.get(part, 0.0) for part in STEP_PARTS})

    def so_far(self) -> dict[str, float]:
        """Seconds of each part of this epoch."""
        self._collect()
        return _sum(self._epoch, self._recent)

    def end_epoch(self) -> dict[str, float]:
        """The same; the next epoch begins."""
        seconds = self.so_far()
        self._recent.clear()
        self._epoch.clear()
        return seconds

    def _event(self) -> torch.cuda.Event:
        event = self._free.pop() if self._free else torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _collect(self) -> None:
        if not self._marks:
            return
        self._marks[-1][1].synchronize()
        for part, event in self._marks:
            self._recent[part] += self._before.elapsed_time(event) / 1000
            self._free.append(self._before)
            self._before = event
        self._marks.clear()


def _sum(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {part: one.get(part, 0.0) + other.get(part, 0.0) for part in PARTS if part in one or part in other}


def as_figures(seconds: dict[str, float]) -> dict[str, float]:
    """Names and values of a row: `seconds_PART`, to the microsecond."""
    return {f"seconds_{part}": round(value, 6) for part, value in seconds.items()}


def in_words(seconds: dict[str, float]) -> str:
    """One line: each part with its seconds and its share."""
    whole = max(sum(seconds.values()), 1e-9)
    parts = (f"{part} {value:.2f} ({100 * value / whole:.0f} %)" for part, value in seconds.items())
    return f"seconds: {', '.join(parts)}; in all {whole:.2f}"
