"""One training run: its folder, its logs, what it changes, and how it is repeated."""

import copy
import math

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models.decoding.decode import DecodeOptions, decode_run
from models.decoding.runs import load_run, read_run_config
from models.registry import build_model, build_tokenizer
from tests.helpers import STEP_FIGURES, logged, train
from trainer import engine as engine_module
from utils.config.loading import dump
from utils.errors import UserError

LOSSES = {"total", "llm", "selection", "fusion", "contrastive"}
OF_VALIDATION = {  # what a validation row says of the choice, beside what every row does
    *(
        "prompt_loss",
        "fixed_prompt",
        "fixed_loss",
        "chosen_loss",
        "random_loss",
        "oracle_loss",
        "choice_error",
    ),
    *("best_share", "agreement_by_chance", "target_entropy"),
    *("query_cosine", "query_dimensions", "vector_cosine", "vector_dimensions"),
}
QUICK = {"training_ratio": 0.2}  # 2 of the 12 dialogues
NEW_LM = {"architecture": "opt", "hidden_size": 16, "num_layers": 1, "num_heads": 2}


@pytest.fixture
def run_quick(make_config, distributed):
    """run_quick(model={...}, training={...}): the folder of a run on a few examples."""

    def run(**sections):
        sections["training"] = QUICK | sections.get("training", {})
        config = make_config(**{key: value for key, value in sections.items() if key != "arguments"})
        return train(config, distributed, "quick", **sections.get("arguments", {}))

    return run


def _totals(run):
    return [row["total"] for row in logged(run, "train_epoch") + logged(run, "valid_epoch")]


def test_the_files_of_a_run_folder(trained_run):
    """A file that is missing, or left over from a write, breaks what reads the folder next."""
    files = {str(path.relative_to(trained_run)) for path in trained_run.rglob("*") if path.is_file()}
    events = {name for name in files if name.startswith("events.out.tfevents.")}
    assert len(events) == 1
    steps = {(trained_run / "ds_ckpt" / mark).read_text().strip() for mark in ("best", "latest")}
    assert files - events == {
        "config.yml",
        "start.json",
        "metrics.jsonl",
        "trained.safetensors",
        "trained.json",
        "ds_ckpt/latest",
        "ds_ckpt/best",
        *(f"ds_ckpt/{step}.safetensors" for step in steps),
    }
    assert trained_run.name.startswith("spt_")


def test_the_saved_config_is_the_resolved_one(trained_run, data):
    """A config.yml without the values that the defaults filled in changes its meaning with the next release."""
    saved = yaml.safe_load((trained_run / "config.yml").read_text(encoding="utf-8"))
    assert saved["model"]["K"] == 3
    assert saved["training"]["selective_loss_weight"] == 0.4
    assert saved["dataset"]["train"] == str(data["train"])
    assert saved == yaml.safe_load(dump(read_run_config(trained_run)))


def test_rows_of_the_metrics_file(trained_run):
    """A loss that is only part of a sum cannot be watched; a count of examples shows a batch left out."""
    steps, epochs, valid = (logged(trained_run, phase) for phase in ("train", "train_epoch", "valid_epoch"))
    assert [row["step"] for row in steps] == [5, 10, 15, 20, 21, 26, 31, 36, 41, 42, 47, 52, 57, 62, 63]
    assert [row["step"] for row in epochs] == [row["step"] for row in valid] == [21, 42, 63]
    assert [row["epoch"] for row in epochs] == [0, 1, 2]
    assert {row["examples"] for row in epochs} == {83}
    assert {row["examples"] for row in valid} == {28}
    watched = LOSSES | {
        "phase",
        "step",
        "epoch",
        "examples",
        "prompt_share",
        "prompt_entropy",
        "agreement",
        "regret",
    }
    assert all(row.keys() == watched for row in epochs)
    assert all(row.keys() == watched | OF_VALIDATION for row in valid)
    assert all(row.keys() == watched | STEP_FIGURES for row in steps)
    for row in steps + epochs + valid:
        whole = row["llm"] + 0.4 * row["selection"] + row["fusion"] + 0.4 * row["contrastive"]
        assert row["total"] == pytest.approx(whole, rel=1e-5)
        assert len(row["prompt_share"]) == 3
        assert sum(row["prompt_share"]) == pytest.approx(1)
        assert 0 <= row["agreement"] <= 1
        assert 0 <= row["prompt_entropy"] <= math.log(3) + 1e-6
    assert all(row["lr"] == 0.01 and row["examples_per_second"] > 0 for row in steps)


