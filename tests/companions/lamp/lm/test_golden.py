"""The LM's part equals the golden cases: outputs, losses, gradients, feedback, evaluation, training."""

import json

import pytest
import torch

from companions.lamp.feedback import collect_item_feedback, collect_retriever_feedback
from companions.lamp.lm.beam_search import beam_search
from companions.lamp.lm.evaluate import evaluate
from companions.lamp.lm.examples import PromptReader
from companions.lamp.lm.generate import Answerer
from companions.lamp.lm.load import load_lm
from companions.lamp.lm.model import AnswerBatch, AnsweringModel
from companions.lamp.lm.settings import (
    EvaluationConfig,
    ItemFeedbackConfig,
    PromptSettings,
    RetrieverFeedbackConfig,
    TrainConfig,
)
from companions.lamp.lm.task import train_lm
from companions.lamp.metrics import metrics_of_each, training_metrics
from companions.lamp.questions import parse_question, read_questions
from companions.lamp.tasks import task_of
from tests.companions.lamp.golden import GOLDEN, cases, load
from tests.helpers import logged

MODEL = {"model_name": str(GOLDEN / "models" / "t5-tiny"), "fidelity": "released_code"}
BOOTSTRAP = {"rouge-1", "rouge-2", "rouge-L", "rouge-LSum"}  # of a whole file: one random draw of the release


@pytest.fixture(scope="module")
def lm():
    """The LM of the golden cases."""
    return load_lm(MODEL["model_name"])


def by_task(path):
    """The cases of a file, by task."""
    found = {}
    for case in load(path) if (GOLDEN / path).exists() else []:
        found.setdefault(case["task"], []).append(case)
    return [pytest.param(cases, id=f"{path}-{task}") for task, cases in found.items()]


def section(golden, **more):
    """The keys of `dataset` for a golden case."""
    return {"task": golden["task"], "is_ranked": True, "max_length": golden["max_length"], **more}


def other_outputs(file):
    """The outputs by id that another version of the library makes otherwise: (theirs, ours)."""
    notes = "7_seq2seq/version_notes.json"
    if not (GOLDEN / notes).exists():
        return {}
    versions = [
        (
            note["id"],
            [value for key, value in sorted(note.items()) if key.startswith("output_")],
            note["file"],
        )
        for note in load(notes)["outputs"]
    ]
    return {name: values for name, values, of in versions if of == str(file)}


def assert_close(value, wanted):
    """Within 1e-5 or 1e-4 of the value, whichever is larger."""
    assert value == pytest.approx(wanted, abs=1e-5, rel=1e-4)


@pytest.mark.parametrize("golden", by_task("7_seq2seq/generation.json"))
def test_generation(lm, golden):
    """Outputs in a batch that are not those of one prompt at a time: every number of a paper would be another."""
    examples = [case["input_ids"] for case in golden]
    search = lm.search(4, 128)
    with torch.inference_mode():
        outputs = beam_search(lm.kind.decoder(lm.kind.read(examples)), search)
    for case, output in zip(golden, outputs, strict=True):
        assert [lm.kind.start_id, *output] == case["generated_ids"]
        assert lm.tokenizer.decode(output, skip_special_tokens=True).strip() == case["text"].strip()


@pytest.mark.parametrize("golden", by_task("7_seq2seq/generation.json"))
def test_prompts_of_the_outputs(lm, golden):
    """Prompts that are made, encoded and cut otherwise give the LM other token ids."""
    settings = PromptSettings(**section(golden[0], use_profile=True, num_retrieved=golden[0]["k"]))
    task = task_of(settings.task)
    for merged in ("bm25", "recency", "contriever.date", "file_order"):
        path = GOLDEN / "2_merge" / f"{task.option}.{merged}.json"
        made = {
            one.question: list(one.source)
            for one in PromptReader(settings, lm, True).examples(read_questions(path, task))
        }
        if all(made.get(case["id"]) == case["input_ids"] for case in golden):
            return
    raise AssertionError("the token ids are of no merged file")


