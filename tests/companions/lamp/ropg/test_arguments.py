"""The original's flags, as keys of the configuration."""

import pytest

from companions.lamp.ropg.arguments import FOLDER, read_arguments, ropg_parser
from companions.lamp.ropg.settings import KDConfig, KDSettings, RLConfig
from utils.errors import UserError

NEEDED = ["--task", "LaMP-3", "--train_data", "merged.json", "--scores_path", "scores.json"]
# of the original; --temperature of KD alone
ORIGINAL = """
train_data do_train scores_path max_length_query max_length_document name checkpoint_dir
per_gpu_batch_size local-rank main_port seed save_freq warmup_steps total_steps scheduler_steps
accumulation_steps dropout lr clip optim scheduler weight_decay fixed_lr ctx_size task model_path
cache_dir
""".split()


def read(*arguments, config=KDConfig, method="kd"):
    """The configuration of a command line."""
    return read_arguments(config, method, [*NEEDED, *arguments])[1]


@pytest.mark.parametrize(("config", "method"), [(KDConfig, "kd"), (RLConfig, "rl")])
def test_every_flag_of_the_original_is_there(config, method):
    """A command of the paper's authors that stops at an unknown flag."""
    flags = {flag for action in ropg_parser(config, method)._actions for flag in action.option_strings}
    assert {f"--{name}" for name in ORIGINAL} <= flags
    assert ("--temperature" in flags) == (method == "kd")
    assert ("--expectation" in flags) == (method == "rl")


@pytest.mark.parametrize(("config", "method"), [(KDConfig, "kd"), (RLConfig, "rl")])
def test_the_shipped_file_has_the_papers_values(config, method):
    """The original's defaults are others: a constant rate, batches of one question, 20 items, 1000 steps."""
    made = read(config=config, method=method)
    training = made.training
    assert (training.learning_rate, training.num_epochs, training.grad_clip) == (1e-5, 10, 1.0)
    assert (training.warmup_type, training.warmup_ratio, training.warmup_min) == ("Linear", 0.05, 0.0)
    assert training.batch_size * training.accumulation_steps == 64
    assert (training.optimizer, training.weight_decay) == ("adam", 0.0)
    assert training.method == method
    assert (made.model.model_name, made.model.load_bit) == ("facebook/contriever", 32)
    assert (made.dataset.ctx_size, made.dataset.max_length_query, made.dataset.max_length_document) == (
        16,
        512,
        512,
    )
    assert made.dataset.use_date
    if method == "kd":
        assert training.temperature == 1.0
    else:
        assert training.expectation == "sampled"


def test_flags_become_keys():
    """A flag that is accepted and read by nothing is a setting that never was."""
    args, made = read_arguments(
        KDConfig,
        "kd",
        """--task LaMP_7 --train_data a --do_train --scores_path b --max_length_query 8 --max_length_document 9
        --name run --checkpoint_dir out --per_gpu_batch_size 2 --local-rank 1 --main_port 5 --seed 4 --save_freq 100
        --warmup_steps 30 --total_steps 300 --scheduler_steps 300 --accumulation_steps 3 --dropout 0.2 --lr 1e-4
        --clip 0.5 --optim adamw --scheduler linear --weight_decay 0.01 --ctx_size 20 --model_path bert
        --temperature 2 --cache_dir cache --validation_data c --validation_scores_path d""".split(),
    )
    assert (args.name, args.local_rank) == ("run", 1)
    data, training = made.dataset, made.training
    assert (data.task, data.train, data.train_scores, data.ctx_size) == ("LaMP_7", "a", "b", 20)
    assert (data.valid, data.valid_scores) == ("c", "d")
    assert (data.max_length_query, data.max_length_document) == (8, 9)
    assert (made.model.model_name, made.model.dropout) == ("bert", 0.2)
    wanted = KDSettings(
        log_dir="out",
        batch_size=2,
        seed=4,
        save_freq=100,
        total_steps=300,
        accumulation_steps=3,
        learning_rate=1e-4,
        grad_clip=0.5,
        optimizer="adamw",
        warmup_type="Linear",
        warmup_ratio=0.1,
        weight_decay=0.01,
        temperature=2.0,
    )
    assert training == wanted
    assert training.rounds == 3


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["--scheduler", "fixed"], None),
        (["--scheduler", "fixed", "--fixed_lr"], None),
        (["--scheduler", "linear"], "Linear"),
        (["--scheduler", "linear", "--fixed_lr"], "LinearWarmup"),
        ([], "Linear"),
    ],
)
def test_schedules(arguments, kind):
    """The original's default, fixed, ignores the warm-up."""
    assert read(*arguments, "--warmup_steps", "5", "--total_steps", "10").training.warmup_type == kind


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--warmup_steps", "10"], "--warmup_steps 10 needs --total_steps of at least as many"),
        (["--warmup_steps", "10", "--total_steps", "9"], "--warmup_steps 10 needs --total_steps"),
        (["--scheduler_steps", "9", "--total_steps", "10"], "leave it out, or give --total_steps 9"),
        (["--validation_data", "c"], "--validation_data.* go together"),
        (["--temprature", "1"], "unknown argument --temprature; did you mean '--temperature'"),
        (["--set", "training.expectation=exact"], "unknown key 'training.expectation'"),
        (["--optim", "sgd"], "training.optimizer = 'sgd'"),
        (["--dropout", "1"], "model.dropout = 1.0"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, message):
    """A schedule that quietly became another one is found after the training, if at all."""
    with pytest.raises(UserError, match=message):
        read(*arguments)


def test_what_is_needed():
    """The files and the task have no default."""
    for missing, message in (
        (0, r"dataset.task \(--task\) is missing"),
        (2, r"dataset.train \(--train_data\) is missing"),
        (4, r"dataset.train_scores \(--scores_path\) is missing"),
    ):
        with pytest.raises(UserError, match=message):
            read_arguments(KDConfig, "kd", NEEDED[:missing] + NEEDED[missing + 2 :])


def test_shipped_files_are_those_of_the_methods():
    """A file that no command reads, or none for a command."""
    assert {path.name for path in FOLDER.glob("ropg*")} == {"ropg-kd.yml", "ropg-rl.yml"}
