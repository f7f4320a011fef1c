"""The DeepSpeed configuration: read strictly, then completed with what the run has decided.

A misspelt key in ds_config.json is an error that names it. DeepSpeed itself would pass over some in silence.
"""

import json
from pathlib import Path
from typing import Any

from trainer.ds_keys import check_keys
from utils.errors import UserError, existing_file, shown
from utils.files import unique_keys
from utils.precision import PRECISIONS, Precision

DEFAULT_PATH = Path(__file__).resolve().parent.parent / "ds_config.json"

_DECIDED_ELSEWHERE = {
    "train_batch_size": "--batch times the number of ranks",
    "train_micro_batch_size_per_gpu": "--batch",
    "gradient_clipping": "--grad_clip",
    "fp16": "model.load_bit",
    "bf16": "model.load_bit",
    "optimizer": "Adam with --lr",
    "scheduler": "--warmup_type",
    "seed": "--seed",
}
_LARGEST = 1 << 20  # bytes of a file
_PRECISION_SWITCHES = (
    ("torch_autocast", "enabled"),
    ("bf16", "bf16_master_weights_and_grads"),
    ("bf16", "bf16_optimizer_states"),
    ("fp16", "fp16_master_weights_and_grads"),
)


def read_ds_config(path: str | Path) -> dict[str, Any]:
    """The content of a ds_config.json.

    Raises:
        UserError: not JSON (with its line), a key given twice, or an unknown key with the nearest valid one.
    """
    path = existing_file(path, "DeepSpeed configuration", _LARGEST)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=unique_keys)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    except RecursionError:
        raise UserError(f"{path}: nested too deep for a DeepSpeed configuration") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object")
    check_content(path, content)
    return content


def check_content(path: str | Path, content: dict[str, Any]) -> None:
    """What can be said of a DeepSpeed configuration before anything else is known.

    Args:
        path: of the file that has it, for messages.
        content: the JSON object.

    Raises:
        UserError: an unknown key with the nearest valid one, or a value that none can have.
    """
    try:
        check_keys(content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    steps = content.get("gradient_accumulation_steps", 1)
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise UserError(
            f"{path}: gradient_accumulation_steps = {steps!r}: a whole number of at least 1 is needed"
        )
    printed = content.get("steps_per_print", 1)
    whole = isinstance(printed, int) and not isinstance(printed, bool) and printed >= 1
    if printed is not None and not whole:  # null: DeepSpeed prints nothing
        raise UserError(f"{path}: steps_per_print = {shown(printed)}: a whole number of at least 1 is needed")
    stage = zero_stage(content)
    if isinstance(stage, bool) or stage not in (0, 1, 2, 3):
        raise UserError(f"{path}: zero_optimization.stage = {stage!r}: 0, 1, 2 or 3 is needed")


def complete_ds_config(
    content: dict[str, Any],
    batch_size: int,
    grad_clip: float,
    precision: Precision,
    accumulation: int | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """What DeepSpeed is started with, and a line for each value that is not the file's.

    In float16 and bfloat16 stage 0 becomes stage 1, which gives the results of stages 2 and 3. DeepSpeed's own
    optimisers for stage 0 divide float16's gradients by a loss scale that the loss was never multiplied with, and
    let Adam take a step on gradients of zero at the start; nor can their float32 weights be read.

    Args:
        content: from `read_ds_config`.
        batch_size: examples per step and rank.
        grad_clip: largest gradient norm; 0 switches clipping off.
        precision: 32, 16 or "bf16", as decided for this device.
        accumulation: batches per optimiser step; None: the file's.

    Raises:
        UserError: a data type that the precision does not go with, or a key that decides the precision elsewhere.
    """
    _check_data_types(content.get("data_types", {}), precision)
    _check_switches(content)
    given = content.get("gradient_accumulation_steps", 1)
    completed = {key: value for key, value in content.items() if key not in _DECIDED_ELSEWHERE}
    completed |= {
        "train_micro_batch_size_per_gpu": batch_size,
        "gradient_accumulation_steps": given if accumulation is None else accumulation,
        "gradient_clipping": grad_clip,
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
    if given not in (1, completed["gradient_accumulation_steps"]):
        notes.append(
            f"gradient_accumulation_steps is {accumulation}, not the DeepSpeed configuration's {given}"
        )
    if precision != 32 and zero_stage(content) == 0:
        completed["zero_optimization"] = {**content.get("zero_optimization", {}), "stage": 1}
        notes.append(f"ZeRO stage 0 -> 1: DeepSpeed's stage 0 is not exact in {PRECISIONS[precision]}")
    return completed, notes


def zero_stage(content: dict[str, Any]) -> int:
    """The ZeRO stage of a DeepSpeed configuration, 0 to 3."""
    return content.get("zero_optimization", {}).get("stage", 0)


def _check_data_types(given: dict[str, Any], precision: Precision) -> None:
    """Only what gives the same results at every stage: gradients in float32 or in the model's own precision."""
    from deepspeed.runtime.config import DtypeEnum

    own = {32: "fp32", 16: "fp16", "bf16": "bf16"}[precision]
    valid = {
        "grad_accum_dtype": ("fp32", own),
        "param_dtype": (own,),
        "buffer_dtype": ("fp32", "fp16", "bf16"),
    }
    for key, names in valid.items():
        try:
            allowed = given.get(key) is None or DtypeEnum(given[key]).name in names
        except (ValueError, TypeError):  # a name that DeepSpeed does not know, or no name at all
            allowed = False
        if not allowed:
            raise UserError(
                f"data_types.{key} of the DeepSpeed configuration is {given[key]!r}; with model.load_bit "
                f"{precision} it can be {' or '.join(dict.fromkeys(names))}"
            )


def _check_switches(content: dict[str, Any]) -> None:
    """Refuse what changes the precision unseen by model.load_bit, and of the float32 values that are kept.

    torch_autocast in float16 has no loss scale at stages 1 to 3, where all updates are skipped in silence; Adam's
    own states in half precision round away what is learnt at a low learning rate.
    """
    for section, key in _PRECISION_SWITCHES:
        if content.get(section, {}).get(key):
            raise UserError(
                f"{section}.{key} of the DeepSpeed configuration is not supported: the precision is model.load_bit, "
                "and what is trained is kept in float32"
            )


def _replaced(given: Any, used: Any) -> bool:
    """Whether a value was changed; of a section such as fp16, whether a key that was given was."""
    if isinstance(given, dict) and isinstance(used, dict):
        return any(value != used[key] for key, value in given.items())
    return given != used