@pytest.mark.parametrize("golden", by_task("7_seq2seq/training_batch.json"))
def test_training_batch(golden):
    """A loss over padding, or a mean over examples instead of tokens, trains another LM at a plausible loss."""
    sources = {case["id"]: case for case in load("7_seq2seq/generation.json")}
    for batch in golden:
        lm = load_lm(MODEL["model_name"])
        task = task_of(batch["task"])
        module = AnsweringModel(lm, task, lm.search(4, 128)).train()
        examples = []
        for name, target, labels in zip(
            batch["batch_of_ids"], batch["targets"], batch["labels"], strict=True
        ):
            case = sources[name]
            question = parse_question(
                {"id": name, "input": case["prompt"], "profile": [], "output": target}, "", "", None
            )
            settings = PromptSettings(**section(case))
            (example,) = PromptReader(settings, lm, True).examples([question])
            assert list(example.source) == case["input_ids"]
            assert list(example.target) == [label for label in labels if label != -100]
            examples.append(example)
        output = module(AnswerBatch(tuple(examples), torch.arange(len(examples))))
        assert_close(output.total.item(), batch["loss"])
        output.total.backward()
        gradients = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
        assert torch.cat(gradients).norm().item() == pytest.approx(batch["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("path", cases("7_seq2seq/item_feedback.*.json"))
def test_item_feedback(path, distributed, tmp_path):
    """Feedback of another item, or of two at once: the retriever learns to find the wrong ones."""
    golden = load(path)
    keys = ("profile_size", "start_index", "end_index")
    config = ItemFeedbackConfig(
        model=MODEL,
        dataset=section(
            golden, train=str(GOLDEN / golden["train_data"]), **{key: golden[key] for key in keys}
        ),
    )
    collect_item_feedback(config, tmp_path, distributed)
    rows = [json.loads(line) for file in tmp_path.glob("*.jsonl") for line in file.read_text().splitlines()]
    found = {f"{row['question']}-{row['item']}": row["metrics"] for row in rows}
    assert found.keys() == golden["scores"].keys()
    assert len(rows) == len(found)
    for key, wanted in golden["scores"].items():
        compare_metrics(found[key], wanted)


def compare_metrics(found, wanted, without=()):
    """Each metric of a golden case; METEOR only where WordNet does not change it."""
    for name, value in wanted.items():
        if name not in without and name in found:
            assert_close(found[name], value)
    assert found.keys() >= wanted.keys() - {"meteor"}


STRATEGIES = [
    pytest.param(path.values[0], id=path.id) for path in cases("6_rspg/feedback/LaMP-*/*/scores.json")
]


@pytest.mark.parametrize("path", STRATEGIES)
def test_retriever_feedback(path, distributed, tmp_path):
    """RSPG learns from these prompts, outputs and metrics: another prompt is another strategy."""
    settings = load("6_rspg/feedback/settings.json")
    task, name = path.parts[-3], path.parts[-2]
    strategy = next(one for one in settings["strategies_in_order"] if one["name"] == name)
    file = strategy["merged_file"] or "2_merge/LaMP-<task>.file_order.json"
    config = RetrieverFeedbackConfig(
        model=MODEL,
        dataset={
            "task": task,
            "data": str(GOLDEN / file.replace("LaMP-<task>", task)),
            "max_length": settings["max_length"],
            **{key: strategy[key] for key in ("use_profile", "num_retrieved", "is_ranked")},
        },
    )
    collect_retriever_feedback(config, tmp_path, distributed)
    found, golden = json.loads((tmp_path / "scores.json").read_text("utf-8")), load(path)
    others = other_outputs(path)
    assert found.keys() == golden.keys()
    for question, wanted in golden.items():
        assert found[question]["input"] == wanted["input"]
        if question in others and found[question]["output"] != wanted["output"]:
            assert found[question]["output"] in others[question]
            continue
        assert found[question]["output"] == wanted["output"]
        compare_metrics(found[question]["metric"], wanted["metric"])


@pytest.mark.parametrize("path", cases("7_seq2seq/evaluate.*.json"))
def test_evaluation(path, distributed, tmp_path, lm):
    """Metrics of outputs in another order than the golds would be those of other questions."""
    golden = load(path)
    data = section(golden, use_profile=True, num_retrieved=golden["k"])
    file = GOLDEN / golden["validation_data"]
    config = EvaluationConfig(model=MODEL, dataset={**data, "valid": str(file)})
    evaluate(config, tmp_path, distributed)
    results = json.loads((tmp_path / "results_output.json").read_text("utf-8"))
    predictions = json.loads((tmp_path / "predictions.json").read_text("utf-8"))
    task = task_of(golden["task"])
    assert predictions["task"] == task.name
    golds = {question.id: question.output for question in read_questions(file, task)}
    assert [row["id"] for row in predictions["golds"]] == list(golds)
    wanted = {key.removeprefix("eval_"): value for key, value in golden["results"].items()}
    texts = {row["id"]: row["output"] for row in predictions["golds"]}
    # the same outputs as of the feedback on this ranking, of which some hang on the library's version
    strategy = f"6_rspg/feedback/{golden['task']}/{file.name.split('.')[1]}/scores.json"
    for name, versions in other_outputs(strategy).items():
        texts[name] = versions[0]
    metrics = training_metrics(task, list(texts.values()), list(golds.values()), True)
    assert_close(results["eval_loss"], wanted.pop("loss"))
    compare_metrics(metrics, wanted, BOOTSTRAP)
    for name in BOOTSTRAP & wanted.keys():
        assert metrics[name] == pytest.approx(wanted[name], abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("path", cases("7_seq2seq/train.*.json"))
def test_training(path, distributed, tmp_path, capsys):
    """Another schedule, decay or choice of the best epoch gives another LM, whose numbers look as plausible."""
    golden = load(path)
    data = section(golden, use_profile=True, num_retrieved=golden["k"])
    files = {"train": golden["train_data"], "valid": golden["validation_data"]}
    files["test"] = golden["validation_data"]
    keys = ("learning_rate", "weight_decay", "warmup_ratio")
    training = {key: golden[key] for key in keys} | {
        # the release's Adam does not correct it for the start: 3e-7 in the first step, 1.6e-7 in the fourth
        "adam_epsilon": 2e-7,
        "num_epochs": golden["epochs"],
        "batch_size": golden["batch"],
        "log_dir": str(tmp_path),
    }
    data |= {name: str(GOLDEN / file) for name, file in files.items()}
    run = train_lm(TrainConfig(model=MODEL, dataset=data, training=training), distributed, "run")
    rows = logged(run, "valid_epoch")
    for row, wanted in zip(rows, golden["per_epoch"], strict=True):
        assert row["llm"] == pytest.approx(wanted["eval_loss"], rel=1e-3)
        assert row["step"] == wanted["step"]
        for name, value in wanted.items():
            if name.startswith("eval_") and name not in ("eval_loss", "eval_meteor"):
                drawn = name.removeprefix("eval_") in BOOTSTRAP
                assert row[name.removeprefix("eval_")] == pytest.approx(value, abs=0.03 if drawn else 1e-4)
    metadata = json.loads((run / "trained.json").read_text("utf-8"))
    assert metadata["steps"] == golden["best_checkpoint_step"]
    assert metadata["best_value"] == pytest.approx(golden["best_metric"], abs=0.03)
    best = rows[golden["best_checkpoint_step"] - 1]
    results = json.loads((run / "results_output.json").read_text("utf-8"))
    assert results["test_loss"] == pytest.approx(best["llm"], rel=1e-4)
    assert (run / "predictions.json").is_file()
    capsys.readouterr()


def test_equal_prompts_are_asked_once(lm):
    """Questions with equal prompts get equal answers; one that got none would be missing from the predictions."""
    settings = PromptSettings(task="LaMP-3")
    record = {"input": "review: a warm baker", "profile": [], "output": "3"}
    questions = [parse_question({"id": name, **record}, "", "", None) for name in "abc"]
    examples = list(PromptReader(settings, lm).examples(questions))
    (found,) = Answerer(lm, lm.search(4, 16), lambda longest: 4096 // longest).stream(examples)
    found = [answer for _, answer in sorted(found.items())]
    assert [example.question for example, _ in found] == ["a", "b", "c"]
    assert len({answer for _, answer in found}) == 1
    assert metrics_of_each(task_of("LaMP-3"), [found[0][1].text], ["3"])
