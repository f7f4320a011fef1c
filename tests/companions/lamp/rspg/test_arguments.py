"""The original's flags of rspg, as keys of the configuration."""

import pytest

from companions.lamp.rspg.arguments import read_arguments
from companions.lamp.rspg.rspg import parser
from utils.errors import UserError

NEEDED = "--task LaMP-3 --rspg_type Post --train_data a --val_data b --val_lamp_golds c --do_train".split()
ORIGINAL = """train_data val_data rspg_type val_lamp_golds do_filtering task do_train do_validation max_length_input
name checkpoint_dir model_path per_gpu_batch_size local-rank main_port seed eval_freq save_freq eval_print_freq
warmup_steps total_steps scheduler_steps accumulation_steps dropout lr clip optim scheduler weight_decay temperature
fixed_lr""".split()


def test_every_flag_of_the_original_is_there():
    """A command of the paper's authors that stops at an unknown flag."""
    flags = {flag for action in parser()._actions for flag in action.option_strings}
    assert {f"--{name}" for name in ORIGINAL} <= flags


def test_the_shipped_file_has_the_papers_values():
    """The original's defaults are others: a constant rate, one question per batch, 512 tokens, 1000 steps."""
    _, made = read_arguments(NEEDED)
    training = made.training
    assert (training.learning_rate, training.num_epochs, training.grad_clip) == (1e-5, 20, 1.0)
    assert (training.warmup_type, training.warmup_ratio) == ("Linear", 0.05)
    assert training.batch_size * training.accumulation_steps == 64
    assert (training.optimizer, training.temperature, training.label_temperature) == ("adam", 1.0, 1.0)
    assert (made.model.model_name, made.model.fidelity) == ("allenai/longformer-base-4096", "paper")
    assert made.dataset.max_length_input == 1024


def test_flags_become_keys():
    """A flag that is accepted and read by nothing is a setting that never was."""
    args, made = read_arguments(
        [
            *NEEDED,
            *"""--max_length_input 99 --name run --checkpoint_dir out --model_path scorer --per_gpu_batch_size 2
            --eval_freq 100 --save_freq 7 --total_steps 300 --warmup_steps 30 --temperature 2 --dropout 0.2
            --label_temperature 3 --lr 1e-4 --scheduler linear --do_filtering --do_validation""".split(),
        ]
    )
    assert (args.name, args.do_train, args.do_validation) == ("run", True, True)
    data, training = made.dataset, made.training
    assert (data.task, data.rspg_type, data.train, data.valid, data.valid_golds) == (
        "LaMP-3",
        "Post",
        "a",
        "b",
        "c",
    )
    assert (data.max_length_input, made.model.model_name, made.model.dropout) == (99, "scorer", 0.2)
    assert (training.log_dir, training.batch_size, training.total_steps, training.rounds) == (
        "out",
        2,
        300,
        3,
    )
    assert (training.temperature, training.label_temperature, training.warmup_ratio) == (2.0, 3.0, 0.1)


def test_no_model_path():
    """The original's default is the word none."""
    assert (
        read_arguments([*NEEDED, "--model_path", "none"])[1].model.model_name
        == "allenai/longformer-base-4096"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (NEEDED[:-1], "nothing to do: give --do_train, --do_validation or both"),
        (NEEDED[2:], r"dataset.task \(--task\) is missing"),
        ([*NEEDED[:2], *NEEDED[4:]], r"dataset.rspg_type \(--rspg_type\) is missing"),
        ([*NEEDED, "--rspg_type", "post"], "dataset.rspg_type = 'post'"),
        ([*NEEDED, "--temprature", "1"], "did you mean '--temperature'"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, message):
    """In the original anything but Post is Pre, a misspelt Post too."""
    with pytest.raises(UserError, match=message):
        read_arguments(arguments)
