"""The promise of docs/extending.md: a model type, a loss, a metric or a reader is one module and one call.

Each test takes the code from the document, puts it into a module outside the project, makes the call, and uses it.
"""

import importlib.util
import math
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from dataset import readers
from dataset.readers import register_reader
from models import registry
from models.arguments import changes_in_name, read_train_arguments
from models.configuration import load_config
from models.decoding.decode import decode_runs
from models.decoding.evaluate import evaluate_runs
from models.registry import register_model_type
from models.spt import terms
from models.spt.terms import register_loss
from tests.conftest import ROOT, config_for
from tests.documents import example, imported_example
from tests.helpers import as_tab_separated, json_rows, logged, model_of, train
from utils.config.strict_yaml import read_yaml
from utils.errors import UserError
from utils.files import json_line
from utils.metrics import registry as metrics
from utils.metrics import score

QUICK = {"training_ratio": 0.2}
HEADINGS = ("## A model type", "## A loss", "## A metric", "## A reader")


@pytest.fixture
def from_document(monkeypatch, tmp_path):
    """from_document(heading, name): the example as an imported module. What is registered is gone after the test."""
    # emptied and filled again, as other modules hold the same tables
    tables = [registry.MODEL_TYPES, terms.LOSSES, metrics._METRICS, readers._READERS]
    before = [dict(table) for table in tables]
    yield lambda heading, name: imported_example(heading, name, tmp_path, monkeypatch)
    for table, content in zip(tables, before, strict=True):
        table.clear()
        table.update(content)


