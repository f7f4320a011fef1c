"""How the cost of a training step grows with ranks, prompts and the length of texts: figures as JSON, and a picture.

python -m tests.benchmark.scaling: one rank, then two, each with one thread; a small OPT with random weights and
texts of drawn tokens, whole steps of DeepSpeed's engine. On a CPU the cost is processor time, in which other programs
do not count; on a GPU it is time.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase, set_seed

from dataset.batch import Batch, Collator
from dataset.encoding import EncodedExample
from dataset.similarity import BleuPairs
from models.configuration import build_config
from models.lm.base_lm import lm_config_of, train_tokenizer
from models.lm.language_model import LanguageModel
from models.spt.model import SelectivePromptTuning
from tests.benchmark.picture import draw
from tests.benchmark.setting import SAMPLE
from tests.helpers import launch
from trainer.ds_config import complete_ds_config
from trainer.engine import end_engine, make_engine
from utils.distributed import DistributedContext, end_distributed, start_distributed
from utils.errors import run_main

PROMPTS = (1, 2, 4, 8)
TOKENS = (128, 256, 512, 1024, 2048)
USUAL = {"prompts": 2, "tokens": 256}
"""what the others are while one changes"""
POINTS = [USUAL | {"prompts": prompts} for prompts in PROMPTS] + [
    USUAL | {"tokens": count} for count in TOKENS
]
RESPONSE = 16  # target tokens of each text
BATCH, STEPS = 2, 3
SIZE = {"architecture": "opt", "hidden_size": 768, "num_layers": 2, "num_heads": 12, "vocab_size": 2000}


def measure(
    distributed: DistributedContext, points: list[dict[str, int]], size: dict[str, Any]
) -> list[dict[str, Any]]:
    """A row for each point: its `prompts` and `tokens`, `ranks`, and the cost of an example in `seconds` of a rank."""
    longest = max(point["tokens"] for point in points)
    lm_settings = build_config(
        [
            (
                "scaling",
                {
                    "model": {"model_type": "language_model", "init": {**size, "max_positions": longest + 8}},
                    "dataset": {"train": str(SAMPLE)},
                },
            )
        ]
    )
    tokenizer = train_tokenizer(lm_settings)
    set_seed(0)
    lm = AutoModelForCausalLM.from_config(lm_config_of(lm_settings.model.init, tokenizer))
    return [
        {"ranks": distributed.size, **point, "seconds": _seconds(distributed, lm, tokenizer, **point)}
        for point in points
    ]


def _seconds(
    distributed: DistributedContext, lm: Any, tokenizer: PreTrainedTokenizerBase, prompts: int, tokens: int
) -> float:
    config = build_config(
        [
            (
                "scaling",
                {
                    "model": {
                        "model_name": "random weights",
                        "K": prompts,
                        "peft_config": {"num_virtual_tokens": 8},
                    },
                    "training": {"batch_size": BATCH},
                },
            )
        ]
    )
    module = SelectivePromptTuning(LanguageModel(lm), tokenizer, config).to(distributed.device)
    ds_config, _ = complete_ds_config({}, BATCH, config.training.grad_clip, 32)
    engine = make_engine(module, config.training, ds_config, STEPS + 1)
    batch = _batch(tokenizer, tokens, distributed.rank).to(distributed.device)
    costs = []
    for _ in range(STEPS + 1):
        distributed.barrier()
        start = _clock(distributed.device)
        engine.backward(engine(batch, 0.0).total)
        engine.step()
        costs.append(max(distributed.gather(_clock(distributed.device) - start)))
    end_engine(engine)
    return min(costs[1:]) / BATCH  # the first step warms up


def _batch(tokenizer: PreTrainedTokenizerBase, tokens: int, rank: int) -> Batch:
    drawn = np.random.default_rng(rank)
    examples = [
        EncodedExample(
            ids=drawn.integers(5, len(tokenizer), tokens + 1).astype(
                np.int32
            ),  # the last one is only predicted
            query_end=tokens - RESPONSE,
            targets=((tokens + 1 - RESPONSE, tokens + 1),),
            persona=f"i have {number} dogs .",
            dialogue=number,
            index=number,
        )
        for number in range(BATCH)
    ]
    return Collator(tokenizer.pad_token_id, pair_labels=BleuPairs(20.0)).train(examples)


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def exponent(rows: list[dict[str, Any]], key: str) -> float:
    """e of the law cost ~ key ** e that fits best, by least squares of logarithms; 1 is linear growth."""
    values, seconds = ([row[name] for row in rows] for name in (key, "seconds"))
    return float(np.polyfit(np.log(values), np.log(seconds), 1)[0])


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Exponents for prompts and tokens by number of ranks, and of the examples per second for ranks."""
    by_ranks = {
        ranks: [row for row in rows if row["ranks"] == ranks]
        for ranks in sorted({row["ranks"] for row in rows})
    }
    found: dict[str, Any] = {}
    for key, other in (("prompts", "tokens"), ("tokens", "prompts")):
        found[key] = {
            ranks: exponent([row for row in own if row[other] == USUAL[other]], key)
            for ranks, own in by_ranks.items()
        }
    rates = [
        {
            "ranks": row["ranks"],
            "prompts": row["prompts"],
            "tokens": row["tokens"],
            "seconds": row["ranks"] / row["seconds"],
        }
        for row in rows
    ]
    found["ranks"] = exponent(rates, "ranks") if len(by_ranks) > 1 else None
    return found


def main() -> None:
    """Measure with one rank and with two, say the exponents, write the figures and draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs_bench/scaling.json"), help="figures as JSON")
    parser.add_argument("--picture", type=Path, default=Path("runs_bench/scaling.svg"), help="SVG or PNG")
    parser.add_argument("--local_rank", type=int, default=-1, help=argparse.SUPPRESS)  # the launcher's
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        _work(args.worker, args.local_rank)
        return
    rows = []
    for ranks in (1, 2):
        print(f"measuring: {ranks} rank(s)", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "rows.json"
            done = launch(
                "deepspeed", f"--num_gpus={ranks}", "--module", "tests.benchmark.scaling", f"--worker={out}"
            )
            if done.returncode:
                raise RuntimeError(done.stdout + done.stderr)
            rows += json.loads(out.read_text(encoding="utf-8"))
    exponents = summary(rows)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"exponents": exponents, "rows": rows}, indent=2) + "\n", encoding="utf-8")
    draw(rows, exponents, USUAL, args.picture)
    print(json.dumps(exponents))
    print(f"written: {args.out}, {args.picture}")


def _work(out: Path, local_rank: int) -> None:
    torch.set_num_threads(1)
    distributed = start_distributed(local_rank)
    rows = measure(distributed, POINTS, SIZE)
    if distributed.is_main:
        out.write_text(json.dumps(rows), encoding="utf-8")
    end_distributed()


if __name__ == "__main__":
    run_main(main)
