"""Checks of an installation: Python, libraries, accelerator, what DeepSpeed would compile, text encoding."""

import locale
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from utils.findings import Finding, size

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements.txt"
_OLDEST = (3, 10)


def python_finding() -> Finding:
    """Whether this Python is new enough."""
    text = f"{'.'.join(map(str, sys.version_info[:3]))}, {sys.executable}"
    if sys.version_info[:2] < _OLDEST:
        return Finding("FAIL", "Python", f"{text}: 3.10 or newer is needed; `make install PYTHON=python3.11`")
    return Finding("ok", "Python", text)


def library_findings(requirements: Path = REQUIREMENTS) -> Iterator[Finding]:
    """The pinned libraries that are missing or have another version."""
    try:
        lines = requirements.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        yield Finding("warn", "libraries", f"{requirements} cannot be read ({error.strerror})")
        return
    count, faults = 0, 0
    section = "needed"
    for line in lines:
        text = line.strip()
        if text.startswith("#"):
            section = "checks" if "checks" in text else section
        if not text or text.startswith("#"):
            continue
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            yield Finding("warn", "libraries", f"{requirements.name}: {text[:60]!r} is no requirement")
            continue
        if wanted.marker and not wanted.marker.evaluate():
            continue
        count += 1
        try:
            there = version(wanted.name)
        except PackageNotFoundError:
            faults += 1
            yield Finding(
                "FAIL" if section == "needed" else "warn",
                "libraries",
                f"{wanted.name} is not installed: `make install`",
            )
            continue
        if not wanted.specifier.contains(there, prereleases=True):
            faults += 1
            text = f"{wanted.name} {there} is installed, {requirements.name} pins {wanted.specifier}"
            yield Finding(
                "warn", "libraries", f"{text}: `make install`, unless it is meant to be another one"
            )
    if not faults:
        yield Finding("ok", "libraries", f"all {count} as pinned in {requirements.name}")


def accelerator_findings() -> Iterator[Finding]:
    """Which accelerator DeepSpeed takes, its memory and its precisions; a GPU that is there and not usable."""
    import torch
    from deepspeed.accelerator import get_accelerator

    accelerator = get_accelerator()
    name = accelerator.device_name()
    if name == "cuda":
        for number in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(number)
            tf32 = "TF32" if device.major >= 8 else "no TF32"
            free = torch.cuda.mem_get_info(number)[0]
            text = f"cuda:{number} {device.name}, {size(device.total_memory)}, {size(free)} free, {tf32}"
            yield Finding("ok", "accelerator", text)
        yield Finding(
            "ok", "CUDA", f"torch is built for {torch.version.cuda}, driver {_driver() or 'unknown'}"
        )
    else:
        yield Finding("ok", "accelerator", f"none: {name}")
        driver = _driver()
        if driver and torch.version.cuda:
            fix = f"install a driver for CUDA {torch.version.cuda} (`nvidia-smi` says what this one bears), or a "
            fix += "torch for an older CUDA (https://pytorch.org/get-started)"
            chosen = os.environ.get("DS_ACCELERATOR") or os.environ.get("CUDA_VISIBLE_DEVICES")
            reason = "DS_ACCELERATOR or CUDA_VISIBLE_DEVICES is set" if chosen is not None else fix
            text = f"a GPU driver ({driver}) is here, and torch does not see a device: {reason}"
            yield Finding("warn" if chosen is not None else "FAIL", "CUDA", text)
        elif driver:
            text = "a GPU driver is here, and torch is built without CUDA"
            yield Finding("warn", "CUDA", f"{text}: install torch from https://pytorch.org/get-started")
    kinds = {
        "float32": True,
        "bf16": accelerator.is_bf16_supported(),
        "float16": accelerator.is_fp16_supported(),
    }
    have = ", ".join(kind for kind, there in kinds.items() if there)
    lacks = ", ".join(kind for kind, there in kinds.items() if not there)
    yield Finding("ok", "precisions", have + (f"; not {lacks}" if lacks else ""))


def _driver() -> str | None:
    """The version of NVIDIA's driver, or None without one."""
    if not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.split()), None)


def compiled_op_findings(ds_config: dict[str, Any] | None = None) -> Iterator[Finding]:
    """The kernels that DeepSpeed would compile for a configuration, and whether a compiler is there.

    Args:
        ds_config: a complete one; None: the project's own, which needs none.
    """
    ops = needed_ops(ds_config or {})
    compiler = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++")
    tools = {"a C++ compiler": compiler, "ninja": shutil.which("ninja") or _module_there("ninja")}
    if any(name.startswith("Quantizer") for name in ops):
        tools["nvcc"] = shutil.which("nvcc")
    missing = [tool for tool, path in tools.items() if not path]
    if not ops:
        text = "DeepSpeed compiles nothing for a run (the kernel for shared memory on CPUs is switched off)"
        yield Finding("ok", "DeepSpeed ops", text)
        return
    names = ", ".join(ops)
    if missing:
        fix = f"install {' and '.join(missing)}, or leave out what asks for it ({'; '.join(ops.values())})"
        yield Finding("FAIL", "DeepSpeed ops", f"{names} must be compiled: {fix}")
        return
    from deepspeed.ops import op_builder

    for name, key in ops.items():
        builder = getattr(op_builder, name, None)
        if builder is None or not builder().is_compatible(verbose=False):
            text = f"{name} ({key}) cannot be compiled here: `ds_report` says what it lacks"
            yield Finding("FAIL", "DeepSpeed ops", text)
        else:
            yield Finding("ok", "DeepSpeed ops", f"{name} ({key}): compiled at the first start")


def needed_ops(ds_config: dict[str, Any]) -> dict[str, str]:
    """Names of the builders that a DeepSpeed configuration needs, and the key that asks for each."""
    zero = ds_config.get("zero_optimization", {})
    found = {}
    for key in ("offload_param", "offload_optimizer"):
        if isinstance(zero.get(key), dict) and zero[key].get("device") == "nvme":
            found["AsyncIOBuilder"] = f"zero_optimization.{key}.device: nvme"
    for key in ("zero_quantized_weights", "zero_quantized_gradients"):
        if zero.get(key):
            found["QuantizerBuilder"] = f"zero_optimization.{key}"
    return found


def _module_there(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def encoding_finding() -> Finding:
    """Whether text on the screen and file names are UTF-8."""
    kinds = {
        "screen": getattr(sys.stdout, "encoding", None) or "none",
        "files": locale.getpreferredencoding(False),
        "file names": sys.getfilesystemencoding(),
    }
    other = [
        f"{what} {kind}"
        for what, kind in kinds.items()
        if kind.lower().replace("-", "").replace("_", "") != "utf8"
    ]
    if other:
        fix = "replies may not be printable: export LANG=C.UTF-8, or PYTHONUTF8=1"
        return Finding("warn", "encoding", f"{', '.join(other)}, not UTF-8; {fix}")
    return Finding("ok", "encoding", "UTF-8 for the screen, files and file names")