@pytest.mark.parametrize("heading", HEADINGS)
def test_an_example_is_as_clean_as_the_project(heading):
    """What is copied from a document into the project would fail its linter or its formatter at once."""
    for check in (["check", "--stdin-filename=models/example.py"], ["format", "--check", "-"]):
        ruff = [sys.executable, "-m", "ruff", *check] + (["-"] if check[0] == "check" else [])
        done = subprocess.run(ruff, input=example(heading), cwd=ROOT, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert 15 <= len(example(heading).splitlines()) <= 40


@pytest.mark.slow
def test_a_model_type(from_document, make_config, distributed, lm_folder):
    """A type that only trains, and is then refused or decoded as the bare LM, would take changes in other files."""
    with pytest.raises(UserError, match=r"model\.model_type = 'bitfit'"):
        make_config(model={"model_type": "bitfit"})
    from_document("## A model type", "bitfit")
    register_model_type("bitfit", "bitfit")

    config = make_config(model={"model_type": "bitfit", "train_norms": True}, training={"num_epochs": 2})
    run = train(config, distributed, "bitfit")
    written = read_yaml(run / "config.yml")
    assert written["model"].keys() == {
        *("model_type", "fidelity", "load_bit", "tf32", "gradient_checkpointing", "model_name", "train_norms")
    }
    assert not {"selective_loss", "tau_gold", "skip_retrieval"} & written["training"].keys()
    start, state = model_of(config).trained_state(), load_file(run / "trained.safetensors")
    assert start.keys() == state.keys()
    assert {name.rpartition(".")[2] for name in state} == {"bias", "weight"}
    assert any(not torch.equal(start[name], state[name]) for name in state)
    losses = [row["llm"] for row in logged(run, "valid_epoch")]
    assert losses[1] < losses[0]

    decode_runs([run], distributed)
    bare = train(make_config(model={"model_type": "textual"}), distributed, "textual")
    decode_runs([bare], distributed)
    ours, theirs = (json_rows(folder / "evaluation_result.jsonl") for folder in (run, bare))
    assert len(ours) == len(theirs) > 0
    assert sum(row["nll"] for row in ours) < sum(row["nll"] for row in theirs)
    tokens = sum(row["nll_tokens"] for row in ours)  # the decoded model is the one that was validated
    assert sum(row["nll"] for row in ours) / tokens == pytest.approx(min(losses), rel=1e-4)
    assert [row["prediction"] for row in ours] != [row["prediction"] for row in theirs]

    without = model_of(make_config(model={"model_type": "bitfit"})).trained_state()
    assert {name.rpartition(".")[2] for name in without} == {"bias"}  # its key has an effect
    with pytest.raises(UserError, match=r"'model\.K': model_type bitfit has no such key; it is one of"):
        make_config(model={"model_type": "bitfit", "K": 4})
    with pytest.raises(UserError, match=r"'model\.train_norms': .* it is one of bitfit"):
        make_config(model={"model_type": "lora", "train_norms": True})
    with pytest.raises(UserError, match="has no biases"):
        model_of(make_config("llama", model={"model_type": "bitfit"}))


@pytest.mark.slow
def test_a_loss(from_document, data, lm_folder, make_config, distributed, tmp_path):
    """A loss that is logged and not learned from, or whose key other types take, looks like one that does nothing."""
    weighted = {"training": {"balance_weight": 5.0}}
    with pytest.raises(UserError, match=r"unknown key 'training\.balance_weight'"):
        make_config(**weighted)
    module = from_document("## A loss", "balance")
    register_loss("balance", module.BALANCE)
    with pytest.raises(
        UserError, match="model_type prompt_tuning has no such key; it is one of selective_pt"
    ):
        make_config(model={"model_type": "prompt_tuning"}, **weighted)

    scores = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    assert module.balance_loss(scores).item() == pytest.approx(0.0, abs=1e-7)
    underflown = torch.tensor([[110.0, 110.0], [0.0, 0.0]], requires_grad=True)  # a share is 0 in float32
    loss = module.balance_loss(underflown)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert underflown.grad.isfinite().all()

    with_it, without = (
        train(
            config_for(data, lm_folder("opt"), tmp_path / "runs", {"training": QUICK | own}),
            distributed,
            name,
        )
        for name, own in (("with", weighted["training"]), ("without", {}))
    )
    for phase in ("train", "train_epoch", "valid_epoch"):
        for row in logged(with_it, phase):
            own_total = row["llm"] + 0.4 * row["selection"] + row["fusion"] + 0.4 * row["contrastive"]
            assert row["balance"] > 0
            assert row["total"] == pytest.approx(own_total + 5.0 * row["balance"], rel=1e-5)
        assert all("balance" not in row for row in logged(without, phase))
    ours, theirs = (load_file(run / "trained.safetensors") for run in (with_it, without))
    assert not torch.allclose(ours["retriever.linear.weight"], theirs["retriever.linear.weight"])
    assert not torch.allclose(ours["soft_prompts.weight"], theirs["soft_prompts.weight"])

    command = [
        "--config",
        str(ROOT / "config/sample/spt.yml"),
        "--set",
        f"model.model_name={lm_folder('opt')}",
    ]
    # the flag that its section declares
    args, config = read_train_arguments([*command, "--balance_weight=2"])
    assert config.training.balance_weight == 2.0
    assert changes_in_name(args, type(config)) == [("BAL", 2.0)]
    assert load_config(with_it / "config.yml").training.balance_weight == 5.0
    decode_runs([with_it], distributed)
    assert json_rows(with_it / "evaluation_result.jsonl")


def test_a_metric(from_document, tmp_path, capsys):
    """A metric that is computed and not reported, or whose better direction is lost, misleads who compares runs."""
    names = list(metrics._METRICS)
    from_document("## A metric", "repetition")
    assert list(metrics._METRICS) == [*names, "rep_2"]
    rows = [
        {"prediction": "no no no no", "target": "no"},  # bigrams: one of three is new
        {"prediction": "i like to ski", "target": "no"},
        {"prediction": "hi", "target": "no"},
    ]
    found = score(rows, ["rep_2"])["rep_2"]
    assert found.value == pytest.approx(200 / 9)
    (tmp_path / "evaluation_result.jsonl").write_text("".join(map(json_line, rows)), encoding="utf-8")
    evaluate_runs(tmp_path, ["f1", "rep_2"])
    report = (tmp_path / "results.txt").read_text(encoding="utf-8")
    assert "rep_2     lower   22.22 (22.22)" in report
    assert "\nrep_2: seq-rep-2: share of the reply's whitespace bigrams" in report
    assert "22.2222" in (tmp_path / "results.csv").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_reader(from_document, data, make_config, distributed, tmp_path):
    """A reader that training asks and decoding does not would give replies to other examples than were trained on."""
    module = from_document("## A reader", "tab_separated")
    register_reader("tab_separated", module.read_tab_separated)
    for text, number in (("persona\ti ski\n\npartner\thi\nself\thi\n", 2), ("persona\ti ski\n", 2)):
        (tmp_path / "lost.tsv").write_text(
            text, encoding="utf-8"
        )  # a persona of the next dialogue, or of none
        with pytest.raises(UserError, match=rf"lost\.tsv:{number}: .* a persona and no utterance"):
            module.read_tab_separated(tmp_path / "lost.tsv")
    files = {}
    for name, path in data.items():
        files[name] = str(tmp_path / f"{name}.tsv")
        (tmp_path / f"{name}.tsv").write_text(as_tab_separated(path), encoding="utf-8")
    own = {"format": "tab_separated", **files}
    run = train(make_config(dataset=own, training=QUICK), distributed, "tab_separated")
    expected = train(make_config(training=QUICK), distributed, "convai2")
    for phase in ("train_epoch", "valid_epoch"):
        totals = [row["total"] for row in logged(run, phase)]
        assert totals == [row["total"] for row in logged(expected, phase)] != []
    for folder in (run, expected):
        decode_runs([folder], distributed)
    ours, theirs = (json_rows(folder / "evaluation_result.jsonl") for folder in (run, expected))
    assert ours == theirs != []


@pytest.mark.parametrize(
    ("register", "taken", "value"),
    [
        (register_model_type, "lora", "somewhere"),
        (register_loss, "llm", None),
        (register_reader, "convai2", None),
    ],
)
def test_a_taken_name_is_refused(register, taken, value):
    """Which of two things answers to a name would depend on the order of imports."""
    with pytest.raises(ValueError, match=f"'{taken}' is registered twice"):
        register(taken, value)


def test_the_examples_leave_nothing_behind():
    """A later test would find a metric or a loss that the project does not have."""
    for name in ("bitfit", "balance", "repetition", "tab_separated"):
        assert name not in sys.modules
        assert importlib.util.find_spec(name) is None
    assert "bitfit" not in registry.MODEL_TYPES
    assert "rep_2" not in metrics._METRICS
