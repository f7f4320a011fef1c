"""Memory of a training step: measured on small LMs, and what follows from it for large ones.

`python -m tests.benchmark.memory` prints the table of docs/speed.md. Per token and layer, a step's activations take a
number of bytes that is linear in the LM's width H and in the width F of its feed-forward part. Two differences between
measured steps give the two coefficients, and a third LM, which had no part in them, says how far the sum is off.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM

from models.configuration import build_config
from tests.benchmark.setting import SAMPLE, SIZES, Size, lm_config_of_size, lm_section, make_setting
from utils.errors import run_main

GIB = 2**30
_BF16 = 2  # bytes
# of each trained parameter: itself and its gradient in bf16; its float32 copy, that copy's gradient, Adam's two moments
BYTES_TRAINED = 2 * _BF16 + 4 * 4
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


@dataclass(frozen=True)
class Activations:
    """Bytes of a training step in bf16 on a Llama, beside what it holds between steps."""

    per_width: float
    """per token, layer and unit of H"""
    per_feed_forward: float
    """per token, layer and unit of F"""
    outside: float
    """per token and unit of H, outside the layers"""

    def of_layer(self, size: Size) -> float:
        """Per token and layer."""
        return self.per_width * size.width + self.per_feed_forward * (size.feed_forward or 4 * size.width)

    def total(self, size: Size, tokens: int) -> float:
        """Of a step with so many tokens in the LM at once."""
        return tokens * (size.layers * self.of_layer(size) + self.outside * size.width)


def small(width: int, feed_forward: int, layers: int) -> Size:
    """A Llama that is measured; its head is so small that the logits do not count."""
    return Size("llama", width, layers, width // 32, 600, 1, feed_forward)


def measured(size: Size, per_pass: int = 4) -> tuple[int, int]:
    """Peak bytes of a step on a small LM with four prompts, and the tokens that went through it at once."""
    args = argparse.Namespace(data=SAMPLE, share=0.05, device="cpu", size=None)
    setting = make_setting(args, "bf16", size)
    (batch,) = setting.batches("example", 2, 2)
    setting.model.prompts_per_pass = per_pass
    tokens = per_pass * batch.input_ids.shape[0] * (1 + batch.input_ids.shape[1])
    step = lambda: setting.model(batch).total.backward()  # noqa: E731
    step()  # gradients are there from now on
    return peak_bytes(step), tokens


def fit(measure: Callable[[Size], tuple[int, int]] = measured) -> tuple[Activations, float]:
    """The coefficients, and the error of the sum (a share of it) for an LM that they were not taken from."""

    def of_layer(width: int, feed_forward: int) -> float:
        (more, tokens), (less, _) = (measure(small(width, feed_forward, layers)) for layers in (6, 2))
        return (more - less) / 4 / tokens

    narrow, wide = of_layer(256, 512), of_layer(256, 1024)
    per_feed_forward = (wide - narrow) / 512
    per_width = (narrow - 512 * per_feed_forward) / 256
    peak, tokens = measure(small(256, 512, 2))
    outside = (peak / tokens - 2 * narrow) / 256
    found = Activations(per_width, per_feed_forward, outside)
    other = small(384, 1152, 8)
    peak, tokens = measure(other)
    return found, found.total(other, tokens) / peak - 1


def parameters(size: Size) -> int:
    """Of the LM."""
    data = {"dataset": {"train": str(SAMPLE)}}
    init = build_config([("size", lm_section(size)), ("data", data)]).model.init
    with torch.device("meta"):
        lm = AutoModelForCausalLM.from_config(lm_config_of_size(size, init, _Tokenizer()))
    return sum(parameter.numel() for parameter in lm.parameters())


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
    trained = prompts * size.virtual_tokens * size.width + size.width**2 + size.width
    chunk = 64 * 2**20  # of float32 logits, see models/linear_cross_entropy.py
    return {
        "weights": _BF16 * parameters(size),
        "trained part": BYTES_TRAINED * trained,
        "activations": activations.total(size, per_pass * rows * (size.virtual_tokens + length)),
        # hidden states of every token, as if all were targets, and their gradients; those of all prompts
        "targets": 4 * _BF16 * prompts * rows * length * size.width,
        # logits in float32 and in bf16, and their gradient in bf16
        "logits": 2 * chunk,
    }


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
    """Measure, and print the sums."""
    print("measuring six steps", file=sys.stderr)
    print(table(*fit()))


if __name__ == "__main__":
    run_main(main)
