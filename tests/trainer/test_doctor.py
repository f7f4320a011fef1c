"""The doctor on whole configurations; each fault is planted."""

import re
import shutil
import subprocess
import sys

import pytest
import yaml

from tests.conftest import ROOT, TRAIN, VALID, head_of
from trainer import checkup
from trainer.doctor import examine
from utils.findings import WIDTH, Report


@pytest.fixture
def doctor(data, lm_folder, tmp_path, monkeypatch):
    """The report on the small configuration, as one text, and the exit status: doctor("--batch=2", train=FILE)."""
    monkeypatch.setattr(checkup, "_BUDGET", 0.0)

    def run(*flags, lm=None, model=None, **dataset):
        content = {
            "model": {
                "model_name": str(lm or lm_folder("opt")),
                "K": 3,
                "peft_config": {"num_virtual_tokens": 4},
            },
            "training": {"batch_size": 4, "log_dir": str(tmp_path / "runs")},
            "dataset": {name: str(path) for name, path in data.items()},
        }
        content["model"] |= model or {}
        content["dataset"] |= dataset
        path = tmp_path / "config.yml"
        path.write_text(yaml.safe_dump(content))
        lines = []
        status = examine([f"--config={path}", *flags], Report(lambda text: lines.extend(text.splitlines())))
        assert max(len(line) for line in lines if str(tmp_path) not in line) <= WIDTH
        assert not (tmp_path / "runs").exists()
        return re.sub(r"\s+", " ", "\n".join(lines)), status

    return run


def test_a_good_configuration_passes(doctor):
    """A doctor that finds faults where there are none is not asked again."""
    text, status = doctor()
    assert status == 0, text
    for words in (
        "12 dialogues",
        "parameters are trained",
        "real steps",
        "on one rank",
        "libraries",
        "`latest` and `best`",
    ):
        assert words in text
    assert "FAIL" not in text


def test_steps_are_those_of_the_training(doctor, make_config, distributed):
    """The hours are steps times their length: an epoch of other batches than the training's is another time."""
    from models.reading import make_loader
    from models.registry import build_tokenizer

    config = make_config()
    loader = make_loader(config.dataset.train, build_tokenizer(config), config, train=True)
    text, _ = doctor("--epoch=3")
    assert (
        f"{3 * len(loader):,} on one rank: {len(loader):,} batches of up to 4 in each of 3 epoch(s)" in text
    )


def test_mistakes_are_those_of_train_py(doctor, tmp_path):
    """A configuration that the doctor lets through and train.py refuses, or the other way round."""
    text, status = doctor(model={"modle_name": "x"})
    assert (status, "did you mean 'model_name'?" in text) == (1, True)
    text, status = doctor("--lr=fast")
    assert (status, "--lr" in text) == (1, True)
    (tmp_path / "ds.json").write_text('{"zero_optimisation": {}}')
    text, status = doctor("--deepspeed_config", str(tmp_path / "ds.json"))
    assert (status, "did you mean 'zero_optimization'?" in text) == (1, True)


def test_overlapping_files_are_a_warning(doctor, data):
    """Validation on what was trained on chooses the checkpoint that remembers most."""
    text, status = doctor(valid=str(data["train"]))
    assert status == 0
    assert "warn overlap 12 of the 12 dialogues" in text
    assert "have a persona of training" in text


def test_truncated_examples_are_told(doctor):
    """Half of the context is gone, and nobody knows why the replies are of no dialogue."""
    text, status = doctor(max_token_length=180)
    assert status == 0
    assert "lose their oldest turns" in text
    text, status = doctor(max_token_length=40)
    assert (status, "do not fit at all" in text) == (1, True)
    assert "train.txt:" in text


def test_a_missing_model_and_file_fail(doctor, tmp_path):
    """Each is found out at another time of a training's start; here both at once."""
    text, status = doctor(lm="/no/such/model", train=str(tmp_path / "gone.txt"))
    assert status == 1
    assert "FAIL base LM" in text
    assert "FAIL file dialogue file not found" in text
    assert "4 dialogues" in text  # of the other file, which is looked at all the same


def test_too_little_memory_fails(doctor, monkeypatch):
    """The container's limit is found out when the run is killed, without a word."""
    monkeypatch.setattr(checkup, "available_memory", lambda: 2**10)
    text, status = doctor()
    assert status == 1
    assert "FAIL memory" in text
    assert "--batch" in text


def test_a_full_disk_fails(doctor, monkeypatch):
    """The first checkpoint is the first to find the disk full, an epoch later."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**40, 2**40, 0))
    text, status = doctor()
    assert status == 1
    assert "FAIL log_dir" in text


def test_an_lm_from_scratch_is_estimated_too(doctor):
    """The first configuration of all, which makes its LM, would be the one that cannot be checked."""
    path = ROOT / "config" / "sample" / "base-lm.yml"
    lines = []
    report = Report(lambda text: lines.extend(text.splitlines()))
    status = examine([f"--config={path}", f"--set=dataset.train={VALID}"], report)
    text = "\n".join(lines)
    assert status == 0, text
    assert "made from scratch" in text
    assert "weights 0" not in text


def test_configurations_of_other_commands_are_named(capsys):
    """A configuration of LaMP would be called full of unknown keys."""
    assert examine([f"--config={ROOT / 'config' / 'lamp' / 'ropg-kd.yml'}"]) == 1
    out = capsys.readouterr().out
    assert "python -m companions.lamp.ropg.train_kd" in out


@pytest.mark.long
@pytest.mark.parametrize(("family", "batch_size"), [("opt", 4), ("llama", 32)])
def test_the_estimate_of_memory_is_near_what_a_run_takes(lm_folder, tmp_path, family, batch_size):
    """An estimate that is half of the truth lets a run start that is killed in its first hour."""
    train, valid = tmp_path / "train.txt", tmp_path / "valid.txt"
    train.write_text(head_of(TRAIN, 40), encoding="utf-8")
    valid.write_text(head_of(VALID, 4), encoding="utf-8")
    config = tmp_path / "config.yml"
    content = {
        "model": {
            "model_name": str(lm_folder(family)),
            "K": 4,
            "peft_config": {"num_virtual_tokens": 4},
        },
        "training": {"batch_size": batch_size, "log_dir": str(tmp_path / "runs")},
        "dataset": {"train": str(train), "valid": str(valid)},
    }
    config.write_text(yaml.safe_dump(content))
    told = subprocess.run(
        [sys.executable, "-m", "utils.doctor", f"--config={config}"], capture_output=True, text=True, cwd=ROOT
    ).stdout
    number, unit = re.search(r"about ([\d.]+) (MiB|GiB) of", told).groups()
    estimate = float(number) * {"MiB": 2**20, "GiB": 2**30}[unit]
    code = (
        "import runpy, sys; sys.argv[0] = 'train.py'\n"
        "try:\n    runpy.run_path('train.py', run_name='__main__')\n"
        "finally:\n    from utils.resources import peak_memory; print('peak', peak_memory())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, f"--config={config}"], capture_output=True, text=True, cwd=ROOT
    ).stdout
    peak = int(re.search(r"peak (\d+)", run)[1])
    assert 0.8 * peak < estimate < 1.2 * peak, (estimate / 2**20, peak / 2**20)
