"""Memory of a training step: measured on small LMs, and what follows from it for large ones.

`python -m tests.benchmark.memory` prints the table of docs/speed.md. Per token and layer, a step's activations take a
number of bytes that is linear in the LM's width H and in the width F of its feed-forward part. Two differences between
measured steps give the two coefficients, and a third LM, which had no part in them, says how far the sum is off.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

from torch.profiler import ProfilerActivity, profile

from models.configuration import build_config
from models.cost import Activations, LMSizes, StepSizes, sizes_of, step_bytes
from tests.benchmark.setting import SAMPLE, SIZES, Size, lm_config_of_size, lm_section, make_setting
from utils.errors import run_main
from utils.precision import Precision

GIB = 2**30
DEVICE_GIB = 80e9 / GIB


def peak_bytes(work: Callable[[], Any]) -> int:
    """The most bytes that tensors on the CPU take during `work`, beyond what is there before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    taken = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        taken += event.nbytes()
        peak = max(peak, taken)
    return peak


def small(width: int, feed_forward: int, layers: int, kind: str = "llama") -> Size:
    """An LM that is measured; its head is so small that the logits do not count."""
    return Size(kind, width, layers, width // 32, 600, 1, feed_forward)


def measured(
    size: Size, per_pass: int = 4, precision: Precision = "bf16", trained: bool = False
) -> tuple[int, int]:
    """Peak bytes of a step on a small LM with four prompts, and the tokens that went through it at once.

    Args:
        size: the LM.
        per_pass: `model.prompts_per_pass`.
        precision: of the LM.
        trained: whether the LM is trained too.
    """
    args = argparse.Namespace(data=SAMPLE, share=0.05, device="cpu", size=None)
    setting = make_setting(args, precision, size)
    (batch,) = setting.batches("example", 2, 2)
    setting.model.prompts_per_pass = per_pass
    setting.model.lm.requires_grad_(trained)
    tokens = per_pass * batch.input_ids.shape[0] * (1 + batch.input_ids.shape[1])
    step = lambda: setting.model(batch).total.backward()  # noqa: E731
    step()  # gradients are there from now on
    return peak_bytes(step), tokens


def fit(
    measure: Callable[[Size], tuple[int, int]] = measured, kind: str = "llama"
) -> tuple[Activations, float]:
    """The coefficients, and the error of the sum (a share of it) for an LM that they were not taken from."""

    def of_layer(width: int, feed_forward: int) -> float:
        (more, tokens), (less, _) = (measure(small(width, feed_forward, layers, kind)) for layers in (6, 2))
        return (more - less) / 4 / tokens

    narrow, wide = of_layer(256, 512), of_layer(256, 1024)
    per_feed_forward = (wide - narrow) / 512
    per_width = (narrow - 512 * per_feed_forward) / 256
    peak, tokens = measure(small(256, 512, 2, kind))
    outside = (peak / tokens - 2 * narrow) / 256
    found = Activations(per_width, per_feed_forward, outside)
    other = small(384, 1152, 8, kind)
    peak, tokens = measure(other)
    return found, found.total(sizes(other), tokens) / peak - 1


def sizes(size: Size, precision: Precision = "bf16") -> LMSizes:
    """What the sums need to know of an LM."""
    data = {"dataset": {"train": str(SAMPLE)}}
    init = build_config([("size", lm_section(size)), ("data", data)]).model.init
    return sizes_of(lm_config_of_size(size, init, _Tokenizer()), precision)


class _Tokenizer:
    """What the configuration of an LM asks of one."""

    pad_token_id, bos_token_id, eos_token_id = range(3)

    def __len__(self) -> int:
        return 1000


def parts(
    size: Size, activations: Activations, prompts: int, per_pass: int, rows: int, length: int
) -> dict[str, float]:
    """Bytes of a training step in bf16 by what they are of; one process, ZeRO stage 1 or 2.

    Args:
        size: the LM.
        activations: from `fit`.
        prompts: K.
        per_pass: `model.prompts_per_pass`.
        rows: texts of a batch.
        length: tokens of a text.
    """
    lm = sizes(size)
    trained = prompts * size.virtual_tokens * size.width + size.width**2 + size.width
    # hidden states of every token, as if all were targets
    step = StepSizes(rows * (size.virtual_tokens + length), rows * length, prompts, per_pass)
    return step_bytes(lm, activations, step, trained, lm.parameters)


def table(activations: Activations, error: float) -> str:
    """The sums of the large LMs, in Markdown."""
    lines = [
        f"bytes per token and layer: {activations.per_width:.1f} H + {activations.per_feed_forward:.1f} F; outside the "
        f"layers {activations.outside:.1f} H per token; off by {100 * error:+.1f} % for an LM that was not used",
        "",
        "| LM | prompts_per_pass | weights | trained part | activations | targets | logits | sum, GiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in ("llama2-7b", "llama2-13b"):
        for per_pass in (4, 2, 1):
            found = parts(SIZES[name], activations, prompts=4, per_pass=per_pass, rows=2, length=512)
            cells = " | ".join(f"{value / GIB:.1f}" for value in found.values())
            lines.append(f"| {name} | {per_pass} | {cells} | {sum(found.values()) / GIB:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the sums; the coefficients of other kinds and precisions stand in models/cost.py."""
    print("measuring six steps of each of eight ways", file=sys.stderr)
    print(table(*fit()))
    for kind, precision, trained in product(("llama", "opt"), ("bf16", 32), (False, True)):
        found, error = fit(partial(measured, precision=precision, trained=trained), kind)
        print(
            f"{kind}, {precision}, {'trained' if trained else 'frozen'}: {found}, off by {100 * error:+.1f} %"
        )


if __name__ == "__main__":
    run_main(main)
