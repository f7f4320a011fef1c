"""Speed of feedback and evaluation: a question at a time, and this project, in one run at equal outputs.

python -m tests.companions.lamp.lm.benchmark_answers --questions 200
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from companions.lamp.feedback import collect_item_feedback
from companions.lamp.json_stream import write_array
from companions.lamp.lm.evaluate import evaluate
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
TASK = task_of("LaMP-3")


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


def compare(questions: int, items: int, words: int, model: str, baseline_questions: int) -> dict[str, Any]:
    """Both ways on the same file; the baseline on its first questions, with its seconds for each counted up."""
    with tempfile.TemporaryDirectory() as name, distributed_context() as distributed:
        folder = Path(name)
        file = folder / "merged.json"
        write_array(file, ({**one, "output": "4"} for one in made_questions(questions, items, words)))
        return {
            "feedback": _feedback(file, folder / "f", model, baseline_questions, distributed),
            "evaluation": _evaluation(file, folder / "e", model, baseline_questions, distributed),
        }


def _feedback(
    file: Path, folder: Path, model: str, baseline_questions: int, distributed: DistributedContext
) -> dict[str, Any]:
    started = time.perf_counter()
    data = {"task": TASK.option, "train": str(file), "max_length": LENGTH}
    config = ItemFeedbackConfig(model={"model_name": model}, dataset=data, generation={"batch_size": BATCH})
    collect_item_feedback(config, folder, distributed)
    seconds = time.perf_counter() - started
    lines = [json.loads(line) for line in next(folder.glob("*.jsonl")).read_text("utf-8").splitlines()]
    found = {(row["question"], row["item"]): row["metrics"] for row in lines}
    started, done, equal = time.perf_counter(), 0, 0
    baseline = Baseline(model, distributed.device)
    for question in list(read_questions(file, TASK))[:baseline_questions]:
        for item in question.profile:
            _, metrics = baseline.answer(question, [item])
            ours = found[question.id, item["id"]]
            done += 1
            equal += all(abs(ours[name] - value) < 1e-4 for name, value in metrics.items())
    return _row(seconds, len(found), time.perf_counter() - started, done, equal)


def _evaluation(
    file: Path, folder: Path, model: str, baseline_questions: int, distributed: DistributedContext
) -> dict[str, Any]:
    started = time.perf_counter()
    data = {
        "task": TASK.option, "valid": str(file), "use_profile": True, "is_ranked": True, "num_retrieved": 4,
        "max_length": LENGTH,
    }  # fmt: skip
    config = EvaluationConfig(model={"model_name": model}, dataset=data, generation={"batch_size": BATCH})
    evaluate(config, folder, distributed)
    seconds = time.perf_counter() - started
    rows = json.loads((folder / "predictions.json").read_text("utf-8"))["golds"]
    texts = {row["id"]: row["output"] for row in rows}
    started, done, equal = time.perf_counter(), 0, 0
    baseline = Baseline(model, distributed.device)
    for question in list(read_questions(file, TASK))[:baseline_questions]:
        done += 1
        equal += baseline.answer(question, chosen_items(question, 4))[0] == texts[question.id]
    return _row(seconds, len(texts), time.perf_counter() - started, done, equal)


def _row(seconds: float, count: int, baseline: float, done: int, equal: int) -> dict[str, Any]:
    return {
        "prompts": count,
        "prompts_per_second": round(count / seconds, 1),
        "baseline_prompts": done,
        "baseline_per_second": round(done / baseline, 2),
        "times_as_fast": round(count / seconds / (done / baseline), 1),
        "equal": f"{equal} of {done}",
    }


def main() -> None:
    """Print both rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--items", type=int, default=8)
    parser.add_argument("--words", type=int, default=30)
    parser.add_argument("--baseline_questions", type=int, default=20)
    parser.add_argument("--model", default=str(GOLDEN / "models" / "t5-tiny"))
    args = parser.parse_args()
    rows = compare(args.questions, args.items, args.words, args.model, args.baseline_questions)
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
