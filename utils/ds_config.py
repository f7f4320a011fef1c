"""The DeepSpeed configuration: read strictly, then completed with what the run has decided.

A misspelt key in ds_config.json is an error that names it. DeepSpeed itself would pass over some in silence.
"""

import json
from pathlib import Path
from typing import Any

from utils.errors import UserError, existing_file, nearest
from utils.schema import Config

DEFAULT_PATH = Path(__file__).resolve().parent.parent / "ds_config.json"

# https://www.deepspeed.ai/docs/config-json/ ; the sections below it are checked by DeepSpeed's own classes
_TOP_LEVEL = frozenset(
    """train_batch_size train_micro_batch_size_per_gpu gradient_accumulation_steps optimizer scheduler
    communication_data_type prescale_gradients gradient_predivide_factor sparse_gradients fp16 bf16
    gradient_clipping zero_optimization zero_allow_untested_optimizer zero_force_ds_cpu_optimizer aio steps_per_print
    wall_clock_breakdown dump_state flops_profiler activation_checkpointing tensorboard wandb csv_monitor
    comms_logger data_types torch_autocast checkpoint seed disable_allgather memory_breakdown
    dataloader_drop_last seq_parallel_communication_data_type load_from_fp32_weights""".split()
)
_OTHER_NAMES = {"float16": "fp16", "bfloat16": "bf16"}  # too far in spelling for `nearest`
_DECIDED_ELSEWHERE = {
    "train_batch_size": "--batch times the number of ranks",
    "train_micro_batch_size_per_gpu": "--batch",
    "gradient_clipping": "--grad_clip",
    "fp16": "model.load_bit",
    "bf16": "model.load_bit",
    "optimizer": "Adam with --lr",
    "scheduler": "--warmup_type",
}


def read_ds_config(path: str | Path) -> dict[str, Any]:
    """The content of a ds_config.json.

    Raises:
        UserError: not JSON (with its line), a key given twice, or an unknown key with the nearest valid one.
    """
    path = existing_file(path, "DeepSpeed configuration")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_no_duplicates)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object")
    _check_keys(path, "", content, _TOP_LEVEL)
    for section, fields in _sections().items():
        if section in content:
            if not isinstance(content[section], dict):
                raise UserError(f"{path}: '{section}' must be a JSON object, found {content[section]!r}")
            _check_keys(path, f"{section}.", content[section], fields)
    steps = content.get("gradient_accumulation_steps", 1)
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise UserError(
            f"{path}: gradient_accumulation_steps = {steps!r}: a whole number of at least 1 is needed"
        )
    stage = content.get("zero_optimization", {}).get("stage", 0)
    if stage not in (0, 1, 2, 3):
        raise UserError(f"{path}: zero_optimization.stage = {stage!r}: 0, 1, 2 or 3 is needed")
    return content


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise ValueError(f"key '{twice}' is given twice")
    return dict(pairs)


def _check_keys(path: Path, section: str, content: dict[str, Any], valid: frozenset[str]) -> None:
    for key in content:
        if key not in valid:
            hint = nearest(_OTHER_NAMES.get(key, key), valid)
            raise UserError(f"{path}: unknown key '{section}{key}'{hint}")


def _sections() -> dict[str, frozenset[str]]:
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    classes = {
        "zero_optimization": DeepSpeedZeroConfig,
        "fp16": DeepSpeedFP16Config,
        "bf16": DeepSpeedBF16Config,
    }
    return {
        section: frozenset(
            name for key, field in kind.model_fields.items() for name in (key, field.alias) if name
        )
        for section, kind in classes.items()
    }


def complete_ds_config(
    content: dict[str, Any], config: Config, precision: Any
) -> tuple[dict[str, Any], list[str]]:
    """What DeepSpeed is started with, and a line for each value that the run's own settings replaced.

    Args:
        content: from `read_ds_config`.
        config: gives batch size and clipping.
        precision: 32, 16 or "bf16", as decided for this device.
    """
    accumulation = content.get("gradient_accumulation_steps", 1)
    completed = {key: value for key, value in content.items() if key not in _DECIDED_ELSEWHERE}
    completed |= {
        "train_micro_batch_size_per_gpu": config.training.batch_size,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": config.training.grad_clip,
        "fp16": {**content.get("fp16", {}), "enabled": precision == 16},
        "bf16": {**content.get("bf16", {}), "enabled": precision == "bf16"},
        # plain torch Adam is exact on every device, also where ZeRO offloads its states to the host
        "zero_force_ds_cpu_optimizer": content.get("zero_force_ds_cpu_optimizer", False),
        "steps_per_print": content.get("steps_per_print", 10**9),
    }
    notes = [
        f"{key} of the DeepSpeed configuration gives way to {source}"
        for key, source in _DECIDED_ELSEWHERE.items()
        if key in content and _replaced(content[key], completed.get(key))
    ]
    return completed, notes


def _replaced(given: Any, used: Any) -> bool:
    """Whether a value was changed; of a section such as fp16, whether a key that was given was."""
    if isinstance(given, dict) and isinstance(used, dict):
        return any(value != used[key] for key, value in given.items())
    return given != used
