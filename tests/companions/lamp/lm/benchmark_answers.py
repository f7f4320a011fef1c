"""Speed of feedback and evaluation: a prompt at a time, the library in batches, and this project, in one run.

python -m tests.companions.lamp.lm.benchmark_answers --questions 200
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from companions.lamp.feedback import collect_item_feedback
from companions.lamp.json_stream import write_array
from companions.lamp.lm.evaluate import evaluate
from companions.lamp.lm.load import load_lm
from companions.lamp.lm.settings import EvaluationConfig, ItemFeedbackConfig
from companions.lamp.metrics import training_metrics
from companions.lamp.prompts import PromptBuilder, chosen_items, encode
from companions.lamp.questions import Question, read_questions
from companions.lamp.tasks import Item, task_of
from tests.companions.lamp.golden import GOLDEN
from tests.companions.lamp.made_files import questions as made_questions
from utils.distributed import DistributedContext
from utils.liveness import distributed_context

LENGTH, OUTPUT, BATCH = 256, 128, 128
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


def compare(questions: int, items: int, words: int, model: str, baseline_prompts: int) -> dict[str, Any]:
    """Feedback and evaluation of one file in all ways; CPU seconds of one thread, with loading and metrics.

    The baseline answers some prompts, spread over the file, from which its seconds for all of them are counted up.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, distributed_context() as distributed:
        folder = Path(name)
        file = folder / "merged.json"
        write_array(file, ({**one, "output": "4"} for one in made_questions(questions, items, words)))
        load_lm(model)  # what happens once in a process is part of no way
        return {
            "feedback": _feedback(file, folder / "f", model, baseline_prompts, distributed),
            "evaluation": _evaluation(file, folder / "e", model, baseline_prompts, distributed),
        }


def _feedback(
    file: Path, folder: Path, model: str, prompts: int, distributed: DistributedContext
) -> dict[str, Any]:
    started = time.process_time()
    data = {"task": TASK.option, "train": str(file), "max_length": LENGTH}
    config = ItemFeedbackConfig(model={"model_name": model}, dataset=data, generation={"batch_size": BATCH})
    collect_item_feedback(config, folder, distributed)
    seconds = time.process_time() - started
    lines = [json.loads(line) for line in next(folder.glob("*.jsonl")).read_text("utf-8").splitlines()]
    found = {(row["question"], row["item"]): row["metrics"] for row in lines}
    asked = [(question, [item]) for question in read_questions(file, TASK) for item in question.profile]

    def is_equal(question: Question, items: list[Item], text: str, metrics: dict[str, float]) -> bool:
        ours = found[question.id, items[0]["id"]]
        return all(abs(ours[name] - value) < 1e-4 for name, value in metrics.items())

    return _row(seconds, asked, model, prompts, distributed.device, is_equal)


def _evaluation(
    file: Path, folder: Path, model: str, prompts: int, distributed: DistributedContext
) -> dict[str, Any]:
    started = time.process_time()
    data = {
        "task": TASK.option, "valid": str(file), "use_profile": True, "is_ranked": True, "num_retrieved": 4,
        "max_length": LENGTH,
    }  # fmt: skip
    config = EvaluationConfig(model={"model_name": model}, dataset=data, generation={"batch_size": BATCH})
    evaluate(config, folder, distributed)
    seconds = time.process_time() - started
    rows = json.loads((folder / "predictions.json").read_text("utf-8"))["golds"]
    texts = {row["id"]: row["output"] for row in rows}
    asked = [(question, chosen_items(question, 4)) for question in read_questions(file, TASK)]

    def is_equal(question: Question, items: list[Item], text: str, metrics: dict[str, float]) -> bool:
        return text == texts[question.id]

    return _row(seconds, asked, model, prompts, distributed.device, is_equal)


def _row(
    seconds: float,
    asked: Sequence[Asked],
    model: str,
    prompts: int,
    device: torch.device,
    is_equal: Callable[[Question, list[Item], str, dict[str, float]], bool],
) -> dict[str, Any]:
    """What this project has taken, and what the two other ways take."""
    started = time.process_time()
    baseline = Baseline(model, device)
    loading = time.process_time() - started
    some = asked[:: max(1, len(asked) // prompts)]
    started = time.process_time()
    answers = [baseline.answer(*one) for one in some]
    single = loading + (time.process_time() - started) / len(some) * len(asked)
    started = time.process_time()
    baseline.answer_all(asked)
    batched = loading + time.process_time() - started
    equal = sum(is_equal(*one, *answer) for one, answer in zip(some, answers, strict=True))
    return {
        "prompts": len(asked),
        "seconds": round(seconds, 2),
        "seconds_one_at_a_time": round(single, 2),
        "seconds_generate_in_batches": round(batched, 2),
        "times_as_fast": round(single / seconds, 1),
        "equal": f"{equal} of {len(some)}",
    }


def main() -> None:
    """Print both rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--items", type=int, default=8)
    parser.add_argument("--words", type=int, default=30)
    parser.add_argument("--baseline_prompts", type=int, default=100)
    parser.add_argument("--model", default=str(GOLDEN / "models" / "t5-tiny"))
    args = parser.parse_args()
    rows = compare(args.questions, args.items, args.words, args.model, args.baseline_prompts)
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
