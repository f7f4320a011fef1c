"""The chain of the demo, and of other configurations: nothing is read before it is made, and every command is right."""

from pathlib import Path

import pytest

from companions.lamp import merge_with_rank, rank_profiles
from companions.lamp.lm import arguments as lm_arguments
from companions.lamp.lm import settings as lm_settings
from companions.lamp.pipeline import table, tiny_models
from companions.lamp.pipeline.commands import _RUNNERS
from companions.lamp.pipeline.plan import steps_of
from companions.lamp.pipeline.settings import read_config
from companions.lamp.ropg import arguments as ropg_arguments
from companions.lamp.ropg.settings import KDConfig, RLConfig
from companions.lamp.rspg import arguments as rspg_arguments
from companions.lamp.rspg import create_data
from tests.conftest import ROOT
from utils.errors import UserError

SAMPLE = str(ROOT / "config" / "lamp" / "sample.yml")
PUBLISHED = ["models.tiny=false", "models.scorer=allenai/longformer-base-4096"]
CONFIGURATIONS = {
    "sample": [],
    "pretrained": PUBLISHED,
    "zero-shot": [*PUBLISHED, "models.train_lm=false"],
    "tiny zero-shot": ["models.train_lm=false", "models.scorer=x"],
}
READERS = {
    "pipeline.tiny_models": tiny_models.parser().parse_args,
    "rank_profiles": rank_profiles.parser().parse_args,
    "merge_with_rank": merge_with_rank.parser().parse_args,
    "train_llm": lambda words: lm_arguments.read_arguments(lm_settings.TrainConfig, "", words, True),
    "profile_item_utilization_scorer": lambda words: lm_arguments.read_arguments(
        lm_settings.ItemFeedbackConfig, "", words
    ),
    "ropg.train_kd": lambda words: ropg_arguments.read_arguments(KDConfig, "kd", words),
    "ropg.train_rl": lambda words: ropg_arguments.read_arguments(RLConfig, "rl", words),
    "retriever_utilization_scorer": lambda words: lm_arguments.read_arguments(
        lm_settings.RetrieverFeedbackConfig, "", words
    ),
    "rspg.create_data": create_data.parser().parse_args,
    "rspg.rspg": rspg_arguments.read_arguments,
    "pipeline.table": table.parser().parse_args,
}


def plan(*assignments):
    """The steps of the sample's configuration with other values, by name."""
    return {step.name: step for step in steps_of(read_config(SAMPLE, assignments))}


def commands(steps):
    """(name of the command, its words) of all steps."""
    return [
        (command.module.removeprefix("companions.lamp."), command.words)
        for step in steps.values()
        for command in step.commands
    ]


@pytest.mark.parametrize("assignments", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_step_reads_what_steps_that_it_names_have_made(assignments):
    """A step that reads what it does not name keeps its old result when that is made anew."""
    before = set()
    for name, step in plan(*assignments).items():
        assert set(step.after) <= before, name
        words = [word.rpartition("=")[2] for command in step.commands for word in command.words]
        paths = [Path(word) for word in words if word.startswith("runs_sample/lamp/")]
        assert {path.parts[2] for path in paths} <= {name, *step.after}, name
        assert any(path.parts[2] == name for path in paths), f"{name} makes nothing"
        before.add(name)


def test_run_folders_are_found_in_any_folder(tmp_path):
    """Brackets in the name of a folder stand for characters: the runs in it would not be found."""
    folder = tmp_path / "runs[1]"
    (folder / "lm" / "lm_2026").mkdir(parents=True)
    (command, _) = plan(f"data.folder={folder}")["bm25-answers"].commands
    assert str(folder / "lm" / "lm_2026") in command.expanded().words


@pytest.mark.parametrize("assignments", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_every_command_is_taken_by_its_own_parser(assignments):
    """A flag that was renamed would end the chain after an hour of training."""
    for name, words in commands(plan(*assignments)):
        assert name in _RUNNERS
        READERS[name](words)


def test_the_sample_has_all_parts_of_the_papers():
    """A system that is left out of the table is not compared."""
    names = list(plan())
    assert names[0] == "models"
    assert names[-1] == "table"
    assert {"lm", "items", "ropg-kd-training", "ropg-rl-training", "rspg-pre", "rspg-post"} <= set(names)
    create = next(words for name, words in commands(plan()) if name == "rspg.create_data")
    start = create.index("--names") + 1
    assert create[start : start + 6] == ("none", "recency", "bm25", "contriever", "ropg-kd", "ropg-rl")


def test_settings_reach_the_commands():
    """A key that stays in the file would change nothing, and the step would not be made anew either."""
    changed = plan("lm.num_epochs=3", "ropg_kd.temperature=0.7", "rspg.seed=5", "retrieval.num_retrieved=2")
    _, lm = READERS["train_llm"](changed["lm"].commands[0].words)
    assert (lm.training.num_epochs, lm.dataset.num_retrieved, lm.dataset.use_profile) == (3, 2, True)
    _, kd = READERS["ropg.train_kd"](changed["ropg-kd-training"].commands[0].words)
    assert kd.training.temperature == 0.7
    _, rspg = READERS["rspg.rspg"](changed["rspg-pre"].commands[0].words)
    assert rspg.training.seed == 5
    same = plan()
    assert {name for name in same if same[name].commands != changed[name].commands} == {
        "lm",
        "ropg-kd-training",
        "rspg-pre",
        "rspg-post",
        *(f"{name}-answers" for name in ("recency", "bm25", "contriever", "ropg-kd", "ropg-rl")),
    }


@pytest.mark.parametrize("use_date", [True, False])
def test_dense_rankings_and_training_see_the_same_dates(use_date):
    """A retriever that was trained with dates would rank documents without them, or the other way round."""
    steps = plan(f"retrieval.use_date={use_date}")
    for name in ("contriever", "ropg-kd", "ropg-rl"):
        ranks = [one.words for one in steps[name].commands if one.module.endswith("rank_profiles")]
        assert [rank_profiles.parser().parse_args(words).use_date for words in ranks] == [use_date] * 2
    for method in ("kd", "rl"):
        (command,) = steps[f"ropg-{method}-training"].commands
        _, config = READERS[f"ropg.train_{method}"](command.words)
        assert config.dataset.use_date is use_date


def test_the_lm_sees_no_profile_under_none():
    """The first line of the table would be that of a retriever."""
    words = plan()["none-answers"].commands[0].words
    assert "--use_profile" not in words
    assert "--use_profile" in plan()["recency-answers"].commands[0].words


def test_scorers_can_start_from_a_trained_retriever():
    """The sample's scorers would start from weights that know nothing, or from an older retriever."""
    step = plan()["rspg-post"]
    assert "ropg-kd-training" in step.after
    assert "runs_sample/lamp/ropg-kd-training/ropg-kd-training_*" in step.commands[0].words
    assert "allenai/longformer-base-4096" in plan(*PUBLISHED)["rspg-post"].commands[0].words


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("lm.num_epoch=3", "num_epochs"),
        ("data.task=LaMP-9", "unknown task 'LaMP-9'"),
        ("ropg_kd.log_dir=elsewhere", "ropg_kd.log_dir is not used: data.folder says"),
    ],
)
def test_a_mistake_in_the_configuration_is_told_at_once(assignment, message):
    """Hours later the step whose key is misspelt ends the chain, or the key is passed over in silence."""
    with pytest.raises(UserError, match=message):
        read_config(SAMPLE, [assignment])
