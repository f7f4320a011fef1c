"""Each model type has its own keys; one of another type is an error wherever it is written."""

import itertools
import json

import pytest
import yaml

from models.arguments import train_parser
from models.configuration import build_config, load_config
from models.decoding.settings import ChatSettings, DecodingSettings
from models.registry import MODEL_TYPES, model_type
from tests.helpers import train
from utils.config.flags import flagged_keys
from utils.config.loading import dump, read_layers
from utils.config.schema import keys_of, nested
from utils.errors import UserError

KEYS = {name: dict(keys_of(model_type(name).config_class())) for name in MODEL_TYPES}
OWN = {  # enough for a valid configuration
    name: {"model.init": None} if name == "language_model" else {"model.model_name": "x"}
    for name in MODEL_TYPES
}
INIT = {
    "architecture": "opt",
    "hidden_size": 8,
    "num_layers": 1,
    "num_heads": 2,
    "vocab_size": 300,
    "max_positions": 64,
}
OWN["language_model"] = {f"model.init.{key}": value for key, value in INIT.items()}
FOREIGN = [
    (name, key, [other for other in MODEL_TYPES if key in KEYS[other]])
    for name in MODEL_TYPES
    for key in dict.fromkeys(itertools.chain(*KEYS.values()))
    if key not in KEYS[name]
]


def of_type(name, **more):
    """The content of a configuration of a model type."""
    return nested({"model.model_type": name, **OWN[name], **more})


def message(call, *arguments):
    """The one line of an error."""
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_there_are_keys_to_try():
    """An empty list would leave nothing to test, unseen."""
    assert len(FOREIGN) > 100
    assert {name for name, _, _ in FOREIGN} == set(MODEL_TYPES)


def test_a_key_of_another_type_is_an_error_in_a_file(tmp_path):
    """`model_type: lora` with `K: 9` trains LoRA, and its author believes that nine prompts were trained."""
    own, top = tmp_path / "own.yml", tmp_path / "top.yml"
    for name, key, types_with_key in FOREIGN:
        own.write_text(yaml.safe_dump(of_type(name)), encoding="utf-8")
        load_config(own)
        top.write_text(yaml.safe_dump({"base": "own.yml"} | nested({key: 1})), encoding="utf-8")
        where, _, named = message(load_config, top).partition(
            f": model_type {name} has no such key; it is one of "
        )
        # the whole section is named where the type has none of its keys, such as `model.init`
        assert where.startswith(f"{top}: unknown key '")
        assert key.startswith(where.removeprefix(f"{top}: unknown key '").removesuffix("'"))
        assert set(types_with_key) <= set(named.split(", ")), (name, key)


def test_a_key_of_another_type_is_an_error_on_the_command_line(tmp_path):
    """--set must not be the way around the check."""
    path = tmp_path / "own.yml"
    path.write_text(yaml.safe_dump(of_type("lora")), encoding="utf-8")
    found = message(load_config, path, ["model.K=9"])
    assert found == (
        "the command line: unknown key 'model.K': model_type lora has no such key; it is one of selective_pt, "
        "routed_prompts"
    )
    found = message(load_config, path, ["model.peft_config.num_virtual_tokens=9"])
    assert "it is one of selective_pt, prompt_tuning, prefix_tuning" in found
    load_config(path, ["model.peft_config.r=4"])


def test_the_files_own_keys_become_foreign_with_another_type(tmp_path):
    """Another type by --set, on a file of SPT's: the keys that nothing reads any more are told with their file."""
    path = tmp_path / "spt.yml"
    path.write_text(yaml.safe_dump(of_type("selective_pt", **{"model.K": 2})), encoding="utf-8")
    assert "spt.yml: unknown key 'model.K': model_type lora" in message(
        load_config, path, ["model.model_type=lora"]
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("lorra", "'lorra'; did you mean 'lora'?"),
        ("LORA", "'LORA'; did you mean 'lora'?"),
        ("selective-pt", "'selective-pt'; did you mean 'selective_pt'?"),
        ("gpt", f"'gpt'; valid: {', '.join(sorted(MODEL_TYPES))}"),
        (["lora"], "['lora']: a name is needed"),
        ({"lora": 1}, "{'lora': 1}: a name is needed"),
        (7, "7: a name is needed"),
    ],
)
def test_a_model_type_that_is_none_names_the_nearest(tmp_path, name, hint):
    """`lorra` passed, and failed when the model was built, after the data had been read."""
    base, path = tmp_path / "base.yml", tmp_path / "own.yml"
    base.write_text(yaml.safe_dump(of_type("lora")), encoding="utf-8")
    path.write_text(yaml.safe_dump({"base": "base.yml", "model": {"model_type": name}}), encoding="utf-8")
    assert f"{path}: model.model_type = {hint}" in message(load_config, path)
    assignment = f"model.model_type={json.dumps(name)}"
    assert f"the command line: model.model_type = {hint}" in message(load_config, base, [assignment])


