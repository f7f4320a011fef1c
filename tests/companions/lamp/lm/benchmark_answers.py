"""Speed of feedback and evaluation: a prompt at a time, the library in batches, and this project, in one run.

python -m tests.companions.lamp.lm.benchmark_answers --questions 60 --words 30
python -m tests.companions.lamp.lm.benchmark_answers --sample --threads 2
deepspeed --num_gpus=2 --module tests.companions.lamp.lm.benchmark_answers --sample
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from companions.lamp.feedback import collect_item_feedback
from companions.lamp.json_stream import write_array
from companions.lamp.lm.evaluate import evaluate
from companions.lamp.lm.load import load_lm
from companions.lamp.lm.settings import EvaluationConfig, ItemFeedbackConfig
from companions.lamp.metrics import training_metrics
from companions.lamp.prompts import PromptBuilder, chosen_items, encode
from companions.lamp.questions import Question, read_outputs, read_questions
from companions.lamp.sample.generate import FOLDER as SAMPLE
from companions.lamp.tasks import Item, task_of
from dataset.row_files import rows_of
from tests.companions.lamp.golden import GOLDEN
from tests.companions.lamp.made_files import questions as made_questions
from utils.distributed import DistributedContext
from utils.liveness import distributed_context

LENGTH, OUTPUT = 256, 128
LIBRARY_BATCH = 64
TASK = task_of("LaMP-3")

Asked = tuple[Question, list[Item]]


class Baseline:
    """One prompt at a time, as the benchmark's own scripts do: tokens, loss, `generate`, metrics."""

    def __init__(self, model: str, device: torch.device) -> None:
        self.model = AutoModelForSeq2SeqLM.from_pretrained(model).eval().to(device)
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.builder = PromptBuilder(TASK, self.tokenizer, LENGTH)

    @torch.inference_mode()
    def answer(self, question: Question, items: list[Item]) -> tuple[str, dict[str, float]]:
        """The output for a question with these items, and its metrics."""
        gold = question.output or ""
        prompt = self.builder.build([question.input], [items])[0].text
        encoded = encode(self.tokenizer, [prompt], [gold], LENGTH)[0]
        ids = torch.tensor([encoded.source], device=self.model.device)
        mask, labels = torch.ones_like(ids), torch.tensor([encoded.target], device=self.model.device)
        loss = self.model(input_ids=ids, attention_mask=mask, labels=labels).loss.item()
        output = self.model.generate(ids, attention_mask=mask, num_beams=4, max_length=OUTPUT)[0]
        text = self.tokenizer.decode(output, skip_special_tokens=True).strip()
        return text, {"loss": loss, **training_metrics(TASK, [text], [gold])}

    @torch.inference_mode()
    def answer_all(self, asked: Sequence[Asked]) -> list[str]:
        """The same with the library's `generate` in batches of prompts of like length."""
        prompts = self.builder.build([question.input for question, _ in asked], [items for _, items in asked])
        golds = [question.output or "" for question, _ in asked]
        encoded = encode(self.tokenizer, [prompt.text for prompt in prompts], golds, LENGTH)
        order = sorted(range(len(asked)), key=lambda number: len(encoded[number].source))
        texts = [""] * len(asked)
        for start in range(0, len(order), LIBRARY_BATCH):
            some = order[start : start + LIBRARY_BATCH]
            inputs = self.tokenizer.pad(
                {"input_ids": [encoded[number].source for number in some]}, return_tensors="pt"
            ).to(self.model.device)
            labels = self.tokenizer.pad(
                {"input_ids": [encoded[number].target for number in some]}, return_tensors="pt"
            ).to(self.model.device)
            self.model(**inputs, labels=labels.input_ids.masked_fill(labels.attention_mask == 0, -100))
            outputs = self.model.generate(**inputs, num_beams=4, max_length=OUTPUT)
            for number, text in zip(
                some, self.tokenizer.batch_decode(outputs, skip_special_tokens=True), strict=True
            ):
                texts[number] = text.strip()
        training_metrics(TASK, texts, golds)
        return texts


class Seconds:
    """CPU seconds of this process, and those of a clock, since it was made."""

    def __init__(self) -> None:
        self.start = time.process_time(), time.perf_counter()

    def so_far(self) -> np.ndarray:
        """[2]."""
        return np.array([time.process_time() - self.start[0], time.perf_counter() - self.start[1]])


def sample_rows() -> Iterator[dict[str, Any]]:
    """The development questions of the sample, with their outputs."""
    golds = dict(read_outputs(SAMPLE / "dev_outputs.json", TASK))
    for question in read_questions(SAMPLE / "dev_questions.json", TASK):
        yield {**question.record, "output": golds[question.id]}


