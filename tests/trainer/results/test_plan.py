"""The plan of `make results`: what it may say, which jobs it makes, and how dialogues are held out."""

import json
from pathlib import Path

import pytest

from dataset.convai2.reader import read_convai2
from models.arguments import read_train_arguments
from trainer.results.jobs import RESULT, Layout, _train, jobs_of, training_job, tuning_job
from trainer.results.plan import Plan, read_plan
from trainer.results.results import _alone, _check_validation, make_results
from trainer.results.splitting import split_dialogues
from trainer.results.unchanged import check_unchanged
from utils.config.loading import dump
from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = ROOT / "data_file/sample/valid_self_original_no_cands.txt"


def plan_of(folder: Path, **data: str) -> Plan:
    """The committed plan on the sample."""
    settings = {"model_name": "LM", "train": str(SAMPLE), "valid": str(SAMPLE), "folder": str(folder), **data}
    return read_plan(
        str(ROOT / "config/results/plan.yml"), [f"data.{key}={value}" for key, value in settings.items()]
    )


def put_run(layout: Layout, job: str, loss: float = 1.0) -> Path:
    """A run folder as a training and a decoding leave it."""
    run = layout.root / job / "run_2026-01-01-0000"
    (run / "ds_ckpt").mkdir(parents=True)
    row = {"prediction": "a", "target": "a", "nll": loss, "nll_tokens": 1}
    (run / RESULT).write_text(json.dumps(row) + "\n")
    return run


def test_every_method_names_a_configuration_and_waits_for_its_learning_rate(tmp_path: Path) -> None:
    """A misspelt file would be found after hours; a training that does not wait has no learning rate to use."""
    plan = plan_of(tmp_path)
    layout = Layout(plan)
    jobs = {job.name: job for job in jobs_of(layout)}
    for method in plan.methods:
        for seed in plan.seeds_of(method):
            after = jobs[training_job(method.name, seed)].after
            assert {tuning_job(method, rate) for rate in method.learning_rates[1:]} <= set(after)
            assert method.start is None or training_job(method.start, seed) in after
    names = list(jobs)
    assert all(names.index(before) < names.index(job.name) for job in jobs.values() for before in job.after)


def test_every_training_has_a_configuration_that_is_valid(tmp_path: Path) -> None:
    """A key that a method does not have, or settings that exclude one another, would be told after hours of others."""
    layout = Layout(plan_of(tmp_path))
    for start in {method.start for method in layout.plan.methods if method.start is not None}:
        put_run(layout, training_job(start, 1))
    for method in layout.plan.methods:
        words = _train(layout, method, f"{method.name}/new", 1, {"training.learning_rate": 0.5})
        args, config = read_train_arguments(words[1:])
        assert config.training.learning_rate == 0.5
        assert config.training.num_epochs == 1
        assert args.exp_name == "run"
        assert (args.ckpt_path is not None) == (method.start_as == "ckpt_path")


def test_the_learning_rate_is_that_of_the_lowest_held_out_loss(tmp_path: Path) -> None:
    """A comparison at learning rates that suit one method alone says nothing of the methods."""
    layout = Layout(plan_of(tmp_path))
    method = layout.plan.methods[0]
    for number, rate in enumerate(method.learning_rates):
        put_run(layout, tuning_job(method, rate), loss=2.0 if number == 1 else 3.0)
    assert layout.learning_rate(method) == method.learning_rates[1]
    job = next(job for job in jobs_of(layout) if job.name == training_job(method.name, 2))
    command = next(job.commands())
    assert f"--set=training.learning_rate={method.learning_rates[1]}" in command
    assert f'--set=dataset.valid="{tmp_path}/data/held_out.txt"' in command
    assert "--set=training.seed=2" in command


def test_runs_of_other_settings_are_not_taken(tmp_path: Path) -> None:
    """After a change of the plan the figures of the old runs would stand in the table as those of the new settings."""
    layout = Layout(plan_of(tmp_path))
    method = layout.plan.methods[0]
    words = _train(layout, method, "new", 2, {"training.learning_rate": 0.5})
    run = put_run(layout, training_job(method.name, 2))
    (run / "config.yml").write_text(dump(read_train_arguments(words[1:])[1]))
    check_unchanged(layout)
    layout.plan.settings["training.batch_size"] = 3
    with pytest.raises(UserError, match="trained with training.batch_size: 64, which is 3 in the plan now"):
        check_unchanged(layout)


