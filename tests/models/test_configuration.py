"""Configurations: every typo is an error that names the key, the file and the nearest valid key."""

import pytest

from models.arguments import train_flags, train_parser
from models.configuration import build_config, load_config
from models.release.settings import config_from_authors
from tests.helpers import SPT
from utils.config.loading import dump
from utils.errors import UserError

MODEL = "model: {model_name: x}\n"


@pytest.fixture
def load(tmp_path):
    """load(text, *assignments): the configuration in a file of that text."""

    def load(text, *assignments):
        path = tmp_path / "run.yml"
        path.write_text(text, encoding="utf-8")
        return load_config(path, assignments)

    return load


def _message(load, text, *assignments):
    """The error that loading gives, which is one line."""
    with pytest.raises(UserError) as caught:
        load(text, *assignments)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("modle: {}", "modle", "did you mean 'model'?"),
        ("K: 4", "K", "valid: chat, dataset, decoding, model, training"),
        ("model: {modle_name: x}", "model.modle_name", "did you mean 'model_name'?"),
        ("model: {k: 4}", "model.k", "did you mean 'K'?"),
        (
            "model: {peft_config: {num_virtual_token: 8}}",
            "model.peft_config.num_virtual_token",
            "did you mean 'num_virtual_tokens'?",
        ),
        ("model: {retriever: {heads: 8}}", "model.retriever.heads", "did you mean 'n_head'?"),
        (
            "model: {model_type: language_model, init: {archtecture: opt}}",
            "model.init.archtecture",
            "did you mean 'architecture'?",
        ),
        ("training: {learning_rat: 1}", "training.learning_rat", "did you mean 'learning_rate'?"),
        ("dataset: {vaild: x}", "dataset.vaild", "did you mean 'valid'?"),
    ],
)
def test_a_misspelt_key_is_named_with_the_nearest(load, text, key, hint):
    """A misspelt key that passes leaves the default in force, and the run trains with another setting."""
    assert f"run.yml: unknown key '{key}'; {hint}" in _message(load, text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("model: {model_name: x, K: 0}", "model.K = 0: input should be greater than or equal to 1"),
        ("model: {model_name: x, K: '4'}", "model.K = '4': input should be a valid integer"),
        ("model: {model_name: x, K: true}", "model.K = True: input should be a valid integer"),
        ("model: {model_name: x, load_bit: 8}", "model.load_bit = 8: input should be 16, 32 or 'bf16'"),
        ("model: {model_name: 7}", "model.model_name = 7: input should be a valid string"),
        (
            "model: {model_name: x, normalizer_on: [prompts]}",
            "model.normalizer_on = 'prompts': input should be",
        ),
        ("model: {model_name: x, peft_config: {num_virtual_tokens: 0}}", "num_virtual_tokens = 0: input"),
        (
            "model: {model_type: language_model, init: {architecture: opt}}",
            "run.yml: 'model.init.hidden_size' is missing",
        ),
        ("model: [1]", "model = [1]: input should be a valid dictionary"),
        (
            MODEL + "training: {learning_rate: fast}",
            "training.learning_rate = 'fast': input should be a valid",
        ),
        (
            MODEL + "training: {learning_rate: 0}",
            "training.learning_rate = 0.0: input should be greater than 0",
        ),
        (MODEL + "training: {learning_rate: .nan}", "training.learning_rate = nan: input should be"),
        (MODEL + f"training: {{learning_rate: {'9' * 400}}}", "training.learning_rate = "),
        (MODEL + "training: {batch_size: 2.0}", "training.batch_size = 2.0: input should be a valid integer"),
        (MODEL + "training: {seed: -1}", "training.seed = -1: input should be greater than or equal to 0"),
        (
            MODEL + "training: {freeze_persona: 'yes'}",
            "freeze_persona = 'yes': input should be a valid boolean",
        ),
        (MODEL + "training: {adding_noise: no}", "training.adding_noise = False: input should be a valid"),
        (MODEL + "training: {training_ratio: 1.5}", "training.training_ratio = 1.5: input should be less"),
        (
            MODEL + "training: {warmup_type: Warmup}",
            "training.warmup_type = 'Warmup': input should be 'WarmupLR'",
        ),
        (MODEL + "dataset: {max_context_turns: -2}", "dataset.max_context_turns = -2: input should be"),
    ],
)
def test_a_wrong_value_is_named(load, text, fault):
    """A value of the wrong kind that is quietly converted, or fails far from the file that holds it."""
    message = _message(load, text)
    assert fault in message
    assert "run.yml" in message


