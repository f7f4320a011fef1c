"""The configuration files that are shipped: valid, launchable, and holding the released settings."""

import shlex

import pytest

from models.arguments import read_train_arguments
from models.configuration import load_config
from tests.conftest import ROOT
from utils.config.loading import merged, read_layers
from utils.config.strict_yaml import read_yaml

COMPANIONS = {folder.name for folder in (ROOT / "companions").iterdir()}  # their own tests hold their files
OTHERS = COMPANIONS | {"results"}  # and so do those of the plan of `make results`
SHIPPED = sorted(path for path in (ROOT / "config").rglob("*.yml") if path.parent.name not in OTHERS)
BEFORE = ROOT / "tests" / "golden" / "configs_v2"  # resolved as they were before a file could name a base
CONVAI2 = ROOT / "config" / "convai2"
NAME = "selective-linear-both-prompt-causal-convai2"


def _id(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SHIPPED, ids=_id)
def test_shipped_files_are_valid(path):
    """A shipped file that the schema no longer takes is found by the first user otherwise."""
    merged_model = merged(read_layers(path))["model"]
    named = merged_model.get("model_name") or "init" in merged_model
    config = load_config(path, [] if named else ["model.model_name=x"])
    assert config.model.model_type == merged_model["model_type"]


@pytest.mark.parametrize("path", SHIPPED, ids=_id)
def test_shipped_files_open_with_their_launch_line(path):
    """A launch line that names another file, or a flag that is gone, does not run."""
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    words = shlex.split(first.removeprefix("# "))
    assert words[0] in ("python", "deepspeed")
    words = words[words.index("train.py") + 1 :]
    if path.name == "spt.yml":  # its line says BASE_LM_RUN, which the reader fills in
        assert "model.model_name=BASE_LM_RUN" in words
    args, config = read_train_arguments([str(ROOT / word) if word == _id(path) else word for word in words])
    assert args.config == _id(path)
    rate = next((word for word in words if word.startswith("--lr=")), None)
    assert rate is None or config.training.learning_rate == float(rate.removeprefix("--lr="))
    assert args.deepspeed_config is None or (ROOT / args.deepspeed_config).is_file()


@pytest.mark.parametrize(
    ("name", "load_bit", "virtual_tokens", "weight", "noise"),
    [
        (f"opt-125m-{NAME}", 32, 8, 0.4, None),
        (f"opt-1.3b-{NAME}", 32, 8, 0.4, None),
        (f"opt-2.7b-{NAME}", 16, 8, 0.4, None),
        (f"llama2-7b-{NAME}", 16, 1, 1.0, None),
        (f"llama2-7b-{NAME}-adding-target-noise", 16, 1, 1.0, 0.1),
    ],
)
def test_shipped_files_hold_the_released_settings(name, load_bit, virtual_tokens, weight, noise):
    """A value that drifts from the released one trains another model under the paper's name."""
    config = load_config(CONVAI2 / f"{name}.yml")
    model, training, dataset = config.model, config.training, config.dataset
    assert (model.load_bit, model.K, model.peft_config.num_virtual_tokens) == (load_bit, 4, virtual_tokens)
    assert (training.selective_loss_weight, training.contrastive_weight) == (weight, weight)
    assert (training.adding_noise, training.contrastive_threshold) == (noise, 20.0)
    common = {
        "learning_rate": 1e-5,
        "batch_size": 32,
        "num_epochs": 1,
        "mode": "causal",
        "only_longest": False,
        "task_type": "generate_response",
        "contrastive": True,
        "ensemble": True,
        "contrastive_metric": "bleu",
        "log_dir": "runs_prompt_convai2_selective_linear",
        "tau_gold": 1.0,
        "tau_sim": 1.0,
        "freeze_persona": True,
        "freeze_context": True,
        "seed": 3407,
        "grad_clip": 0.0,
        "warmup_type": None,
        "warmup_ratio": 0.05,
    }
    assert {key: getattr(training, key) for key in common} == common
    assert (dataset.max_context_turns, dataset.max_token_length) == (-1, 512)
    assert (model.model_type, model.peft_type, model.score_activation) == (
        "selective_pt",
        "prompt_tuning",
        "softplus",
    )
    assert (model.normalizer, model.normalizer_on) == ("linear", ("prompt", "lm"))
    assert (model.retriever.retriever_type, model.fidelity) == (None, "paper")


@pytest.mark.parametrize("name", ["opt-125m", "opt-1.3b", "opt-2.7b", "llama2-7b"])
def test_shipped_files_name_their_model(name):
    """The file of one size that loads the LM of another."""
    size = name.split("-")[1]
    assert size in load_config(CONVAI2 / f"{name}-{NAME}.yml").model.model_name.lower()


@pytest.mark.parametrize("path", sorted(BEFORE.rglob("*.yml")), ids=lambda path: path.name)
def test_shipped_files_mean_what_they_meant(path):
    """A file that was rewritten as a base and a difference, and lost a key on the way, trains another model."""
    assignments = ["model.model_name=x"] if path.name == "spt.yml" else []
    shipped = ROOT / "config" / path.relative_to(BEFORE)
    assert load_config(shipped, assignments) == load_config(path, assignments)


def test_no_shipped_file_is_without_a_copy():
    """A file without one would not be compared."""
    assert [path.relative_to(BEFORE) for path in sorted(BEFORE.rglob("*.yml"))] == [
        path.relative_to(ROOT / "config") for path in SHIPPED
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "config" / "ablation").glob("*.yml")), ids=_id)
def test_an_ablation_states_only_what_differs(path):
    """Settings that are repeated stay behind when the main configuration changes, and the ablation compares nothing."""
    content = read_yaml(path)
    assert content.pop("base") == f"../convai2/opt-125m-{NAME}.yml"
    plain = load_config(CONVAI2 / f"opt-125m-{NAME}.yml").model_dump()
    for section, keys in content.items():
        for key, value in keys.items():
            assert plain[section][key] != value
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 8