def test_the_dialogues_of_the_figures_are_the_same_in_every_call(tmp_path: Path) -> None:
    """Methods that were decoded on other dialogues would be compared with one another."""
    path = tmp_path / "data/valid.sha256"
    path.parent.mkdir()
    _check_validation(str(SAMPLE), path)
    _check_validation(str(SAMPLE), path)
    with pytest.raises(UserError, match="earlier results rest on other dialogues"):
        _check_validation(str(ROOT / "README.md"), path)


def test_two_calls_do_not_work_in_one_folder(tmp_path: Path) -> None:
    """Both would train in the same run folders."""
    folder = tmp_path / "new"
    with _alone(folder), pytest.raises(UserError, match="another call is at work there"), _alone(folder):
        pass
    with _alone(folder):
        pass


def test_a_page_that_is_not_there_is_told_first(tmp_path: Path) -> None:
    """It would be told when all trainings are done."""
    with pytest.raises(UserError, match="page not found"):
        make_results(plan_of(tmp_path), 1, tmp_path / "page.md")
    assert not list(tmp_path.iterdir())


def test_a_training_that_was_stopped_goes_on(tmp_path: Path) -> None:
    """A second run folder beside the first would lose an hour, and neither would be taken for the result."""
    layout = Layout(plan_of(tmp_path))
    method = layout.plan.methods[0]
    name = tuning_job(method, method.learning_rates[0])
    run = put_run(layout, name)
    (run / "start.json").write_text("{}")
    command = next(next(job for job in jobs_of(layout) if job.name == name).commands())
    assert command == ("train.py", f"--resume={run}")


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("data.model_name=null", "data.model_name is missing"),
        ("data.held_out=1.5", "data.held_out"),
        ("data.train=nowhere.txt", "dialogue file not found: nowhere.txt"),
        ("methods=..", "starts from 'b'"),
        ("data.modelname=x", "modelname"),
    ],
)
def test_a_mistake_in_a_plan_is_told_before_anything_runs(
    tmp_path: Path, assignment: str, words: str
) -> None:
    """What is found after the first trainings costs their time."""
    values = [f"data.train={SAMPLE}", f"data.valid={SAMPLE}", "data.model_name=LM", f"data.folder={tmp_path}"]
    if assignment.startswith("methods"):
        path = tmp_path / "plan.yml"
        path.write_text("methods:\n  - {name: a, title: A, config: config/baseline/lora.yml, start: b}\n")
        with pytest.raises(UserError, match=words):
            read_plan(str(path), values)
        return
    with pytest.raises(UserError, match=words):
        read_plan(str(ROOT / "config/results/plan.yml"), [*values, assignment])


def test_methods_bring_those_that_they_start_from(tmp_path: Path) -> None:
    """A method without its start would fail when its turn comes."""
    path = tmp_path / "plan.yml"
    path.write_text(
        "data: {model_name: LM}\n"
        "methods:\n"
        "  - {name: a, title: A, config: config/baseline/lora.yml}\n"
        "  - {name: b, title: B, config: config/baseline/lora.yml}\n"
        "  - {name: c, title: C, config: config/baseline/lora.yml, start: a}\n"
        "compare: [[c, a], [c, b]]\n"
    )
    plan = read_plan(str(path), [f"data.train={SAMPLE}", f"data.valid={SAMPLE}"], ["c"])
    assert [method.name for method in plan.methods] == ["a", "c"]
    assert plan.compare == (("c", "a"),)
    with pytest.raises(UserError, match="--methods: 'd'"):
        read_plan(str(path), [f"data.train={SAMPLE}", f"data.valid={SAMPLE}"], ["d"])


def test_held_out_dialogues_are_the_last_ones_and_none_is_lost(tmp_path: Path) -> None:
    """A dialogue in both files would choose learning rates on what was trained on; one in neither would be lost."""
    first, last = tmp_path / "data/train.txt", tmp_path / "data/held_out.txt"
    split_dialogues(SAMPLE, 0.1, first, last)
    whole, parts = read_convai2(SAMPLE), [read_convai2(first), read_convai2(last)]
    assert len(parts[1]) == round(0.1 * len(whole))
    joined = [[one.text for one in dialogue.utterances] for part in parts for dialogue in part]
    assert joined == [[one.text for one in dialogue.utterances] for dialogue in whole]
    split_dialogues(SAMPLE, 0.1, first, last)  # the same ones again
    with pytest.raises(UserError, match="other dialogues"):
        split_dialogues(SAMPLE, 0.2, first, last)
