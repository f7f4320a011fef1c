"""LaMP's trainings go on with a run that was killed, as if it had never been."""

import json

import pytest

from companions.lamp.lm.arguments import read_arguments as read_lm
from companions.lamp.lm.settings import TrainConfig
from companions.lamp.lm.task import train_lm
from companions.lamp.ropg.arguments import read_arguments as read_ropg
from companions.lamp.ropg.settings import KDConfig, RLConfig
from companions.lamp.ropg.task import ropg_task
from companions.lamp.rspg.arguments import read_arguments as read_rspg
from companions.lamp.rspg.running import run_rspg
from tests.companions.lamp.lm.made_lms import made
from tests.companions.lamp.ropg.questions import ENCODER, write_files
from tests.companions.lamp.rspg.data import SMALL, write_rows
from tests.companions.resumed import SETTINGS, whole_and_resumed
from tests.trainer.test_resume import assert_equal_runs
from trainer.training import train
from utils.errors import UserError

FLAGS = [f"--set=training.{key}={str(value).lower()}" for key, value in SETTINGS.items()]


def test_a_trained_lm(tmp_path, distributed):
    """An LM whose training was killed differs from one that was not, and so do all answers and feedback after it."""
    lm = made("t5")
    lm.model.config.dropout_rate = 0.1
    lm.save(tmp_path / "start", dict(lm.model.named_parameters()))
    words = ["good", "bad", "slow", "good film", "bad movie"] * 2
    rows = [
        {
            "id": str(number),
            "input": f"review: the film is {word}",
            "profile": [],
            "output": str(len(word) % 5 + 1),
        }
        for number, word in enumerate(words)
    ]
    path = tmp_path / "merged.json"
    path.write_text(json.dumps(rows))
    flags = f"""--task LaMP-3 --max_length 32 --train_data {path} --validation_data {path} --test_data {path}
    --model_name {tmp_path / "start"} --output_dir {tmp_path / "runs"} --generation_max_length 6
    --set training.batch_size=2 --set training.num_epochs=2 --set training.learning_rate=0.01""".split()

    def run(words):
        args, config = read_lm(TrainConfig, "", words, engine_runs=True)
        return train_lm(config, distributed, args.name, resume=args.resume)

    runs = whole_and_resumed(
        lambda: run([*flags, *FLAGS]), lambda begun: run(["--resume", begun]), 8, tmp_path / "runs"
    )
    assert_equal_runs(*reversed(runs))
    results = [(run / "results_output.json").read_text() for run in runs]
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("method", "config", "flags"),
    [
        ("kd", KDConfig, ["--epoch=2"]),
        # rounds that end within a pass
        ("rl", RLConfig, ["--total_steps=8", "--save_freq=4", "--warmup_steps=2", "--scheduler=linear"]),
    ],
    ids=["passes", "rounds"],
)
def test_a_trained_retriever(method, config, flags, tmp_path, distributed):
    """Drawn items, dropout or an order that begins anew train another retriever than the one of the paper's seed."""
    files = write_files(tmp_path, "train", 20, seed=0)
    words = f"""--task LaMP-4 --train_data {files["merged"]} --scores_path {files["scores"]} --ctx_size 4
    --model_path {ENCODER} --checkpoint_dir {tmp_path / "runs"} --per_gpu_batch_size 2 --accumulation_steps 2
    --dropout 0.1 --lr 1e-3""".split()

    def run(words):
        args, made = read_ropg(config, method, words)
        return train(ropg_task(made), distributed, args.name, resume=args.resume)

    runs = whole_and_resumed(
        lambda: run([*words, *flags, *FLAGS]), lambda begun: run(["--resume", begun]), 7, tmp_path / "runs"
    )
    assert_equal_runs(*reversed(runs))


def test_a_trained_scorer_and_its_predictions(tmp_path, distributed):
    """A scorer that went on a little off chooses other strategies, and its predictions are another system's."""
    files = {name: write_rows(tmp_path, name, size, size) for name, size in (("train", 24), ("valid", 7))}
    words = f"""--task LaMP-4 --rspg_type Pre --train_data {files["train"]} --val_data {files["valid"]}
    --model_path {SMALL} --checkpoint_dir {tmp_path / "runs"} --per_gpu_batch_size 4 --max_length_input 32
    --accumulation_steps 1 --dropout 0.1 --epoch 2 --lr 1e-3""".split()

    def run(words):
        args, config = read_rspg(["--do_train", "--do_validation", *words])
        return run_rspg(config, distributed, args.name, args.do_train, args.do_validation, resume=args.resume)

    runs = whole_and_resumed(
        lambda: run([*words, *FLAGS]), lambda begun: run(["--resume", begun]), 9, tmp_path / "runs"
    )
    assert_equal_runs(*reversed(runs))
    predictions = [(run / "predictions" / "final_preds.json").read_bytes() for run in runs]
    assert predictions[0] == predictions[1]
    with pytest.raises(UserError, match="--resume goes on with a training: give --do_train, too"):
        read_rspg(["--do_validation", "--resume", str(runs[0])])
