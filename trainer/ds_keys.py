"""Which keys DeepSpeed knows in each section of its configuration, from its own classes and constants.

DeepSpeed passes over an unknown key in some sections in silence, and refuses it in others only when the model is
loaded. Its table of sections (https://www.deepspeed.ai/docs/config-json/) is checked here before any work.
"""

import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from utils.errors import UserError, nearest, shown

# the keys of the top level that DeepSpeed's engine reads; it has no list of them
_TOP_LEVEL = frozenset(
    """train_batch_size train_micro_batch_size_per_gpu gradient_accumulation_steps optimizer scheduler
    communication_data_type prescale_gradients gradient_predivide_factor fp16 bf16
    gradient_clipping zero_optimization zero_allow_untested_optimizer zero_force_ds_cpu_optimizer aio steps_per_print
    wall_clock_breakdown dump_state flops_profiler activation_checkpointing tensorboard wandb csv_monitor
    comms_logger data_types torch_autocast checkpoint seed disable_allgather memory_breakdown
    dataloader_drop_last seq_parallel_communication_data_type""".split()
)
_OTHER_NAMES = {"float16": "fp16", "bfloat16": "bf16"}  # too far in spelling for `nearest`

# the keys of a section, and of each section inside it; a key whose value is not checked further has None
Keys = dict[str, "Keys | None"]


def check_keys(content: dict[str, Any]) -> None:
    """Compare every key of a DeepSpeed configuration, however deep, with those that DeepSpeed knows.

    Raises:
        UserError: an unknown key, with its path and the nearest valid one; or a section that is no JSON object.
    """
    _check("", content, dict.fromkeys(_TOP_LEVEL) | _sections())


def _check(path: str, content: dict[str, Any], valid: Keys) -> None:
    for key, value in content.items():
        if key not in valid:
            hint = nearest(_OTHER_NAMES.get(key, key), valid)
            raise UserError(f"unknown key {shown(path + key)}{hint}")
        inside = valid[key]
        if inside is None or (path and value is None):  # DeepSpeed's word for a section that is not used
            continue
        if not isinstance(value, dict):
            raise UserError(f"'{path}{key}' must be a JSON object, found {shown(value)}")
        _check(f"{path}{key}.", value, inside)


def _sections() -> Keys:
    # seconds of import, for the commands that need it
    from deepspeed.comm.config import CommsLoggerConfig
    from deepspeed.monitor.config import CSVConfig, TensorBoardConfig, WandbConfig
    from deepspeed.profiling.config import DeepSpeedFlopsProfilerConfig
    from deepspeed.runtime import constants
    from deepspeed.runtime.activation_checkpointing.config import ACT_CHKPT_DEFAULT
    from deepspeed.runtime.model_checkpointing import constants as writing
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
    from deepspeed.runtime.swap_tensor.aio_config import AIO_DEFAULT_DICT
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    return {
        "zero_optimization": _keys_of_class(DeepSpeedZeroConfig),
        "fp16": _keys_of_class(DeepSpeedFP16Config),
        "bf16": _keys_of_class(DeepSpeedBF16Config),
        "comms_logger": _keys_of_class(CommsLoggerConfig),
        "tensorboard": _keys_of_class(TensorBoardConfig),
        "wandb": _keys_of_class(WandbConfig),
        "csv_monitor": _keys_of_class(CSVConfig),
        "flops_profiler": _plain(vars(DeepSpeedFlopsProfilerConfig({}))),
        "activation_checkpointing": _plain(ACT_CHKPT_DEFAULT),
        "aio": _plain(AIO_DEFAULT_DICT),
        "optimizer": _plain([constants.TYPE, constants.OPTIMIZER_PARAMS, constants.LEGACY_FUSION]),
        "scheduler": _plain([constants.TYPE, constants.SCHEDULER_PARAMS]),
        "data_types": _plain(
            [
                constants.GRAD_ACCUM_DTYPE,
                constants.PARAM_DTYPE,
                constants.BUFFER_DTYPE,
                constants.KEEP_IN_FP32_MODULES,
            ]
        ),
        "torch_autocast": _plain(
            [
                constants.TORCH_AUTOCAST_ENABLED,
                constants.TORCH_AUTOCAST_DTYPE,
                constants.TORCH_AUTOCAST_LOWER_PRECISION_SAFE_MODULES,
            ]
        ),
        "checkpoint": _plain(
            [
                constants.LOAD_UNIVERSAL_CHECKPOINT,
                constants.USE_NODE_LOCAL_STORAGE_CHECKPOINT,
                writing.CHECKPOINT_TAG_VALIDATION,
                writing.CHECKPOINT_SERIALIZATION,
            ]
        )
        | {
            constants.CHECKPOINT_PARALLEL_WRITE: _plain([constants.CHECKPOINT_PARALLEL_WRITE_PIPELINE_STAGE]),
            writing.CHECKPOINT_WRITER: _plain(
                [
                    writing.CHECKPOINT_WRITER_TYPE,
                    writing.CHECKPOINT_WRITER_DECOUPLED,
                    writing.CHECKPOINT_IO_BUFFER_SIZE,
                    writing.CHECKPOINT_IO_BUFFER_DOUBLE,
                    writing.CHECKPOINT_IO_STATISTICS,
                    writing.CHECKPOINT_DATA_PARALLEL,
                    writing.CHECKPOINT_IO_MULTIPLIER,
                ]
            ),
        },
    }


def _plain(keys: list[str] | Mapping[str, Any]) -> Keys:
    return dict.fromkeys(keys)


def _keys_of_class(kind: type[BaseModel]) -> Keys:
    """The fields of a pydantic class by name and alias; a field that is a class itself opens a section."""
    keys: Keys = {}
    for name, field in kind.model_fields.items():
        # Optional[X] has X among its choices
        choices = (field.annotation, *typing.get_args(field.annotation))
        section = next(
            (choice for choice in choices if isinstance(choice, type) and issubclass(choice, BaseModel)), None
        )
        for spelling in filter(None, (name, field.alias)):
            keys[spelling] = _keys_of_class(section) if section else None
    return keys
