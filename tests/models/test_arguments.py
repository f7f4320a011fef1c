"""Command-line flags: those of the release are all there, and a misspelt one is an error."""

import argparse

import pytest

from models.arguments import changes_in_name, read_train_arguments, train_flags, train_parser
from models.decoding.arguments import chat_parser, decode_parser
from tests.helpers import SPT
from utils.config.flags import boolean, positive
from utils.errors import UserError
from utils.runs import run_name

TRAIN = """--config=c.yml --batch=2 --lr=0.0001 --bf16=no --num_workers=1 --epoch=3 --seed=5 --grad_clip=0.5
--save_model=yes --shuffle_train=no --training_ratio=0.5 --adding_noise=0.1 --tokenizer_parallel=no --do_test=yes
--exp_name=e --mode=causal --local_rank=1 --selective_loss_weight=0.2 --contrastive_weight=0.3 --log_dir=logs
--warmup_type=WarmupLR --warmup_min=0.01 --warmup_ratio=0.1 --ckpt_path=run --deepspeed
--deepspeed_config ds_config.json""".split()
DECODE = """--model_path=runs --path_pattern=*x* --batch_size=8 --valid_path=v.txt --skip_exists=no
--selection_noise=0.5 --local_rank=0 --deepspeed --deepspeed_config=ds.json""".split()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("true", True),
        ("1", True),
        ("no", False),
        ("false", False),
        ("0", False),
        ("Yes", True),
    ],
)
def test_booleans(text, value):
    """`bool("no")` is True: a flag that was switched off would be on."""
    assert boolean(text) is value


@pytest.mark.parametrize("text", ["", "on", "2", "yess"])
def test_what_is_no_boolean_is_refused(text):
    """A word that means neither must not count as one of them."""
    with pytest.raises(argparse.ArgumentTypeError, match="use yes or no"):
        boolean(text)
    with pytest.raises(UserError, match=r"argument --save_model: .*use yes or no; see --help"):
        train_parser(SPT).parse_args(["--config=x", f"--save_model={text}"])


def test_positive_numbers():
    """A batch of 0 or -1 examples never ends."""
    assert positive("3") == 3
    for text in ["0", "-1", "1.5", "", "x"]:
        with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
            positive(text)


