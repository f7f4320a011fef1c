"""One way of computing, timed in a process of its own, so that its peak memory is its own."""

import argparse
import re
import resource
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dataset.batch import Batch
from models.decoding.decode import decoding_batches
from models.decoding.generation import StopAtMarks, generate_replies
from models.decoding.settings import DecodingSettings
from models.reading import make_collator
from models.spt.soft_prompts import prepend_each
from tests.benchmark import baseline
from tests.benchmark.setting import PADDED, Setting, make_setting

WAYS = {
    "train baseline": ("example", 32),
    "train rows: example": ("example", 32),
    "train rows: dialogue": ("dialogue", 32),
    "train rows: dialogue, bf16": ("dialogue", "bf16"),
    "decode baseline": ("example", 32),
    "decode, batch of 16": ("example", 32),
    "decode, batch of 32": ("example", 32),
    "decode, batch of 64": ("example", 32),
    "decode, batch of 64, bf16": ("example", "bf16"),
}


def measure(way: str, args: argparse.Namespace) -> dict[str, Any]:
    """Figures of one way: examples_per_second, peak_gib, matrix_share, and what it computed."""
    rows, precision = WAYS[way]
    if args.precision != 32 and precision == 32:
        precision = args.precision
    setting = make_setting(args, precision)
    if way.startswith("decode"):
        row = _decode(setting, way, _batch_size(way), args)
    else:
        row = _train(setting, way, rows, args)
    return {"way": way, "precision": str(precision), **row, "peak_gib": _peak(setting.device)}


def _batch_size(way: str) -> int:
    """Examples per batch of a way of decoding, which its name holds; 16 for the baseline."""
    found = re.search(r"batch of (\d+)", way)
    return int(found[1]) if found else 16


def _train(setting: Setting, way: str, rows: str, args: argparse.Namespace) -> dict[str, Any]:
    model = setting.model
    is_baseline = "baseline" in way
    batch_size, limit = args.batch, args.examples
    if rows == "example":
        batch_size, limit = (
            args.example_batch,
            args.baseline_examples if is_baseline else args.example_examples,
        )
    batches = setting.batches(rows, batch_size, limit)

    def step(batch: Batch) -> Any:
        if is_baseline:
            total, parts = baseline.step_losses(model, batch, PADDED)
        else:
            output = model(batch)
            total, parts = output.total, output.losses
        total.backward()
        model.zero_grad(set_to_none=True)
        return parts

    step(batches[0])  # warm up
    seconds = _seconds(lambda: [step(batch) for batch in batches], setting.device)
    examples = sum(batch.num_examples for batch in batches)
    tokens = sum(batch.input_ids.numel() for batch in batches)
    checked = setting.batches("example", 2, 2)[0]
    losses = {name: value.item() for name, value in step(checked).items()}
    row = {
        "examples_per_second": examples / seconds,
        "tokens_per_example": PADDED if is_baseline else tokens / examples,
        "losses": losses,
    }
    return row if is_baseline else row | _matrix_share(setting, batches)


def _matrix_share(setting: Setting, batches: list[Batch]) -> dict[str, float]:
    """Share of the machine's own matrix rate that the LM's forward and backward passes reach."""
    model = setting.model
    flops = seconds = 0.0
    for batch in batches[:3]:
        texts = model.lm.embed(batch.input_ids)
        embeddings = prepend_each(model.soft_prompts.weight, texts).detach().requires_grad_()

        def passes(embeddings: Tensor = embeddings) -> None:
            hidden = model.lm.hidden(embeddings)
            hidden.backward(torch.ones_like(hidden))

        with FlopCounterMode(display=False) as counter:
            passes()
        flops += counter.get_total_flops()
        seconds += _seconds(passes, setting.device)
    rate = matrix_rate(setting.device, model.lm.head_weight.dtype)
    return {
        "lm_gflop_per_second": flops / seconds / 1e9,
        "matrix_gflop_per_second": rate / 1e9,
        "matrix_share": flops / seconds / rate,
    }


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP per second of a large matrix product: the best of several."""
    size = 8192 if device.type == "cuda" else 2048
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    left @ right
    return 2 * size**3 / min(_seconds(lambda: left @ right, device) for _ in range(10))


def _decode(setting: Setting, way: str, batch_size: int, args: argparse.Namespace) -> dict[str, Any]:
    model = setting.model.eval()
    collator = make_collator(setting.encoder, setting.config, decoding=True)
    is_baseline = "baseline" in way
    texts = setting.inference[: args.baseline_decoded if is_baseline else args.decoded]
    settings, stopping = DecodingSettings(), [StopAtMarks(setting.model)]
    # every dialogue chooses all prompts, another one every other turn
    choices = torch.arange(len(texts)) // 2 % model.num_prompts
    in_order = [
        list(range(len(texts)))[start : start + batch_size] for start in range(0, len(texts), batch_size)
    ]
    batches = in_order if is_baseline else decoding_batches(texts, batch_size, collator.reads_padding)

    def run() -> None:
        for numbers in batches:
            batch = collator.inference([texts[number] for number in numbers]).to(setting.device)
            choice = choices[numbers].to(setting.device)
            if is_baseline:
                baseline.decode(model, batch, choice, settings.max_new_tokens)
            else:
                generate_replies(model, batch, model.score_prompts(batch.query), choice, settings, stopping)

    return {"examples_per_second": len(texts) / _seconds(run, setting.device)}


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _peak(device: torch.device) -> float:
    """GiB: of the device where there is one, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
