"""Speed of dense ranking: a question at a time with the encoder loaded for each, and this project, in one run.

    python -m tests.companions.lamp.benchmark_ranking --questions 100 --items 20 --threads 1
    deepspeed --num_gpus=2 --module tests.companions.lamp.benchmark_ranking --threads 2

Both ways have the same threads; several processes divide them for the project, while the baseline runs in the first.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from companions.lamp.json_stream import read_array
from companions.lamp.rankers import RankerOptions
from companions.lamp.rankings import rank_file, read_rankings
from companions.lamp.tasks import task_of
from tests.companions.lamp.conftest import ENCODER
from tests.companions.lamp.made_files import write_questions
from utils.distributed import DistributedContext
from utils.liveness import distributed_context

TOLERANCE = 1e-5
"""of a score, as a share of the question's largest: what sums in another order differ by"""

Scores = dict[str, dict[str, float]]


def baseline(path: Path, encoder: str, device: torch.device, batch_size: int = 16) -> Scores:
    """A question at a time: load the encoder, embed the query and the documents in the order of the file, sort.

    Returns:
        By question, the items with their scores, best first.
    """
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
        scores = (torch.cat(parts) @ query).detach()
        order = scores.argsort(descending=True).tolist()
        rankings[question["id"]] = {question["profile"][place]["id"]: float(scores[place]) for place in order}
    return rankings


def project(path: Path, encoder: str, distributed: DistributedContext) -> dict[str, list[str]]:
    """The file as `rank_profiles` ranks it."""
    ranking = path.with_name("ranking.json")
    options = RankerOptions(encoder=encoder, device=distributed.device)
    rank_file(path, ranking, task_of("LaMP-3"), "contriever", distributed, options)
    return dict(read_rankings(ranking))


def agrees(order: list[str], scores: dict[str, float]) -> bool:
    """Whether an order is that of the scores, but among those that rounding makes equal."""
    ranked = [scores[item] for item in order]
    slack = TOLERANCE * max(map(abs, ranked), default=0.0)
    return set(order) == set(scores) and all(
        left >= right - slack for left, right in zip(ranked, ranked[1:], strict=False)
    )


def compare(args: argparse.Namespace, distributed: DistributedContext) -> dict[str, Any]:
    """Rank the same file both ways, each `args.runs` times in turn, of which the fastest counts.

    Returns:
        Seconds of each by the clock and of processor time, over all threads and processes; how many times as fast;
        and the share of questions that both rank in the same order, see `agrees`.
    """
    with tempfile.TemporaryDirectory() as folder:
        # all processes read and write in the first one's folder
        path = Path(distributed.share(folder)) / "questions.json"
        encoder = distributed.share(base_sized(Path(folder) / "encoder") if args.base else args.encoder)
        if distributed.is_main and args.input:
            path.write_bytes(Path(args.input).read_bytes())
        elif distributed.is_main:
            write_questions(path, args.questions, args.items, args.words, args.per_user, args.spread)
        distributed.barrier()
        seconds: dict[str, list[tuple[float, float]]] = {"baseline": [], "project": []}
        project(path, encoder, distributed)  # what happens once in a process is part of neither
        for _ in range(args.runs):
            if distributed.is_main:
                torch.set_num_threads(args.threads)
                expected, taken = _timed(lambda: baseline(path, encoder, distributed.device))
                seconds["baseline"].append(taken)
            torch.set_num_threads(max(1, args.threads // distributed.size))
            distributed.barrier()
            found, (wall, cpu) = _timed(lambda: project(path, encoder, distributed))
            seconds["project"].append((wall, sum(distributed.gather(cpu))))
        distributed.barrier()  # nobody removes what another one reads
    if not distributed.is_main:
        return {}
    figures = {"threads": args.threads, "processes": distributed.size, "questions": len(expected)}
    for place, kind in enumerate(("wall", "cpu")):
        before, after = (min(taken[place] for taken in seconds[way]) for way in ("baseline", "project"))
        figures |= {f"baseline_{kind}": round(before, 2), f"project_{kind}": round(after, 2)}
        figures[f"times_{kind}"] = round(before / after, 1)
    figures["equal_orders"] = sum(agrees(found[name], scores) for name, scores in expected.items()) / len(
        expected
    )
    return figures


def base_sized(folder: Path) -> str:
    """An untrained encoder of BERT-base's size, with the tokenizer of the tests' encoder."""
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=30522)).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(ENCODER)
    tokenizer.model_max_length = 512
    tokenizer.save_pretrained(folder)
    return str(folder)


def _timed(work: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """What a work returns, and its seconds by the clock and of processor time."""
    start, used = time.perf_counter(), time.process_time()
    result = work()
    return result, (time.perf_counter() - start, time.process_time() - used)


def flags() -> argparse.ArgumentParser:
    """Those of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", help="a questions file of LaMP-3; by default one is made of the next five")
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--items", type=int, default=20, help="of each profile")
    parser.add_argument("--words", type=int, default=20, help="of each item, on average")
    parser.add_argument(
        "--spread", type=float, default=1.14, help="of their number; 0: half to one and a half"
    )
    parser.add_argument("--per_user", type=int, default=1, help="questions with the same profile")
    parser.add_argument("--encoder", default=str(ENCODER), help="name or folder")
    parser.add_argument(
        "--base", action="store_true", help="an untrained encoder of BERT-base's size instead"
    )
    parser.add_argument("--threads", type=int, default=1, help="of all processes together")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--local_rank", type=int, default=-1, help="set by the launcher")
    return parser


def main() -> None:
    """Compare and print the figures."""
    args = flags().parse_args()
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    os.environ["RAYON_NUM_THREADS"] = str(max(1, args.threads // ranks))  # of the tokenizer
    with distributed_context(args.local_rank) as distributed:
        figures = compare(args, distributed)
        if distributed.is_main:
            print(json.dumps(figures))


if __name__ == "__main__":
    main()