@pytest.mark.parametrize(
    ("parser", "arguments", "message"),
    [
        (train_parser, ["--config=x", "--batchs=2"], "unknown argument --batchs=2; did you mean '--batch'?"),
        (train_parser, ["--config=x", "--save-model=yes"], "--save-model=yes; did you mean '--save_model'?"),
        (train_parser, ["--config=x", "--warmup=1"], "unknown argument --warmup=1; "),
        (train_parser, ["--config=x", "stray"], "unknown argument stray; "),
        (train_parser, [], "the following arguments are required: --config; see --help"),
        (train_parser, ["--config=x", "--lr=fast"], "argument --lr: invalid float value: 'fast'; see --help"),
        (decode_parser, ["--model_pth=x", "--model_path=y"], "--model_pth=x; did you mean '--model_path'?"),
        (decode_parser, ["--model_path=x", "--batch_size=0"], "a whole number of at least 1 is needed"),
        (chat_parser, ["--model_path=x", "--person=y"], "--person=y; did you mean '--persona'?"),
    ],
)
def test_a_misspelt_flag_names_the_nearest(parser, arguments, message):
    """argparse takes `--warmup` for any flag that begins so, and exits with a page of usage otherwise."""
    with pytest.raises(UserError) as caught:
        (parser(SPT) if parser is train_parser else parser()).parse_args(arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_train_takes_every_flag_of_the_release():
    """A command of the release's README that is refused, or whose flag is dropped on the way."""
    args = train_parser(SPT).parse_args(TRAIN)
    assert train_flags(args, SPT) == {
        "training": {
            "batch_size": 2,
            "learning_rate": 0.0001,
            "num_workers": 1,
            "num_epochs": 3,
            "seed": 5,
            "grad_clip": 0.5,
            "save_model": True,
            "shuffle_train": False,
            "training_ratio": 0.5,
            "adding_noise": 0.1,
            "mode": "causal",
            "selective_loss_weight": 0.2,
            "contrastive_weight": 0.3,
            "log_dir": "logs",
            "warmup_type": "WarmupLR",
            "warmup_min": 0.01,
            "warmup_ratio": 0.1,
        }
    }
    assert (args.tokenizer_parallel, args.do_test, args.exp_name) == (False, True, "e")
    assert (args.local_rank, args.ckpt_path) == (1, "run")
    assert (args.deepspeed, args.deepspeed_config) == (True, "ds_config.json")


@pytest.mark.parametrize("flag", ["ckpt_path", "exp_name"])
def test_a_resumed_run_has_its_name_and_start_already(flag, run_copy):
    """Another start that is given and has no effect: the run would pass for one that it is not."""
    with pytest.raises(UserError, match=f"--resume goes on with .*; leave --{flag} out"):
        read_train_arguments([f"--resume={run_copy}", f"--{flag}=x"])


def test_a_flag_left_out_changes_nothing():
    """A parser's default that overrides the YAML file would make the file's value void."""
    args = train_parser(SPT).parse_args(["--config=c.yml"])
    assert train_flags(args, SPT) == {}
    assert train_flags(train_parser(SPT).parse_args(["--config=c.yml", "--bf16=yes"]), SPT) == {
        "model": {"load_bit": "bf16"},
    }


def test_zero_is_a_value():
    """`--grad_clip=0` and `--selective_loss_weight=0` are asked for, not left out."""
    args = train_parser(SPT).parse_args(
        ["--config=c", "--grad_clip=0", "--selective_loss_weight=0", "--seed=0"]
    )
    assert train_flags(args, SPT)["training"] == {"seed": 0, "grad_clip": 0, "selective_loss_weight": 0}


def test_decoding_takes_every_flag_of_the_release():
    """A command of the release's README that is refused."""
    args = decode_parser().parse_args(DECODE)
    assert (args.model_path, args.path_pattern, args.batch_size) == ("runs", "*x*", 8)
    assert (args.valid_path, args.skip_exists, args.selection_noise) == ("v.txt", False, 0.5)
    assert (args.local_rank, args.deepspeed, args.deepspeed_config) == (0, True, "ds.json")
    assert decode_parser().parse_args(["--model_path=x"]).skip_exists


@pytest.mark.parametrize(
    ("flags", "suffix"),
    [
        ("", ""),
        ("--lr=0.0001", "_LR=0.0001"),
        ("--lr=0.01 --selective_loss_weight=0.5 --contrastive_weight=0", "_LR=0.01_SLW=0.5_CTRW=0.0"),
        ("--adding_noise=0.1 --training_ratio=0.3", "_NOISE=0.1_PTRAIN=0.3"),
        ("--training_ratio=1.0 --batch=2 --epoch=1 --save_model=yes", ""),
        ("--warmup_type=WarmupLR", "_WP=WarmupLR@0.05"),
        ("--warmup_type=WarmupLR --warmup_ratio=0.1", "_WP=WarmupLR@0.1"),
        ("--warmup_type=WarmupLR --warmup_ratio=0", "_WP=WarmupLR@0.0"),
        ("--warmup_type=WarmupLR --training_ratio=0.5 --lr=1", "_LR=1.0_PTRAIN=0.5_WP=WarmupLR@0.05"),
    ],
)
def test_the_run_name_says_what_the_command_line_changed(flags, suffix):
    """Two runs that differ on the command line only must not look alike in the log folder."""
    args = train_parser(SPT).parse_args(["--config=config/a.b.yml", *flags.split()])
    assert run_name(args.config, changes_in_name(args, SPT), args.exp_name) == f"a.b{suffix}"
