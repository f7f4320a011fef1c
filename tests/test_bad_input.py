"""The user's mistakes, through the scripts' own `main`: one line that names the thing, and no run folder."""

import importlib
import json
import shutil
import sys

import pytest
from transformers import AutoTokenizer

from tests.conftest import ROOT
from tests.helpers import train
from utils import liveness
from utils.errors import UserError

SPT = str(ROOT / "config/sample/spt.yml")
FINE = "1 your persona: i ski.\n2 hello there .\thi .\n"


@pytest.fixture
def call(monkeypatch, distributed):
    """call(script, *arguments): the message of the UserError that the script ends with."""
    monkeypatch.setattr(liveness, "end_distributed", lambda: None)  # the tests' own group stays

    def run(script, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *arguments])
        with pytest.raises(UserError) as caught:
            importlib.import_module(script).main()
        return str(caught.value)

    return run


@pytest.fixture
def fail(call, data, lm_folder, tmp_path):
    """fail(*arguments): what train.py says, with everything else in order; it must leave no run folder."""

    def run(*arguments, config=SPT):
        settings = {
            "model.model_name": lm_folder("opt"),
            "dataset.train": data["train"],
            "dataset.valid": data["valid"],
        }
        assignments = [f"--set={key}={value}" for key, value in settings.items()]
        log_dir = tmp_path / "runs"
        message = call("train", f"--config={config}", f"--log_dir={log_dir}", *assignments, *arguments)
        assert not log_dir.exists()
        assert "\n" not in message
        return message

    return run


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not found: {path}"),
        ("", "is empty: {path}"),
        ("1 your persona: i ski.\n2 hello there\n", "{path}:2: "),
        (FINE + "hello\tthere\n", "{path}:3: "),
        ("1 your persona: i ski.\n", "{path}"),
    ],
    ids=["missing", "empty", "no response", "no number", "no turn"],
)
@pytest.mark.parametrize("key", ["train", "valid"])
def test_data_files(fail, tmp_path, key, content, message):
    """The release trained on nothing when a file was missing, and skipped what it could not parse."""
    path = tmp_path / "dialogues.txt"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert message.format(path=path) in fail(f"--set=dataset.{key}={path}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set=model.k=3"], "the command line: unknown key 'model.k'; did you mean 'K'?"),
        (["--set=model.K=two"], "the command line: model.K = 'two': input should be a valid integer"),
        (["--set=model.K=0"], "the command line: model.K = 0: input should be greater than or equal to 1"),
        (["--set=model.K=2.5"], "model.K = 2.5"),
        (["--batch=0"], "training.batch_size = 0: input should be greater than or equal to 1"),
        (["--lr=nan"], "training.learning_rate = nan"),
        (["--lr=fast"], "argument --lr: invalid float value: 'fast'; see --help"),
        (["--save_model=perhaps"], "argument --save_model: 'perhaps': use yes or no; see --help"),
        (["--set=model.model_type=selectiv_pt"], "did you mean 'selective_pt'?"),
        (["--set=dataset.format=convai3"], "did you mean 'convai2'?"),
        (["--set=dataset.max_token_length=20"], "persona and last turn alone are "),
        (["--set=model.peft_config.num_virtual_tokens=384"], "leave no room for a text"),
        (["--set=model.model_name=facebook/no-such-model"], "'facebook/no-such-model' is neither a local"),
        (["--ckpt_path=no/run"], "no/run: no checkpoint"),
        (["--warmup_type=Warmup"], "training.warmup_type = 'Warmup'"),
        (["--deepspeed_config=none.json"], "DeepSpeed configuration not found: none.json"),
    ],
)
def test_settings(fail, arguments, message):
    """A setting that is misspelt or out of range and passes costs a whole training."""
    assert message in fail(*arguments)


@pytest.mark.parametrize("way", ["--save_model=no", "--set=training.save_model=false", "yaml"])
def test_decoding_without_a_checkpoint(fail, tmp_path, way):
    """--do_test of a run that keeps no checkpoint: it trained to the end, and failed then."""
    path = tmp_path / "mine.yml"
    path.write_text(
        "training:\n  save_model: false\n" if way == "yaml" else "training: {}\n", encoding="utf-8"
    )
    arguments = [] if way == "yaml" else [way]
    message = fail("--do_test=yes", *arguments, config=path)
    assert message == (
        "--do_test=yes needs the checkpoint that training.save_model: false (--save_model=no) does not keep"
    )


