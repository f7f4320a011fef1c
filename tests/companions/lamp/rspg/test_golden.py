"""RSPG equals the golden cases: data, inputs, scores, losses, gradients, choices, metrics, predictions."""

import json
from pathlib import Path

import pytest
import torch

from companions.lamp.rspg.batches import Collator, compare_outputs, official_of, read_examples
from companions.lamp.rspg.building import build_data
from companions.lamp.rspg.choosing import choose, score_questions
from companions.lamp.rspg.data import read_rows
from companions.lamp.tasks import task_of
from tests.companions.lamp.golden import GOLDEN, cases, load
from tests.companions.lamp.rspg.data import config_of, golden_scorer, maker_of

FIXED = cases("6_rspg/scorer.*.json")
OWN = ("strategies", "metric")  # what this project adds to the original's rows


def close(value, wanted):
    """Within 1e-5 or 1e-4 of the value, whichever is larger."""
    torch.testing.assert_close(value.detach().double(), torch.tensor(wanted).double(), atol=1e-5, rtol=1e-4)


def strategies():
    """The names of the strategies of all golden data, in their order."""
    return [strategy["name"] for strategy in load("6_rspg/feedback/settings.json")["strategies_in_order"]]


@pytest.mark.parametrize("path", cases("6_rspg/create_data.*.json"))
def test_create_data(path, tmp_path):
    """A label, output or prompt of another strategy or question: the scorer learns what the LM never said."""
    task = task_of(path.name.split(".")[1])
    folder, out = GOLDEN / "data" / task.option, tmp_path / "data.json"
    feedback = [GOLDEN / "6_rspg" / "feedback" / task.option / name for name in strategies()]
    metric = task.scoring.best
    count = build_data(feedback, folder / "questions.json", folder / "outputs.json", metric, out)
    rows = json.loads(out.read_text(encoding="utf-8"))
    assert all([row[key] for key in OWN] == [strategies(), metric] for row in rows)
    assert [{key: row[key] for key in row if key not in OWN} for row in rows] == load(path)
    assert count == len(rows)


def case_of(golden, case, folder):
    """Scorer, input maker, and the file with the questions of a case in their order."""
    config = config_of(golden["task"], golden["type"], "released_code")
    scorer = golden_scorer(config, golden["scorer"], golden["strategies"])
    by_id = {row["id"]: row for row in load(golden["data"])}
    path = folder / "rows.json"
    path.write_text(json.dumps([by_id[name] for name in case["ids"]]), encoding="utf-8")
    return scorer, maker_of(scorer, case["max_length_input"]), str(path)


@pytest.mark.slow
@pytest.mark.parametrize("path", FIXED)
def test_inputs_labels_scores_and_choices(path, tmp_path):
    """Another special token, cut or pooling scores something else; so does attention to the padding."""
    golden = load(path)
    task = task_of(golden["task"])
    for case in golden["cases"]:
        scorer, maker, file = case_of(golden, case, tmp_path)
        examples = read_examples(file, task, maker)
        found = [examples[number] for number in range(len(examples))]
        ids = [text.tolist() for example in found for text in example.inputs]
        assert ids == case.get("input_ids", ids)
        batch = Collator(scorer.encoder.tokenizer.pad_token_id)(found)
        close(batch.utilities.T, case["labels"])
        rows = list(read_rows(file, task))
        for has_global, key in (
            (False, "scores_released"),
            (True, "scores_with_global_attention_on_first_token"),
        ):
            scorer.global_attention = has_global
            close(scorer.score(batch.texts, batch.places).T, case[key])
            close(score_questions(scorer, maker, rows, batch_size=2).T, case[key])
        scorer.global_attention = False
        chosen = [index for _, index in choose(scorer, maker, rows, batch_size=1)]
        assert all(index in ties for index, ties in zip(chosen, case["chosen_tie_sets"], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("path", FIXED)
def test_losses_and_gradients(path, tmp_path):
    """A temperature on one side only, or a pool whose size is fixed, still trains, towards something else."""
    golden = load(path)
    for case in golden["cases"]:
        if not case["corrected"]:
            continue
        scorer, maker, file = case_of(golden, case, tmp_path)
        examples = read_examples(file, task_of(golden["task"]), maker)
        batch = Collator(1)([examples[number] for number in range(len(examples))])
        scores = scorer.score(batch.texts, batch.places)
        for wanted in case["corrected"]:
            temperatures = {
                "temperature": wanted["student_temperature"],
                "label_temperature": wanted["label_temperature"],
            }
            scorer.config = scorer.config.replaced({"training": temperatures})
            count = wanted["first_R_strategies"]
            loss = scorer.loss(scores[:count], batch.utilities[:count])
            close(loss, wanted["loss"])
            parameters = list(scorer.parameters())
            found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            norm = torch.cat([gradient.flatten() for gradient in found if gradient is not None]).norm()
            assert norm.item() == pytest.approx(wanted["grad_norm"], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("path", cases("6_rspg/validation.*.json"))
def test_choices_of_a_file_and_their_metrics(path):
    """A prediction under another question's id, or a metric of all outputs, shows in neither ids nor loss."""
    golden = load(path)
    _, name, kind, _ = path.name.split(".")
    task, data = task_of(name), Path("6_rspg") / f"create_data.{name}.json"
    scorers = load(f"6_rspg/scorer.{name}.{kind}.json")
    config = config_of(name, kind, "released_code")
    scorer = golden_scorer(config, scorers["scorer"], scorers["strategies"])
    maker = maker_of(scorer, golden["max_length_input"])
    rows = list(read_rows(str(GOLDEN / data), task))
    choices = list(choose(scorer, maker, rows, golden["batch"]))
    shard = golden["shard"]
    assert [row.id for row, _ in choices] == shard["ids"]
    assert [row.gold for row, _ in choices] == shard["golds"]
    chosen = [row.outputs[index] for row, index in choices]
    scores = score_questions(scorer, maker, rows, 1)
    for column, index, wanted in zip(
        scores.T, [index for _, index in choices], shard["indices"], strict=True
    ):
        # the choice among tied strategies is free
        assert index == wanted or (column[index] - column[wanted]).abs() < 1e-5
    released = [row.outputs[index] for row, index in zip(rows, shard["indices"], strict=True)]
    if chosen == released:
        compared = compare_outputs("", task, rows, released=True)
        values = compared.values.reshape(len(rows), len(scorers["strategies"]), -1)
        mean = values[range(len(rows)), [index for _, index in choices]].mean(axis=0)
        # ROUGE of the release is one draw of a bootstrap
        tolerance = {"abs": 1e-9} if task.scoring.kind != "text" else {"abs": 0.03}
        assert official_of(task)(mean) == pytest.approx(golden["metrics_released"], **tolerance)
    final = load(f"6_rspg/final_preds.{name}.{kind}.json")
    assert final["task"] == task.name
    rows_of = [
        {"id": row.id, "output": row.outputs[index], "index": index}
        for row, index in zip(rows, shard["indices"], strict=True)
    ]
    assert rows_of == final["golds"]
