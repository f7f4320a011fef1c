"""The command line of train.py is read twice: the configuration's model type says which flags there are."""

import pytest
import yaml

from models.arguments import read_train_arguments
from models.configuration import load_config
from tests.conftest import ROOT
from tests.models.decoding.test_old_runs import FOLDERS, MODEL_TYPES
from utils.errors import UserError


@pytest.fixture
def file_of(tmp_path):
    """file_of(model_type): a configuration of that type."""

    def make(name):
        path = tmp_path / f"{name}.yml"
        path.write_text(f"model: {{model_type: {name}, model_name: x}}\ntraining: {{batch_size: 7}}\n")
        return str(path)

    return make


def message(*arguments):
    """The one line of an error."""
    with pytest.raises(UserError) as caught:
        read_train_arguments(arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_flag_of_another_type_is_unknown(file_of):
    """`--adding_noise` on a LoRA run changes nothing but the run's name, which then claims noise."""
    found = message(f"--config={file_of('lora')}", "--adding_noise=0.1")
    assert found == (
        "unknown argument --adding_noise=0.1: model_type lora has no such flag; it is one of selective_pt"
    )
    _, config = read_train_arguments([f"--config={file_of('selective_pt')}", "--adding_noise", "0.1"])
    assert config.training.adding_noise == 0.1


def test_a_flag_of_no_type_names_the_nearest(file_of):
    """Which types have it is no help for a typo."""
    found = message(f"--config={file_of('lora')}", "--batchs=1")
    assert found == "unknown argument --batchs=1; did you mean '--batch'?"


def test_the_type_of_the_command_line_decides(file_of):
    """The flags of the file's type would be taken, and those of the type that is trained refused."""
    path = file_of("lora")
    _, config = read_train_arguments(
        ["--config", path, "--set", "model.model_type=selective_pt", "--adding_noise=0.1", "--batch=3"]
    )
    assert (config.model.model_type, config.training.adding_noise) == ("selective_pt", 0.1)
    assert config.training.batch_size == 3
    found = message(
        f"--config={file_of('selective_pt')}", "--set=model.model_type=lora", "--selective_loss_weight=1"
    )
    assert "unknown argument --selective_loss_weight=1: model_type lora has no such flag" in found


def test_the_configuration_is_what_the_command_line_says(file_of):
    """A configuration from the first reading would lack the flags of the second."""
    args, config = read_train_arguments(
        [f"--config={file_of('lora')}", "--set", "training.seed=1", "--set=training.num_epochs=2", "--seed=5"]
    )
    assert (config.training.seed, config.training.num_epochs, config.training.batch_size) == (5, 2, 7)
    assert args.assignments == ["training.seed=1", "training.num_epochs=2"]
    assert read_train_arguments([f"--config={file_of('lora')}", "--bf16=yes"])[1].model.load_bit == "bf16"


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ([], "the following arguments are required: --config; see --help"),
        (["--lr=1"], "the following arguments are required: --config; see --help"),
        (["--config"], "argument --config: expected one argument; see --help"),
        (["--config=none.yml"], "configuration not found: none.yml"),
        (["--config=none.yml", "--lrr=1"], "configuration not found: none.yml"),
        (["--config="], "configuration is a folder, a file is needed: ."),
        (["--config=config"], "configuration is a folder, a file is needed: "),
        (["--config=c.yml", "--set"], "argument --set: expected one argument; see --help"),
        (["--confg=none.yml"], "required: --config"),
    ],
)
def test_a_wrong_config_is_one_line(arguments, fault, monkeypatch):
    """The two readings must fail as one would."""
    monkeypatch.chdir(ROOT)
    assert fault in message(*arguments)


@pytest.mark.parametrize("name", ["lora", "selective_pt"])
def test_help_shows_the_flags_of_the_types_own(file_of, capsys, name):
    """Help with the flags of another type promises what is refused."""
    with pytest.raises(SystemExit) as done:
        read_train_arguments([f"--config={file_of(name)}", "--help"])
    text = capsys.readouterr().out
    assert not done.value.code
    assert "--batch " in text
    assert ("--adding_noise" in text) == (name == "selective_pt")


@pytest.mark.parametrize("config", ["none.yml", "lorra.yml", "broken.yml"])
def test_help_needs_no_valid_configuration(tmp_path, capsys, config):
    """Whoever asks for help while the configuration is wrong was told about the configuration alone."""
    (tmp_path / "lorra.yml").write_text("model: {model_type: lorra}\n")
    (tmp_path / "broken.yml").write_text("a: b: c\n")
    for flag in ("--help", "-h"):
        with pytest.raises(SystemExit) as done:
            read_train_arguments([f"--config={tmp_path / config}", flag])
        assert not done.value.code
        assert "--adding_noise" in capsys.readouterr().out


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("name", MODEL_TYPES)
def test_an_old_runs_configuration_can_be_trained_again(version, name, tmp_path):
    """It holds the keys of every model type, which are refused today: no old run could be repeated or extended."""
    path = FOLDERS / version / name / "config.yml"
    _, config = read_train_arguments([f"--config={path}", "--lr=0.5"])
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert (config.model.model_type, config.training.learning_rate) == (MODEL_TYPES[name], 0.5)
    kept = config.model_dump()
    for section in ("model", "training", "dataset"):
        for key, value in content[section].items():
            if key in kept[section] and key not in ("learning_rate", "peft_config"):
                found = kept[section][key]
                assert (list(found) if isinstance(found, tuple) else found) == value or isinstance(
                    found, dict
                ), key
    # as a base, and as a copy under another name
    copy = tmp_path / "copy.yml"
    copy.write_bytes(path.read_bytes())
    own = tmp_path / "own.yml"
    for base in (path, copy):
        own.write_text(f"base: {base}\ntraining: {{learning_rate: 0.5}}\n")
        assert load_config(own) == config


def changed(tmp_path, section, key):
    """The configuration of an old LoRA run with one more key."""
    content = yaml.safe_load((FOLDERS / "v2" / "lora" / "config.yml").read_text(encoding="utf-8"))
    content[section][key] = 9
    path = tmp_path / "config.yml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_a_key_that_no_type_has_is_an_error_in_an_old_run_too(tmp_path):
    """Leaving out what is unknown would leave out the typos as well."""
    found = message(f"--config={changed(tmp_path, 'model', 'KK')}")
    assert found.startswith(f"{tmp_path / 'config.yml'}: unknown key 'model.KK'")
    assert "unknown key 'training.learning_rat'; did you mean" in message(
        f"--config={changed(tmp_path, 'training', 'learning_rat')}"
    )


def test_a_key_of_another_type_is_an_error_in_a_new_run(tmp_path, file_of):
    """A run folder of today has its own keys alone: `K` in a LoRA run is a mistake of the one who edited it."""
    path = tmp_path / "config.yml"
    (tmp_path / "trained.safetensors").write_bytes(b"x")
    path.write_text("model: {model_type: lora, model_name: x, K: 9}\n")
    assert "config.yml: unknown key 'model.K': model_type lora has no such key" in message(f"--config={path}")
