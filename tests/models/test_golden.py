"""The numbers and texts of the authors' release, for every case in the folder of golden cases."""

import json
import os
import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dataset.dialogue import Example
from models.configuration import build_config
from models.decoding.decode import DecodeOptions, decode_runs
from models.decoding.generation import generate_replies, pick_prompts
from models.decoding.settings import DecodingSettings
from models.release.checkpoint import AUTHORS_CONFIG, read_config
from models.settings import Config
from tests.conftest import ROOT
from tests.helpers import inference_batch, model_of, train_batch
from utils.config.strict_yaml import read_yaml
from utils.distributed import DistributedContext
from utils.metrics import score

GOLDEN = Path(os.environ.get("SPT_GOLDEN_DIR") or ROOT / "tests" / "golden")
OUR_NAMES = {
    "soft_prompts": "soft_prompts.weight",
    "retriever.weight": "retriever.linear.weight",
    "retriever.bias": "retriever.linear.bias",
}
VALUES = {"atol": 1e-5, "rtol": 1e-4}  # whichever allows more; see tests/golden/README.md


def expected_of(case):
    """The numbers of a case."""
    return json.loads((case / "expected.json").read_text(encoding="utf-8"))


def cases_of(is_case):
    """Sub-folders of the golden folder as test parameters."""
    folders = sorted(path for path in GOLDEN.iterdir() if path.is_dir() and is_case(path))
    return [pytest.param(folder, id=folder.name) for folder in folders]


LOSS_CASES = cases_of(lambda path: (path / "expected.json").is_file() and "losses" in expected_of(path))
RUNS = cases_of(lambda path: (path / "ds_ckpt").is_dir() and (path / "expected.json").is_file())


def released_config(case):
    """A case's configuration; the release reads some keys from either section, so each goes where it belongs."""
    sections = {name: {} for name in Config.model_fields}
    for name, section in read_yaml(case / "config.yml").items():
        for key, value in section.items():
            fields = {other: Config.model_fields[other].annotation.model_fields for other in sections}
            home = next((other for other in [name, *sections] if key in fields[other]), name)
            sections[home][key] = value
    sections["model"]["model_name"] = str(case.parent / sections["model"]["model_name"])
    sections["model"]["fidelity"] = "released_code"
    return build_config([(str(case / "config.yml"), sections)])


@cache
def loaded(case):
    """Model, examples and expectations of a case."""
    model = model_of(released_config(case))
    state = load_file(case / "trainable.safetensors")
    model.load_trained_state({OUR_NAMES[name]: tensor for name, tensor in state.items()}, case.name)
    rows = json.loads((case / "batch.json").read_text(encoding="utf-8"))
    examples = [
        Example(
            tuple(row["persona"]), tuple(row["context"]), row["response"], number, 0, f"batch.json {number}"
        )
        for number, row in enumerate(rows)
    ]
    return model, examples, expected_of(case)


def close(actual, expected):
    """Within the tolerance of losses and scores."""
    torch.testing.assert_close(
        torch.as_tensor(actual).detach().double(), torch.tensor(expected).double(), **VALUES
    )


def test_there_are_cases():
    """A wrong folder would leave no parameters below, and the comparison would pass unseen."""
    assert LOSS_CASES or RUNS, f"no golden case in {GOLDEN}"


@pytest.mark.parametrize("case", LOSS_CASES)
def test_losses_and_scores(case):
    """The authors' numbers cannot be reproduced by arithmetic that is only nearly theirs."""
    model, examples, expected = loaded(case)
    batch = train_batch(model, examples)
    output = model(batch)
    for name, value in expected["losses"].items():
        actual = output.total if name == "total" else output.losses.get(name, torch.tensor(0.0))
        close(actual.item(), value)
    close(model.scores(batch.query), expected["scores_training_KxB"])


@pytest.mark.parametrize("case", LOSS_CASES)
def test_gradient_norms(case):
    """Equal losses with a detached part, or a gradient too many, train another model."""
    model, examples, expected = loaded(case)
    output = model(train_batch(model, examples))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(output.total, list(trained.values()), allow_unused=True)
    gradients = dict(zip(trained, found, strict=True))
    for name, norm in expected["grad_norms_of_total"].items():
        gradient = gradients[OUR_NAMES[name]]
        if name == "soft_prompts":
            assert gradient.flatten(1).norm(dim=1).tolist() == pytest.approx(norm, rel=1e-3)
        else:
            actual = 0.0 if gradient is None else gradient.norm().item()
            assert actual == pytest.approx(norm, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("case", LOSS_CASES)
def test_choices_and_greedy_texts(case):
    """A position, a mask or a token off in decoding changes the texts, at a score that may look the same."""
    model, examples, expected = loaded(case)
    batch = inference_batch(model, examples)
    scores = model.score_prompts(batch.query)
    choice = pick_prompts(scores)
    close(scores, expected["decode"]["scores_KxB"])
    assert choice.tolist() == expected["decode"]["selected"]
    tokens = expected["decode"].get("max_new_tokens", 32)
    replies = generate_replies(model, batch, scores, choice, DecodingSettings(max_new_tokens=tokens))
    assert [reply.text for reply in replies] == expected["decode"]["text"]


@pytest.mark.parametrize("published", RUNS)
def test_a_run_of_the_authors_decodes_as_it_did(published, tmp_path):
    """Their checkpoints are public: whoever decodes one must get the replies that they reported on."""
    run, expected = tmp_path / "run", expected_of(published)
    shutil.copytree(published, run)
    name = read_config(published / AUTHORS_CONFIG)["model"]["model_name"]
    options = DecodeOptions(
        batch_size=expected["batch_size"],
        valid_path=str(run / "valid.txt"),
        assignments=(f"model.model_name={published.parent / name}",),
    )
    decode_runs([run], DistributedContext(0, 0, 1, torch.device("cpu")), options)
    lines = (run / "evaluation_result.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == len(expected["examples"])
    for row, known in zip(rows, expected["examples"], strict=True):
        assert row["prediction"] == known["pred"]
        assert row["target"] == known["gt"]
        assert row["prompt"] == known["selected"]
        assert row["context"] == known["context"]
        assert row["persona"] == known["persona"]
    assert score(rows, ["bleu"])["bleu"].value == pytest.approx(expected["bleu"], abs=1e-9, rel=0)