def test_a_misspelt_key_in_the_yaml_file_names_the_file(fail, tmp_path):
    """In the release an unknown key passed, and the default was trained."""
    path = tmp_path / "mine.yml"
    path.write_text("training:\n  learning_rat: 0.1\n", encoding="utf-8")
    message = fail(config=path)
    assert message == f"{path}: unknown key 'training.learning_rat'; did you mean 'learning_rate'?"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"train_micro_batch_size_per_gpu ": 2},
            "unknown key 'train_micro_batch_size_per_gpu '; did you mean",
        ),
        ({"zero_optimization": {"stage": 5}}, "zero_optimization.stage = 5: 0, 1, 2 or 3 is needed"),
    ],
)
def test_the_deepspeed_configuration(fail, tmp_path, content, message):
    """DeepSpeed passes over an unknown key without a word."""
    path = tmp_path / "ds.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert message in fail(f"--deepspeed_config={path}")


def _without(lm, folder, **tokens):
    """A copy of an LM whose tokenizer lacks a token."""
    shutil.copytree(lm, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for name, value in tokens.items():
        setattr(tokenizer, name, value)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_tokenizer_without_eos(fail, lm_folder, tmp_path):
    """Without it a response never ends, and generation runs to its limit every time."""
    lm = _without(lm_folder("opt"), tmp_path / "lm", eos_token=None)
    assert (
        fail(f"--set=model.model_name={lm}") == f"{lm}: the tokenizer has no eos token to end a response with"
    )


def test_a_tokenizer_without_pad_is_no_mistake(make_config, lm_folder, tmp_path, distributed, capsys):
    """Llama 2 has none: eos stands in, which is said, and the targets keep their eos."""
    lm = _without(lm_folder("llama"), tmp_path / "lm", pad_token=None)
    train(make_config(model={"model_name": str(lm)}, training={"training_ratio": 0.1}), distributed, "pad")
    line = "padding with eos: the tokenizer has no pad token; targets are marked by position"
    assert f"automatic choice: {line}" in capsys.readouterr().out


def test_a_log_dir_that_is_a_file(call, data, lm_folder, tmp_path):
    """The folder is made last, so this is found after the model was loaded; it is still one line."""
    blocked = tmp_path / "runs"
    blocked.touch()
    settings = {
        "model.model_name": lm_folder(),
        "dataset.train": data["train"],
        "dataset.valid": data["valid"],
    }
    arguments = [f"--set={key}={value}" for key, value in settings.items()]
    message = call("train", f"--config={SPT}", f"--log_dir={blocked}", *arguments)
    assert message.startswith(f"cannot make the run folder {blocked}/spt_")


@pytest.mark.parametrize("script", ["test", "interactive_test"])
def test_a_folder_without_checkpoint(call, tmp_path, script):
    """Decoding and chat of a folder that holds no run, and of none at all."""
    assert "no checkpoint here" in call(script, f"--model_path={tmp_path}")
    assert call(script, "--model_path=no/folder") == "--model_path no/folder: no such folder"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["test", "--batch_size=0"], "argument --batch_size: '0': a whole number of at least 1 is needed"),
        (["test", "--set=model.K=2"], "has shape [3, 4, 32], the configuration asks for [2, 4, 32]"),
        (["test", "--valid_path=none.txt"], "not found: none.txt"),
        (
            ["test", "--set=model.model_name=no/lm"],
            "tokenizer 'no/lm' is neither a local folder nor reachable",
        ),
        (["interactive_test", "--persona=;"], "--persona ';': no persona line"),
        (["interactive_test", "--valid_path=none.txt"], "not found: none.txt"),
    ],
)
def test_a_good_run_with_bad_settings(call, run_copy, arguments, message):
    """What is wrong with the call is told with the run in order."""
    script, *rest = arguments
    found = call(script, f"--model_path={run_copy}", *rest)
    assert message in found
    assert "\n" not in found
