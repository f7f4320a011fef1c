"""The command lines: the original's flags and defaults, and the configurations in config/lamp."""

import pytest

from companions.lamp.lm.arguments import read_arguments
from companions.lamp.lm.settings import (
    EvaluationConfig,
    ItemFeedbackConfig,
    RetrieverFeedbackConfig,
    TrainConfig,
)
from tests.conftest import ROOT
from utils.errors import UserError

FILES = {
    "train-llm.yml": (TrainConfig, "--train_data a --validation_data b --output_dir o"),
    "evaluate-llm.yml": (EvaluationConfig, "--validation_data a --output_dir o"),
    "item-feedback.yml": (ItemFeedbackConfig, "--train_data a --output_dir o"),
    "retriever-feedback.yml": (RetrieverFeedbackConfig, "--data_addr a --output_dir o"),
}
ORIGINALS = [
    (
        TrainConfig,
        "--train_data a --validation_data b --test_data c --model_name m --task LaMP-3 --output_dir o --retriever "
        "recency --use_profile --is_ranked --max_length 300 --generation_max_length 100 --per_device_batch_size 8 "
        "--learning_rate 1e-4 --weight_decay 0.01 --num_train_epochs 3 --lr_scheduler_type linear --warmup_ratio 0.1 "
        "--generation_num_beams 2 --num_retrieved 4 --gradient_accumulation_steps 2 --cache_dir x",
    ),
    (
        EvaluationConfig,
        "--validation_data a --model_addr m --task LaMP-3 --output_dir o --use_profile --max_length 300 "
        "--generation_max_length 100 --per_device_batch_size 8 --generation_num_beams 2 --num_retrieved 2 --retriever "
        "bm25 --is_ranked --cache_dir x",
    ),
    (
        ItemFeedbackConfig,
        "--train_data a --model_name m --task LaMP-3 --output_dir o --max_length 300 --generation_max_length 100 "
        "--per_device_batch_size 8 --generation_num_beams 2 --cache_dir x --start_index 5 --end_index 9 "
        "--profile_size 3",
    ),
    (
        RetrieverFeedbackConfig,
        "--data_addr a --model_name m --task LaMP-3 --output_dir o --use_profile --max_length 300 "
        "--generation_max_length 100 --generation_num_beams 2 --num_retrieved 2 --retriever bm25 --is_ranked "
        "--cache_dir x",
    ),
]


def read(config, line):
    """The configuration of a command line."""
    return read_arguments(config, "", line.split(), engine_runs=config is TrainConfig)[1]


@pytest.mark.parametrize(("config", "line"), ORIGINALS)
def test_the_originals_flags(config, line):
    """A flag that is read into nothing: people's own scripts run with other settings than they say."""
    made = read(config, line)
    assert made.model.model_name == "m"
    assert made.dataset.task == "LaMP-3"
    assert (made.dataset.max_length, made.generation.max_length, made.generation.num_beams) == (300, 100, 2)
    if config is ItemFeedbackConfig:
        assert (made.dataset.start_index, made.dataset.end_index, made.dataset.profile_size) == (5, 9, 3)
    else:
        assert made.dataset.use_profile is True
        assert made.dataset.is_ranked is True
    if config in (EvaluationConfig, ItemFeedbackConfig):
        assert made.generation.batch_size == 8
    if config is TrainConfig:
        training = made.training
        assert (training.learning_rate, training.weight_decay, training.warmup_ratio) == (1e-4, 0.01, 0.1)
        assert (training.num_epochs, training.batch_size, training.accumulation_steps) == (3, 8, 2)
        assert (training.warmup_type, training.log_dir, made.dataset.retriever) == ("Linear", "o", "recency")


def test_the_originals_defaults():
    """Another default is another experiment under the same command."""
    made = read(TrainConfig, "--train_data a --validation_data b --model_name m --task LaMP-3 --output_dir o")
    training = made.training
    assert (training.learning_rate, training.weight_decay, training.warmup_ratio) == (5e-5, 1e-4, 0.05)
    assert (training.num_epochs, training.batch_size, training.warmup_type) == (10, 16, "Linear")
    assert (made.dataset.max_length, made.generation.max_length, made.generation.num_beams) == (256, 128, 4)
    made = read(ItemFeedbackConfig, "--train_data a --model_name m --task LaMP-3 --output_dir o")
    assert (made.dataset.max_length, made.dataset.start_index, made.dataset.end_index) == (512, 0, -1)
    made = read(RetrieverFeedbackConfig, "--data_addr a --model_name m --task LaMP-3 --output_dir o")
    assert (made.dataset.max_length, made.dataset.num_retrieved, made.dataset.use_profile) == (256, 4, False)


@pytest.mark.parametrize("name", FILES)
def test_the_configurations(name):
    """A file with a key that is gone fails when somebody starts hours of work with it."""
    config, line = FILES[name]
    made = read(config, f"--config {ROOT / 'config' / 'lamp' / name} --task LaMP-3 {line}")
    assert made.dataset.num_retrieved == 4
    assert made.generation.num_beams == 4


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--task LaMP-3 --output_dir o --validation_data a", "model.model_name is missing"),
        ("--model_addr m --output_dir o --validation_data a", r"dataset.task \(--task\) is missing"),
        ("--model_addr m --task LaMP-3 --output_dir o", r"dataset.valid \(--validation_data\) is missing"),
        ("--model_addr m --output_dir o --use_profiles", "did you mean '--use_profile'"),
        ("--model_addr m --task LaMP-3 --validation_data a", "--output_dir"),
    ],
)
def test_mistakes_are_one_line(line, words):
    """A mistake that is found after the LM is loaded costs minutes."""
    with pytest.raises(UserError, match=words):
        read(EvaluationConfig, line)
