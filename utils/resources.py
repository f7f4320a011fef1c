"""What a machine has for a run, containers counted: processors, memory, open files, disk, and a way to the hub."""

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

# has no types of its own
from psutil import Process, virtual_memory  # type: ignore[import-untyped]

from utils.errors import UserError, first_line
from utils.files import check_writable
from utils.findings import Finding, size

CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
HUB_TIMEOUT = 5  # seconds
_FEW_FILES = 1024
_UNLIMITED = 1 << 60  # bytes; version 1 of control groups says "no limit" by a number near 2 ** 63


def own_groups(kind: str) -> list[Path]:
    """The folders of this process's control group and of those above it, the innermost first.

    Args:
        kind: `memory` or `cpu`; version 1 has a tree for each, version 2 one for all.
    """
    try:
        lines = OWN_CGROUP.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    found = []
    for _, kinds, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if kinds and kind not in kinds.split(","):
            continue
        root = CGROUPS / kind if kinds else CGROUPS
        # inside of a container the path is often that of the host, and the container's own limits lie at the root
        parts = Path(path.lstrip("/"))
        found += [root / part for part in (parts, *parts.parents)]
    return found


def memory_limit() -> tuple[int, int] | None:
    """The tightest memory limit of the container, and what is used of it, in bytes; None without one."""
    limits = []
    for folder in own_groups("memory"):
        for limit, used in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            allowed = _number(folder / limit)
            if allowed is not None and allowed < _UNLIMITED:
                limits.append((allowed, (_number(folder / used) or 0) - _reclaimable(folder)))
    return min(limits, key=lambda pair: pair[0] - pair[1], default=None)


def available_memory() -> int:
    """Bytes of memory that this process may still take: the machine's, or what its container leaves."""
    free = int(virtual_memory().available)
    limit = memory_limit()
    return free if limit is None else max(0, min(free, limit[0] - limit[1]))


def _reclaimable(folder: Path) -> int:
    """Bytes that count as used and that the system takes back when asked: pages of files that were read."""
    try:
        rows = dict(
            line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        )
        return int(rows.get("total_inactive_file", rows.get("inactive_file", 0)))
    except (OSError, ValueError):
        return 0


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # missing, or `max`
        return None


def processors() -> float:
    """Processors that this process may use, by its affinity and its container's quota."""
    count: float = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    for folder in own_groups("cpu"):
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        try:
            given = (folder / "cpu.max").read_text(encoding="ascii").split()
            quota, period = (int(value) for value in given)
        except (OSError, ValueError):  # missing, or `max 100000`
            pass
        if quota and period and quota > 0:
            count = min(count, quota / period)
    return count


def machine_findings(threads: int) -> Iterator[Finding]:
    """Processors, memory and open files.

    Args:
        threads: that torch computes with.
    """
    cores = processors()
    text = f"{cores:g} usable of {os.cpu_count()}, torch computes with {threads} thread(s)"
    if threads > max(1, cores):
        fix = f"more threads than processors wait for one another: set OMP_NUM_THREADS={max(1, int(cores))}"
        yield Finding("warn", "processors", f"{text}; {fix}")
    else:
        yield Finding("ok", "processors", text)
    limit = memory_limit()
    total, free = int(virtual_memory().total), available_memory()
    text = f"{size(total)}, {size(free)} available"
    if limit and limit[0] < total:
        text = f"the container may take {size(limit[0])} of {size(total)}, {size(free)} are left"
    low = free < 2 * 2**30
    yield Finding(
        "warn" if low else "ok",
        "memory",
        text + ("; a run needs about 1 GiB beside its model" if low else ""),
    )
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files != resource.RLIM_INFINITY and files < _FEW_FILES:
        fix = "; loaders with --num_workers may run out of them: `ulimit -n 4096`"
        yield Finding("warn", "open files", f"{files}{fix}")
    else:
        yield Finding("ok", "open files", "any number" if files == resource.RLIM_INFINITY else str(files))


def shared_memory_finding(num_workers: int, folder: Path = Path("/dev/shm")) -> Finding | None:
    """Whether shared memory is too small for batches from worker processes, as in containers by default."""
    if not num_workers or not folder.is_dir():
        return None
    free = shutil.disk_usage(folder).free
    if free >= 2**29:
        return Finding("ok", "shared memory", f"{size(free)} for the batches of {num_workers} worker(s)")
    fix = "start the container with --shm-size=1g, or use --num_workers=0"
    return Finding("warn", "shared memory", f"{size(free)} are few for {num_workers} worker(s): {fix}")


def disk_finding(subject: str, folder: str | Path, needed: float, fix: str) -> Finding:
    """Whether a folder, which may not be there yet, can be written to and has room.

    Args:
        subject: what the folder is.
        folder: its path; `~` is a home.
        needed: bytes that will be written.
        fix: what gives another folder.
    """
    try:
        path = Path(folder).expanduser()
    except RuntimeError:
        return Finding("FAIL", subject, f"{folder}: there is no such home; {fix}")
    there = path.absolute()
    while not os.path.exists(there) and there != there.parent:
        there = there.parent
    try:
        check_writable(there)
        free = shutil.disk_usage(there).free
    except (UserError, OSError) as error:
        return Finding("FAIL", subject, f"{path} cannot be written to: {first_line(error)}; {fix}")
    text = f"{path}: {size(free)} free" + (f", about {size(needed)} needed" if needed else "")
    if free < needed:
        return Finding("FAIL", subject, f"{text}; make room, or {fix}")
    if free < 2 * needed or free < 2**28:
        return Finding("warn", subject, f"{text}: that is tight; make room, or {fix}")
    return Finding("ok", subject, text)


def hub_finding() -> Finding:
    """Whether the Hugging Face hub can be reached; a machine without it works from folders and from its cache."""
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return Finding(
            "ok", "hub", "not asked, as HF_HUB_OFFLINE is set: models come from folders or the cache"
        )
    try:
        HfApi().model_info("gpt2", timeout=HUB_TIMEOUT)
    except Exception as error:  # whatever keeps it from answering
        fix = "give models as local folders (--set model.model_name=FOLDER), or set HF_HOME to a cache with them"
        return Finding("warn", "hub", f"{constants.ENDPOINT} does not answer ({first_line(error)}): {fix}")
    return Finding("ok", "hub", f"{constants.ENDPOINT} answers")


def peak_memory() -> int:
    """The most bytes of memory that this process has taken since `restart_peak`."""
    return _status("VmHWM") or int(Process().memory_info().rss)


def restart_peak() -> None:
    """Count the peak from what is taken now, where the system lets it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # no Linux, or not allowed: the peak is then that of the whole process
        return


def _status(key: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), None)