def test_no_type_at_all_is_spt_and_null_is_an_error(tmp_path):
    """The released files' type is the default; a blank one is a slip, and not a wish for SPT."""
    assert build_config([("here", {"model": {"model_name": "x"}})]).model.model_type == "selective_pt"
    found = message(build_config, [("here", {"model": {"model_name": "x", "model_type": None}})])
    assert found.startswith("here: model.model_type = None: ")


@pytest.mark.parametrize("name", MODEL_TYPES)
def test_each_type_has_flags_of_its_own_names(name):
    """Two keys of one script under one flag: the parser cannot be made, or one value goes to both."""
    config = model_type(name).config_class()
    train_parser(config)
    flags = [
        flagged.flag.name
        for flagged in flagged_keys(config)
        if flagged.key.split(".")[0] not in ("decoding", "chat")
    ]
    assert len(flags) == len(set(flags))
    for section in (DecodingSettings, ChatSettings):
        names = [flagged.flag.name for flagged in flagged_keys(section)]
        assert len(names) == len(set(names)) == len(section.model_fields)


@pytest.mark.parametrize("name", MODEL_TYPES)
def test_every_key_says_what_it_means(name):
    """--help and the documentation are made of these sentences; a key without one is a name alone."""
    config = model_type(name).config_class()
    text = " ".join(train_parser(config).format_help().split())
    for key, field in keys_of(config):
        assert field.description, key
    for flagged in flagged_keys(config):
        if flagged.key.split(".")[0] in ("model", "training", "dataset"):
            assert " ".join(flagged.field.description.split()) in text, flagged.key


@pytest.mark.parametrize("name", MODEL_TYPES)
def test_a_configuration_is_frozen(name):
    """A precision that is changed on the way is not the one in the run's config.yml."""
    config = build_config([("here", of_type(name))])
    for key in KEYS[name]:
        *path, last = key.split(".")
        section = config
        for part in path:
            section = getattr(section, part)
            if section is None:  # such as `model.init` of a type that has none
                break
        else:
            with pytest.raises(ValueError, match="frozen"):
                setattr(section, last, getattr(section, last))
            assert not isinstance(getattr(section, last), list | dict | set), key


@pytest.mark.parametrize("name", MODEL_TYPES)
def test_what_is_saved_reads_back_with_the_types_own_keys(name, tmp_path):
    """A config.yml with the keys of other types is refused where it is read back."""
    config = build_config([("here", of_type(name))])
    path = tmp_path / "config.yml"
    path.write_text(dump(config), encoding="utf-8")
    assert load_config(path) == config
    [(_, content)] = read_layers(path)
    assert content["model"].keys() == type(config).model_fields["model"].annotation.model_fields.keys()
    assert content["training"].keys() == type(config).model_fields["training"].annotation.model_fields.keys()


def test_a_new_run_writes_its_own_keys_alone(make_config, distributed):
    """Keys that had no effect stood in every run folder, as if they had been part of the experiment."""
    run = train(make_config("opt", model={"model_type": "lora"}), distributed, "lora")
    [(_, content)] = read_layers(run / "config.yml")
    assert sorted(content) == ["chat", "dataset", "decoding", "model", "training"]
    assert sorted(content["model"]) == [
        "fidelity",
        "gradient_checkpointing",
        "load_bit",
        "model_name",
        "model_type",
        "peft_config",
        "tf32",
    ]
    assert sorted(content["model"]["peft_config"]) == ["lora_alpha", "lora_dropout", "r"]
    assert not {"tau_gold", "ensemble", "skip_retrieval"} & content["training"].keys()