def test_tensorboard_tags(trained_run):
    """The release's names for the total loss, so that old and new runs share a plot, and each loss apart."""
    board = EventAccumulator(str(trained_run)).Reload()
    tags = set(board.Tags()["scalars"])
    for name in ("train", "total_train", "total_valid"):
        assert f"Loss-0/{name}" in tags
    for phase in ("train", "train_epoch", "valid_epoch"):
        wanted = {f"{name}/{phase}" for name in (*LOSSES, "agreement", "regret", "prompt_entropy")}
        assert wanted | {f"prompt_share/{phase}/{index}" for index in range(3)} <= tags
    assert {"lr/train", "examples_per_second/train"} <= tags
    valid = [(event.step, event.value) for event in board.Scalars("Loss-0/total_valid")]
    assert valid == [
        (row["step"], pytest.approx(row["total"], rel=1e-5)) for row in logged(trained_run, "valid_epoch")
    ]


def test_training_lowers_the_loss(trained_run):
    """Gradients that do not reach the prompts, or an optimiser on other parameters, leave it where it was."""
    totals = [row["total"] for row in logged(trained_run, "train_epoch")]
    assert totals == sorted(totals, reverse=True)
    assert totals[0] - totals[-1] > 0.05


def test_the_frozen_lm_is_not_trained_and_not_saved(trained_run, lm_folder):
    """A checkpoint with the LM in it is gigabytes; an LM that moved is another LM."""
    trained = {"soft_prompts.weight", "retriever.linear.weight", "retriever.linear.bias"}
    assert set(load_file(trained_run / "trained.safetensors")) == trained
    tag = (trained_run / "ds_ckpt/best").read_text().strip()
    kept = load_file(trained_run / f"ds_ckpt/{tag}.safetensors")
    assert {name.removeprefix("value/") for name in kept if name.startswith("value/")} == trained
    assert sum(tensor.nbytes for tensor in kept.values()) < 200_000
    model = load_run(trained_run, read_run_config(trained_run, []))
    for name, parameter in model.lm.model.named_parameters():
        assert not parameter.requires_grad, name


def test_training_leaves_the_lm_as_it_was(make_config, distributed, monkeypatch):
    """Weights of the LM that follow the soft prompts are full fine-tuning under another name."""
    made = []

    def keep(config, tokenizer):
        model = build_model(config, tokenizer)
        made.append((model, copy.deepcopy(model.state_dict())))
        return model

    monkeypatch.setattr("models.dialogue_task.build_model", keep)
    train(make_config(training=QUICK | {"save_model": False}), distributed, "frozen")
    model, before = made[0]
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"soft_prompts.weight", "retriever.linear.weight", "retriever.linear.bias"}