@pytest.mark.parametrize(
    ("model", "training", "words"),
    [
        ("fidelity: released_code", "rows: dialogue", ["training.rows", "model.fidelity"]),
        ("K: 1", "rows: dialogue, freeze_context: false", ["training.rows", "freeze_context"]),
        ("K: 1", "rows: dialogue, freeze_persona: false", ["training.rows", "freeze_persona"]),
        ("K: 1", "only_nll: true, disable_nll: true", ["only_nll", "disable_nll"]),
        ("prompt_init: text", "seed: 1", ["prompt_init", "prompt_init_text"]),
        ("model_type: language_model", "seed: 1", ["language_model", "model.init"]),
        ("model_name: null", "seed: 1", ["model.model_name is missing"]),
        ("K: 1", "annealing_min: 2", ["annealing_min", "annealing_max"]),
        (
            "model_type: language_model, init: {architecture: opt, hidden_size: 30, num_layers: 1, num_heads: 4, "
            "vocab_size: 300, max_positions: 64}",
            "seed: 1",
            ["hidden_size", "num_heads"],
        ),
    ],
)
def test_contradictions_name_both_keys(load, model, training, words):
    """Two settings that cannot hold together: one of them would be ignored in silence."""
    name = "" if "model_name" in model or "language_model" in model else "model_name: x, "
    message = _message(load, f"model: {{{name}{model}}}\ntraining: {{{training}}}")
    assert "run.yml: " in message
    assert all(word in message for word in words)


@pytest.mark.parametrize("text", ["1e-5", "1.0e-5", "0.00001", "'1e-5'"])
def test_every_spelling_of_a_number_is_one(load, text):
    """YAML 1.1 reads 1e-5 as a text; the learning rate people write must not be refused."""
    rate = load(MODEL + f"training: {{learning_rate: {text}, tau_gold: 1}}").training.learning_rate
    assert isinstance(rate, float)
    assert rate == 1e-5


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("model:\n  K: 2\n  K: 3\n", "run.yml:3: not valid YAML: key 'K' is given twice"),
        ("model: {}\nmodel: {}\n", "run.yml:2: not valid YAML: key 'model' is given twice"),
        ("? [a]\n: b\n", "run.yml:1: not valid YAML: key ['a'] is not a text"),
        ("model: {}\nno: 1\n", "run.yml:2: not valid YAML: key False is not a text"),
        ("a: b: c\n", "run.yml:1: not valid YAML: mapping values are not allowed here"),
        ("a: \x00", "run.yml:1: not valid YAML: unacceptable character"),
        ("- model\n", "run.yml: expected sections with keys, found ['model']"),
        ("# nothing\n", "run.yml: expected sections"),
        ("!!python/object/apply:os.system ['true']\n", "run.yml:1: not valid YAML: could not determine"),
    ],
)
def test_a_broken_file_is_named_with_its_line(load, text, fault):
    """The second of two equal keys wins in plain YAML; a tag can run code in an unsafe loader."""
    assert fault in _message(load, text)


def test_anchors_may_be_merged(load):
    """Refusing duplicates must not refuse `<<`, which a key beside it overrides."""
    config = load(MODEL[:-2] + ", retriever: {<<: {n_head: 2, num_layers: 3}, num_layers: 5}}")
    assert (config.model.retriever.n_head, config.model.retriever.num_layers) == (2, 5)


def test_assignments_are_read_as_yaml(load):
    """`--set` that leaves texts where the schema wants numbers, lists or null."""
    config = load(
        MODEL,
        "model.K=2",
        "model.peft_config.num_virtual_tokens=3",
        "model.normalizer_on=[lm]",
        "training.learning_rate=1e-3",
        "training.contrastive_metric=null",
        "training.freeze_persona=no",
        "training.log_dir=a=b",
    )
    assert (config.model.K, config.model.peft_config.num_virtual_tokens) == (2, 3)
    assert config.model.normalizer_on == ("lm",)
    assert (config.training.learning_rate, config.training.contrastive_metric) == (1e-3, None)
    assert (config.training.freeze_persona, config.training.log_dir) == (False, "a=b")


