"""Training one example at a time beside real batches: `python -m tests.companions.personagpt.benchmark --data FILE`.

All ways train on the same examples, update by update of up to 64, with backward pass and AdamW; they take turns,
and the best of all rounds counts: processor time on a CPU, where other programs do not count in it, else time. The
learning rate is 0, so that the mean loss, which is printed, must agree.
"""

import argparse
import itertools
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache

from companions.personagpt import register_personagpt
from companions.personagpt.model import PersonaGPT, build_personagpt
from companions.personagpt.prepared import read_persona_examples
from companions.personagpt.prompts import PersonaEncoder
from companions.personagpt.settings import PersonaConfig
from companions.personagpt.tokens import make_tokenizer
from dataset.batch import Collator
from dataset.encoding import EncodedExample
from dataset.loading import make_batches
from models.configuration import build_config
from models.lm.base_lm import lm_config_of, train_tokenizer
from utils.errors import existing_file, run_main

SIZES = {
    "base": {"hidden_size": 256, "num_layers": 6, "num_heads": 8, "vocab_size": 8192},
    "medium": {"hidden_size": 1024, "num_layers": 24, "num_heads": 16, "vocab_size": 8192},
}
UPDATE = 64

Way = Callable[[PersonaGPT, Sequence[EncodedExample]], Iterator[tuple[Tensor, int]]]
"""(model, examples) -> losses to go back from, each with the number of its examples"""


def cached(model: PersonaGPT, examples: Sequence[EncodedExample]) -> Iterator[tuple[Tensor, int]]:
    """One at a time: the prompt, then the answer after the prompt's keys and values."""
    lm = model.lm.model
    for example in examples:
        ids = torch.tensor(example.ids[None].astype("int64"), device=lm.device)
        prompt, answer = ids[:, : example.query_end], ids[:, example.query_end :]
        read = lm(prompt, past_key_values=DynamicCache(), use_cache=True, logits_to_keep=1)
        after = lm(answer[:, :-1], past_key_values=read.past_key_values, use_cache=True).logits
        logits = torch.cat([read.logits, after], dim=1)[0].float()
        yield torch.nn.functional.cross_entropy(logits, answer[0]), 1


def single(model: PersonaGPT, examples: Sequence[EncodedExample]) -> Iterator[tuple[Tensor, int]]:
    """One at a time, prompt and answer in one pass; all logits, as a library's own loss takes them."""
    lm = model.lm.model
    for example in examples:
        ids = torch.tensor(example.ids[None].astype("int64"), device=lm.device)
        labels = ids.clone()
        labels[:, : example.query_end] = -100
        yield lm(ids, labels=labels, use_cache=False).loss, 1


def batched(rows: str) -> Way:
    """This project's batches, as its sampler makes them."""

    def way(model: PersonaGPT, examples: Sequence[EncodedExample]) -> Iterator[tuple[Tensor, int]]:
        training = model.config.training.model_copy(update={"rows": rows, "batch_size": UPDATE})
        pad = int(model.tokenizer.pad_token_id)
        collate = Collator(pad, share_rows=rows == "dialogue").train
        for batch in make_batches(examples, collate, training, train=True):
            yield model(batch.to(model.lm.model.device)).total, batch.num_examples

    return way


WAYS: dict[str, Way] = {
    "one at a time, prompt then answer": cached,
    "one at a time, one pass": single,
    "batches, rows: example": batched("example"),
    "batches, rows: dialogue": batched("dialogue"),
}


def main() -> None:
    """Measure and print a table."""
    args = _arguments()
    model, config = _model(args)
    model.to(args.device).train()
    limit = model.text_limit(0)
    examples = read_persona_examples(str(args.data), config)
    chosen = {example.dialogue for example in examples}
    kept = set(itertools.islice(sorted(chosen), 2 * args.dialogues))
    examples = [example for example in examples if example.dialogue in kept]
    encoded = PersonaEncoder(model.tokenizer, config, limit).encode(examples, with_response=True)
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    losses = {}
    for _ in range(args.rounds):
        for name, way in WAYS.items():
            took, losses[name] = _train(model, way, encoded, args.device)
            seconds[name].append(took)
    machine = (
        torch.cuda.get_device_name()
        if args.device == "cuda"
        else f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    )
    print(
        f"{args.size}, {len(encoded)} examples of {args.dialogues} dialogues, {machine}, best of {args.rounds}"
    )
    baseline = min(seconds["one at a time, prompt then answer"])
    for name, taken in seconds.items():
        best = min(taken)
        print(
            f"{name:36} {len(encoded) / best:8.1f} examples/s  {baseline / best:6.1f} times  "
            f"(rounds {' '.join(f'{item:.1f}' for item in taken)} s)  loss {losses[name]:.4f}"
        )


def _train(
    model: PersonaGPT, way: Way, examples: Sequence[EncodedExample], device: str
) -> tuple[float, float]:
    """Seconds of one pass, and the mean loss of its examples."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    total, done, since = 0.0, 0, 0
    clock = time.process_time if device == "cpu" else time.perf_counter
    started = clock()
    for loss, count in way(model, examples):
        (loss * count / UPDATE).backward()
        total, done, since = total + loss.detach().item() * count, done + count, since + count
        if since >= UPDATE or count > 1 or done == len(examples):
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            since = 0
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - started, total / done


def _model(args: argparse.Namespace) -> tuple[PersonaGPT, PersonaConfig]:
    """A GPT-2 with random weights, and a tokenizer trained on the data."""
    register_personagpt()
    init: dict[str, Any] = {"architecture": "gpt2", "max_positions": 1024, **SIZES[args.size]}
    data = {"train": str(args.data), "valid": str(args.data)}
    new = build_config(
        [("benchmark", {"model": {"model_type": "language_model", "init": init}, "dataset": data})]
    )
    tokenizer = train_tokenizer(new)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        AutoModelForCausalLM.from_config(lm_config_of(new.model.init, tokenizer)).save_pretrained(folder)  # type: ignore[attr-defined]
        tokenizer.save_pretrained(folder)
        config = build_config(
            [("benchmark", {"model": {"model_type": "personagpt", "model_name": folder}, "dataset": data})]
        )
        assert isinstance(config, PersonaConfig)
        return build_personagpt(config, make_tokenizer(config.model)), config


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a ConvAI2 file with both personas")
    parser.add_argument("--dialogues", type=int, default=12, help="dialogues that are trained on")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way")
    parser.add_argument("--size", choices=SIZES, default="base", help="size of the LM; random weights")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    existing_file(args.data, "dialogue file")
    return args


if __name__ == "__main__":
    run_main(main)