def test_the_seed_decides_everything(run_quick):
    """A run that cannot be repeated; and a seed that is read but never used."""
    first, again, other = (_totals(run_quick(training={"seed": seed})) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_dialogue_rows_train_on_the_same_examples(run_quick):
    """Shared rows save time; they may not leave out an example or change what is learnt per example."""
    by_rows = {rows: run_quick(training={"rows": rows}) for rows in ("example", "dialogue")}
    for phase in ("train_epoch", "valid_epoch"):
        example, dialogue = (logged(by_rows[rows], phase)[0] for rows in ("example", "dialogue"))
        assert example["examples"] == dialogue["examples"]
        assert example["llm"] == pytest.approx(dialogue["llm"], rel=0.02)


def test_ckpt_path_starts_from_a_run(run_quick, trained_run):
    """A start from fresh prompts would look like a start from the run, only worse."""
    going_on = run_quick(training={"learning_rate": 1e-9}, arguments={"ckpt_path": str(trained_run)})
    best = min(row["total"] for row in logged(trained_run, "valid_epoch"))
    assert logged(going_on, "valid_epoch")[0]["total"] == pytest.approx(best, rel=1e-4)


def test_without_save_model_there_is_no_checkpoint(run_quick):
    """--save_model=no that writes one fills the disk in a search over settings."""
    run = run_quick(training={"save_model": False})
    names = {path.name for path in run.iterdir() if not path.name.startswith("events.")}
    assert names == {"config.yml", "start.json", "metrics.jsonl"}


def test_the_opening_lines(run_quick, lm_folder, capsys):
    """What was decided must be said: sizes, device, precision, and each automatic choice with its reason."""
    run = run_quick()
    lines = capsys.readouterr().out.splitlines()
    start = lines.index(f"selective_pt on {lm_folder('opt')} (K = 3, V = 4, D = 32, fidelity paper)")
    lm = sum(parameter.numel() for parameter in load_run(run, read_run_config(run, [])).lm.parameters())
    assert lines[start + 1] == f"{3 * 4 * 32 + 32 * 32 + 32:,} parameters trained, {lm:,} frozen"
    assert lines[start + 2].startswith("device cpu, 1 rank(s), ")
    assert lines[start + 2].endswith(" thread(s) each, float32, ZeRO stage 2")
    assert lines[start + 3].endswith(
        " batches of 4 examples per rank and epoch, 4 steps in all, rows: example"
    )
    # 384 positions less 4 virtual tokens
    assert lines[start + 4] == "automatic choice: texts are cut to 380 tokens, not 512: the LM's positions"
    assert lines[-1] == f"run folder: {run}"
    assert lines[-2] == f"best total validation loss {min(_totals(run)[1:]):.4f}"


def test_a_device_without_float16_gets_bfloat16_and_says_so(run_quick, distributed, monkeypatch, capsys):
    """Float16 on a device that lacks it is either an error deep inside or slower than float32, unsaid."""
    monkeypatch.setattr(engine_module.get_accelerator(), "is_fp16_supported", lambda: False)
    run = run_quick(model={"load_bit": 16})
    output = capsys.readouterr().out
    assert "automatic choice: model.load_bit 16 -> bf16: cpu has no fast float16 here" in output
    assert "bfloat16, ZeRO stage 2" in output
    config = read_run_config(run, [])
    assert config.model.load_bit == "bf16"  # a run is decoded in the precision that it was trained in
    assert all(math.isfinite(total) for total in _totals(run))
    decode_run(run, distributed, DecodeOptions())
    assert (run / "evaluation_result.jsonl").is_file()


def test_bf16_on_a_device_without_it_is_refused(make_config, distributed, monkeypatch):
    """A silent step up to float32 would double the memory that was planned."""
    monkeypatch.setattr(engine_module.get_accelerator(), "is_bf16_supported", lambda: False)
    with pytest.raises(UserError, match="model.load_bit: bf16 is not supported on cpu; use 32 or 16"):
        train(make_config(model={"load_bit": "bf16"}), distributed, "none")


def test_grad_clip_bounds_the_gradient(run_quick):
    """A flag that never reaches the engine: with a bound of almost nothing, Adam's first moments stay tiny."""
    largest = {}
    for clip in (0.0, 1e-6):
        run = run_quick(training={"grad_clip": clip})
        tag = (run / "ds_ckpt/latest").read_text().strip()
        kept = load_file(run / f"ds_ckpt/{tag}.safetensors")
        largest[clip] = max(
            tensor.abs().max().item() for name, tensor in kept.items() if name.startswith("exp_avg/")
        )
    assert largest[0.0] > 1e-4
    assert 0 < largest[1e-6] < 1e-6


def test_a_base_lm_run_keeps_its_lm(make_config, distributed):
    """The sample's base LM is a run like any other, and the next run's model_name points to its folder."""
    init = NEW_LM | {"vocab_size": 300, "max_positions": 512}
    config = make_config(model={"model_type": "language_model", "init": init})
    run = train(config, distributed, "base")
    assert (run / "model/config.json").is_file()
    assert not (run / "trained.safetensors").exists()
    spt = make_config(model={"model_name": str(run)})
    assert build_model(spt, build_tokenizer(spt)).lm.width == 16