@pytest.mark.parametrize(
    ("assignment", "fault"),
    [
        ("model.K", "--set model.K: write section.key=value"),
        ("K=2", "--set K=2: write section.key=value"),
        ("model..K=2", "--set model..K=2: write section.key=value"),
        ("model.K=[", "--set model.K=[: the value is not valid YAML: expected the node content"),
        ("model.kk=2", "the command line: unknown key 'model.kk'; did you mean 'K'?"),
        ("modle.K=2", "the command line: unknown key 'modle'; did you mean 'model'?"),
        ("model.K=0", "the command line: model.K = 0"),
        ("model.K.x=3", "the command line: model.K = {'x': 3}"),
    ],
)
def test_a_bad_assignment_is_one_line(load, assignment, fault):
    """A mistake on the command line that is blamed on the file, or passes."""
    assert fault in _message(load, MODEL, assignment)


def test_a_value_is_blamed_on_the_layer_that_won():
    """The file gives the key a valid value too; who is sent there looks for a mistake that is not in it."""
    layers = [("a.yml", {"model": {"model_name": "x", "K": 4}}), ("the command line", {"model": {"K": 0}})]
    with pytest.raises(UserError, match=r"^the command line: model\.K = 0"):
        build_config(layers)


def test_flags_override_set_override_file_override_default(tmp_path):
    """The order of strength: a YAML learning rate that beats --lr is what the release got wrong, reversed."""
    path = tmp_path / "run.yml"
    path.write_text(
        "model: {model_name: x, peft_config: {num_virtual_tokens: 5}}\n"
        "training: {batch_size: 2, num_epochs: 2, learning_rate: 2}"
    )
    args = train_parser(SPT).parse_args(
        [
            "--config",
            str(path),
            "--set",
            "training.num_epochs=3",
            "--set",
            "training.learning_rate=3",
            "--lr=4",
        ]
    )
    config = load_config(path, args.assignments, train_flags(args, SPT))
    training = config.training
    assert (training.seed, training.batch_size, training.num_epochs, training.learning_rate) == (
        3407,
        2,
        3,
        4,
    )
    assert (config.model.peft_config.num_virtual_tokens, config.model.K) == (5, 4)


def test_a_resolved_configuration_is_its_own_source(load):
    """The config.yml of a run folder that does not read back the same cannot repeat the run."""
    config = load(
        MODEL, "model.prompt_init_text='née: \u2028 #'", "training.tau_gold=1e-7", "model.load_bit=bf16"
    )
    assert config.training.tau_gold == 1e-7
    assert load(dump(config)) == config


def test_the_authors_blanks_are_no_settings():
    """A DotMap leaves `{}` behind for every key that was asked for; none of them may reach the schema."""
    content = {
        "model": {
            "model_name": "opt-tiny",
            "K": 2,
            "peft_config": {"num_virtual_tokens": 3},
            "generator_type": {},
            "retriever": {"retriever_type": {}, "retriever_on": {}},
        },
        "training": {
            "learning_rate": 0.5,
            "adding_noise": {},
            "warmup_steps": {},
            "only_nll": {},
            "num_epoch": 1,
        },
        "dataset": {"train": "t.txt", "valid": "v.txt"},
        "exp_name": "x",
    }
    config = config_from_authors(content, "checkpoint_best.pth", ("the command line", {"model": {"K": 3}}))
    assert (config.model.fidelity, config.model.K) == ("released_code", 3)
    assert config.model.retriever.retriever_type is None
    assert (config.training.learning_rate, config.training.adding_noise) == (0.5, None)
    assert (config.training.only_nll, config.dataset.valid) == (False, "v.txt")
    with pytest.raises(UserError, match=r"checkpoint_best\.pth: model\.K = 0"):
        config_from_authors({"model": {"model_name": "x", "K": 0}}, "checkpoint_best.pth")


def test_a_configuration_needs_no_file():
    """Code that builds a configuration gets the same defaults and checks as a file."""
    config = build_config([("here", {"model": {"model_name": "x"}})])
    assert config.model.model_name == "x"
    with pytest.raises(UserError, match="there: unknown key 'model.kk'"):
        build_config([("here", {"model": {"model_name": "x"}}), ("there", {"model": {"kk": 1}})])