def compare(
    rows: Iterable[Mapping[str, Any]],
    model: str,
    baseline_prompts: int,
    batch_size: int | None,
    distributed: DistributedContext,
) -> dict[str, Any]:
    """Feedback and evaluation of merged questions in all ways, with loading and metrics, in seconds.

    The baseline answers some prompts, spread over the file, from which its seconds for all of them are counted up.
    Where there are several processes, each of them has a share of the prompts in all ways.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(distributed.share(name))
        file = folder / "merged.json"
        if distributed.is_main:
            write_array(file, rows)
        distributed.barrier()
        load_lm(model)  # what happens once in a process is part of no way
        found = {
            "feedback": _feedback(file, folder / "f", model, baseline_prompts, batch_size, distributed),
            "evaluation": _evaluation(file, folder / "e", model, baseline_prompts, batch_size, distributed),
        }
        distributed.barrier()
        return found


def _feedback(
    file: Path,
    folder: Path,
    model: str,
    prompts: int,
    batch_size: int | None,
    distributed: DistributedContext,
) -> dict[str, Any]:
    seconds = Seconds()
    data = {"task": TASK.option, "train": str(file), "max_length": LENGTH}
    config = ItemFeedbackConfig(
        model={"model_name": model}, dataset=data, generation={"batch_size": batch_size}
    )
    collect_item_feedback(config, folder, distributed)
    taken = seconds.so_far()
    found = {
        (row["question"], row["item"]): row["metrics"]
        for path in folder.glob("*.jsonl")
        for row in rows_of(path)
    }
    asked = [(question, [item]) for question in read_questions(file, TASK) for item in question.profile]

    def is_equal(question: Question, items: list[Item], text: str, metrics: dict[str, float]) -> bool:
        ours = found[question.id, items[0]["id"]]
        return all(abs(ours[name] - value) < 1e-4 for name, value in metrics.items())

    return _row(taken, asked, model, prompts, distributed, is_equal)


def _evaluation(
    file: Path,
    folder: Path,
    model: str,
    prompts: int,
    batch_size: int | None,
    distributed: DistributedContext,
) -> dict[str, Any]:
    seconds = Seconds()
    data = {
        "task": TASK.option, "valid": str(file), "use_profile": True, "is_ranked": True, "num_retrieved": 4,
        "max_length": LENGTH,
    }  # fmt: skip
    config = EvaluationConfig(
        model={"model_name": model}, dataset=data, generation={"batch_size": batch_size}
    )
    evaluate(config, folder, distributed)
    taken = seconds.so_far()
    distributed.barrier()
    texts = dict(read_outputs(folder / "predictions.json", TASK))
    asked = [(question, chosen_items(question, 4)) for question in read_questions(file, TASK)]

    def is_equal(question: Question, items: list[Item], text: str, metrics: dict[str, float]) -> bool:
        return text == texts[question.id]

    return _row(taken, asked, model, prompts, distributed, is_equal)


def _row(
    taken: np.ndarray,
    asked: Sequence[Asked],
    model: str,
    prompts: int,
    distributed: DistributedContext,
    is_equal: Callable[[Question, list[Item], str, dict[str, float]], bool],
) -> dict[str, Any]:
    """What this project has taken, and what the two other ways take."""
    count, asked = len(asked), asked[distributed.rank :: distributed.size]
    seconds = Seconds()
    baseline = Baseline(model, distributed.device)
    loading = seconds.so_far()
    some = asked[:: max(1, len(asked) // prompts)]
    seconds = Seconds()
    answers = [baseline.answer(*one) for one in some]
    single = loading + seconds.so_far() / len(some) * len(asked)
    seconds = Seconds()
    baseline.answer_all(asked)
    batched = loading + seconds.so_far()
    equal = sum(is_equal(*one, *answer) for one, answer in zip(some, answers, strict=True))
    # the slowest process's seconds, as a user waits for that one
    taken, single, batched = np.max(distributed.gather((taken, single, batched)), axis=0)
    return {
        "prompts": count,
        "equal": f"{sum(distributed.gather(equal))} of {sum(distributed.gather(len(some)))}",
        **{
            clock: {
                "seconds": round(float(taken[place]), 2),
                "seconds_one_at_a_time": round(float(single[place]), 2),
                "seconds_generate_in_batches": round(float(batched[place]), 2),
                "times_as_fast": round(float(single[place] / taken[place]), 1),
            }
            for place, clock in enumerate(("cpu", "wall_clock"))
        },
    }


def main() -> None:
    """Print both rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=60, help="of random words")
    parser.add_argument("--items", type=int, default=8, help="of a profile")
    parser.add_argument("--words", type=int, default=30, help="of an item")
    parser.add_argument("--sample", action="store_true", help="the sample's development questions instead")
    parser.add_argument("--baseline_prompts", type=int, default=40)
    parser.add_argument("--batch_size", type=int, help="default: that of the commands")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--model", default=str(GOLDEN / "models" / "t5-tiny"))
    parser.add_argument("--local_rank", type=int, help="given by the launcher")
    args = parser.parse_args()
    rows = (
        sample_rows()
        if args.sample
        else ({**one, "output": "4"} for one in made_questions(args.questions, args.items, args.words))
    )
    with distributed_context() as distributed:
        torch.set_num_threads(args.threads)
        found = compare(rows, args.model, args.baseline_prompts, args.batch_size, distributed)
        distributed.say(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
