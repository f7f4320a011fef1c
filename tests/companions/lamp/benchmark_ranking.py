"""Speed of dense ranking: a question at a time with the encoder loaded for each, and this project, in one run.

python -m tests.companions.lamp.benchmark_ranking --questions 100 --items 20
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer

from companions.lamp.json_stream import read_array
from companions.lamp.rankers import RankerOptions
from companions.lamp.rankings import rank_file, read_rankings
from companions.lamp.tasks import task_of
from tests.companions.lamp.conftest import ENCODER
from tests.companions.lamp.made_files import write_questions
from utils.distributed import DistributedContext
from utils.liveness import distributed_context


def baseline(path: Path, encoder: str, device: torch.device, batch_size: int = 16) -> dict[str, list[str]]:
    """A question at a time: load the encoder, embed the query and the documents in the order of the file, sort."""
    rankings = {}
    for question in read_array(path, "questions file"):
        tokenizer = AutoTokenizer.from_pretrained(encoder)
        model = AutoModel.from_pretrained(encoder).eval().to(device)

        def embed(texts: list[str], tokenizer: Any = tokenizer, model: Any = model) -> torch.Tensor:
            inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(device)
            hidden = model(**inputs).last_hidden_state
            mask = inputs["attention_mask"].unsqueeze(-1)
            return (hidden * mask).sum(dim=1) / mask.sum(dim=1)

        query = embed([question["input"].partition("review:")[2].strip()])[0]
        texts = [item["text"] for item in question["profile"]]
        parts = [embed(texts[start : start + batch_size]) for start in range(0, len(texts), batch_size)]
        order = (torch.cat(parts) @ query).argsort(descending=True)
        rankings[question["id"]] = [question["profile"][position]["id"] for position in order.tolist()]
    return rankings


def project(path: Path, encoder: str, distributed: DistributedContext) -> dict[str, list[str]]:
    """The file as `rank_profiles` ranks it."""
    ranking = path.with_name("ranking.json")
    options = RankerOptions(encoder=encoder, device=distributed.device)
    rank_file(path, ranking, task_of("LaMP-3"), "contriever", distributed, options)
    return dict(read_rankings(ranking))


def compare(args: argparse.Namespace, distributed: DistributedContext) -> dict[str, Any]:
    """Rank the same file both ways.

    Returns:
        Seconds of each, how many times as fast, and the share of questions that both rank in the same order.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = write_questions(
            Path(folder) / "questions.json", args.questions, args.items, args.words, args.per_user
        )
        project(path, args.encoder, distributed)  # what happens once in a process is part of neither
        expected, before = _timed(lambda: baseline(path, args.encoder, distributed.device))
        found, after = _timed(lambda: project(path, args.encoder, distributed))
    equal = sum(found[question] == order for question, order in expected.items())
    return {
        "questions": args.questions,
        "items": args.items,
        "baseline_seconds": round(before, 2),
        "project_seconds": round(after, 2),
        "times": round(before / after, 1),
        "equal_orders": equal / len(expected),
    }


def _timed(work: Callable[[], dict[str, list[str]]]) -> tuple[dict[str, list[str]], float]:
    start = time.perf_counter()
    rankings = work()
    return rankings, time.perf_counter() - start


def main() -> None:
    """Compare and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--items", type=int, default=20, help="of each profile")
    parser.add_argument("--words", type=int, default=20, help="of each item, on average")
    parser.add_argument("--per_user", type=int, default=4, help="questions with the same profile")
    parser.add_argument("--encoder", default=str(ENCODER), help="name or folder")
    args = parser.parse_args()
    with distributed_context() as distributed:
        print(json.dumps(compare(args, distributed)))


if __name__ == "__main__":
    main()
