"""Two processes over gloo: every ZeRO stage trains the same, nothing is counted twice, decoding is shared.

A second job has the two on nodes of their own: a launcher for each, here both on this machine.
In bfloat16 what they share is put together in float32. At stage 3 each keeps its share of the LM from loading on.
"""

import json
import shutil
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from models.decoding.decode import DecodeOptions, decode_runs
from models.decoding.runs import load_run, read_run_config
from models.reading import make_loader
from models.trained_part import read_trained
from tests.conftest import config_for
from tests.helpers import BareEngine, assert_same_results, json_rows, launch, logged
from trainer.validation import validate

pytestmark = pytest.mark.slow  # a job of two processes

STAGES = (0, 1, 2, 3)
RETURNED = {"MALLOC_MMAP_THRESHOLD_": "200000"}
"""freed memory goes back to the system at once, and does not count as still in use"""


@pytest.fixture(scope="module")
def large_lm(lm_folder, tmp_path_factory):
    """A folder with an LM of random weights in several files, and its size in MiB."""
    folder = tmp_path_factory.mktemp("large")
    tokenizer = AutoTokenizer.from_pretrained(lm_folder("llama"))
    sizes = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 6, "num_attention_heads": 4}
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(
        LlamaConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **sizes)
    )
    model.save_pretrained(folder, max_shard_size="80MB")
    tokenizer.save_pretrained(folder)
    assert len(list(folder.glob("*.safetensors"))) > 1
    return folder, sum(parameter.numel() for parameter in model.parameters()) * 4 / 2**20


@pytest.fixture(scope="module")
def job(data, lm_folder, large_lm, tmp_path_factory):
    """What the launcher printed, the run folder of each stage, and the answer of tests/two_ranks_half.py."""
    out = tmp_path_factory.mktemp("two_ranks")
    # 25 examples in batches of 2 x 4: the last step has one example for two ranks
    lines = data["valid"].read_text(encoding="utf-8").splitlines(keepends=True)
    valid = out / "valid.txt"
    valid.write_text("".join(lines[:-3]), encoding="utf-8")
    config = config_for({**data, "valid": valid}, lm_folder("opt"), out / "runs")
    sections = {
        "model": {"load_bit": "bf16"},
        "training": {"log_every": 1, "learning_rate": 1e-4, "training_ratio": 0.6},
    }
    half = config_for(data, lm_folder("opt"), out / "half", sections)
    little = {name: out / f"little_{name}.txt" for name in data}
    for path in little.values():
        path.write_text("1 your persona: i ski.\n2 hi .\thi , you ?\n3 i ski .\tme too .\n", encoding="utf-8")
    sections = {"training": {"batch_size": 1}, "model": {"model_type": "lora"}}
    content = {
        "partitioned": config_for(little, large_lm[0], out / "partitioned", sections).model_dump(),
        "sections": config.model_dump(),
        "half": half.model_dump(),
        "stages": STAGES,
        "out": str(out),
    }
    (out / "job.json").write_text(json.dumps(content), encoding="utf-8")
    done = launch(
        "deepspeed", "--num_gpus=2", "--module", "tests.two_ranks", str(out / "job.json"), variables=RETURNED
    )
    assert done.returncode == 0, done.stdout + done.stderr
    runs = json.loads((out / "runs.json").read_text(encoding="utf-8"))
    half = json.loads((out / "half.json").read_text(encoding="utf-8"))
    return done, _by_stage(runs), (half["exact"], _by_stage(half["runs"]))


def _by_stage(runs):
    return {int(stage): Path(run) for stage, run in runs.items()}


@pytest.fixture(scope="module")
def nodes(job, tmp_path_factory):
    """What the launchers of two nodes with a rank each printed, and the run folder; the configuration is `job`'s."""
    out = tmp_path_factory.mktemp("nodes")
    sections = (
        read_run_config(job[1][2], []).replaced({"training": {"log_dir": str(out / "runs")}}).model_dump()
    )
    content = {"sections": sections, "stages": [2], "out": str(out)}
    (out / "job.json").write_text(json.dumps(content), encoding="utf-8")
    (out / "hostfile").write_text("localhost slots=1\n127.0.0.1 slots=1\n", encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = [
        sys.executable,
        "-m",
        "deepspeed.launcher.runner",
        f"--hostfile={out / 'hostfile'}",
        "--no_ssh",
    ]
    launcher += ["--master_addr=127.0.0.1", f"--master_port={port}"]
    what = ["--module", "tests.two_ranks", str(out / "job.json")]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda node: launch(*launcher, f"--node_rank={node}", *what), (0, 1)))
    for each in done:
        assert each.returncode == 0, each.stdout + each.stderr
    return done, Path(json.loads((out / "runs.json").read_text(encoding="utf-8"))["2"])


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_trains_on_both_ranks(job, stage):
    """A rank that trains alone, writes a folder of its own, or counts an example twice."""
    _, runs, _ = job
    run = runs[stage]
    assert len(list(run.parent.glob(f"stage{stage}_*"))) == 1
    assert len(list(run.glob("events.out.tfevents.*"))) == 1
    (train,), (valid,) = logged(run, "train_epoch"), logged(run, "valid_epoch")
    assert train["step"] == 11  # 83 examples, 2 x 4 per step
    assert train["examples"] == 83
    assert valid["examples"] == 25
    assert all(share * 25 == pytest.approx(round(share * 25)) for share in valid["prompt_share"])
    tag = (run / "ds_ckpt/best").read_text().strip()
    names = load_file(run / f"ds_ckpt/{tag}.safetensors").keys()
    assert {name.split("/")[1] for name in names if name.startswith("random/")} == {"0", "1"}


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_every_stage_learns_the_same(job, stage):
    """Stages differ in where tensors lie, not in what is computed; stage 3 may not save empty shards."""
    _, runs, _ = job
    for phase in ("train_epoch", "valid_epoch"):
        ours, theirs = (logged(runs[number], phase)[0]["total"] for number in (stage, 2))
        assert ours == pytest.approx(theirs, rel=1e-5)
    ours, theirs = (read_trained(runs[number])[0] for number in (stage, 2))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-3, rtol=1e-3)
    assert load_run(runs[stage], read_run_config(runs[stage], [])).num_prompts == 3


def test_two_ranks_validate_as_one(job, distributed):
    """Figures of a cluster could not be compared with those of one machine, and the best epoch would differ."""
    _, runs, _ = job
    model = load_run(runs[2], read_run_config(runs[2], []))
    loader = make_loader(model.config.dataset.valid, model.tokenizer, model.config, False, max_tokens=380)
    (wanted,) = logged(runs[2], "valid_epoch")
    row = validate(BareEngine(model), loader, distributed)
    assert row == {name: pytest.approx(wanted[name], rel=1e-5, abs=1e-6) for name in row}


def test_only_the_main_process_prints(job):
    """Every line twice, or a summary of the wrong rank."""
    done, _, _ = job
    lines = done.stdout.splitlines()
    assert sum(line.startswith("run folder: ") for line in lines) == 2 * len(STAGES) + 2
    assert sum("2 rank(s)" in line for line in lines) == 2 * len(STAGES) + 2


def test_two_ranks_decode_what_one_does(job, distributed, tmp_path):
    """A share that is lost or doubled in the gathering, or an order that depends on the ranks."""
    _, runs, _ = job
    alone = shutil.copytree(runs[2], tmp_path / "alone")
    for name in ("evaluation_result.txt", "evaluation_result.jsonl"):
        (alone / name).unlink()
    decode_runs([alone], distributed, DecodeOptions(batch_size=4))
    rows = json_rows(alone / "evaluation_result.jsonl")
    assert len(rows) == 25
    assert_same_results(json_rows(runs[2] / "evaluation_result.jsonl"), rows)


@pytest.mark.long
def test_two_nodes_learn_what_one_does(job, nodes):
    """Nodes that each take themselves for the whole job, or both for rank 0, train on half of the examples or twice."""
    ours, theirs = nodes[1], job[1][2]
    for phase in ("train", "train_epoch", "valid_epoch"):
        rows, others = ([row["total"] for row in logged(run, phase)] for run in (ours, theirs))
        assert rows == pytest.approx(others, rel=1e-5)
    (trained, _), (expected, _) = read_trained(ours), read_trained(theirs)
    assert trained.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(trained[name], tensor, atol=1e-3, rtol=1e-3)
    rows = json_rows(ours / "evaluation_result.jsonl")
    assert_same_results(rows, json_rows(theirs / "evaluation_result.jsonl"))


@pytest.mark.long
def test_only_the_first_node_prints_and_writes(nodes):
    """Rank 0 of its own node is not rank 0 of the job: two nodes would write one run folder, or a folder each."""
    (first, second), run = nodes
    assert len([path for path in run.parent.iterdir() if path.is_dir()]) == 1
    assert len(list(run.glob("events.out.tfevents.*"))) == 1
    assert "2 rank(s)" in first.stdout
    assert first.stdout.count("run folder: ") == 1
    assert "run folder: " not in second.stdout


def test_parameters_that_ranks_cannot_share_evenly_start_exactly(job):
    """DeepSpeed's own way to set a whole value fails there at stage 3, so a training could not even start."""
    assert job[2][0] == [True] * 3


def test_every_stage_makes_the_same_steps_in_bfloat16(job):
    """7 batches on each rank in groups of 4 and 3; a stage that sums ranks or groups otherwise trains else."""
    rows = {stage: logged(run, "train") + logged(run, "valid_epoch") for stage, run in job[2][1].items()}
    for stage in STAGES:
        assert [row["step"] for row in rows[stage]] == [1, 2, 2]
        totals = [row["total"] for row in rows[stage]]
        assert totals == pytest.approx([row["total"] for row in rows[2]], rel=1e-5), stage


def test_every_stage_keeps_the_same_float32_weights(job):
    """A file with one rank's share of the weights, or with rounded ones, decodes as something else."""
    wanted, _ = read_trained(job[2][1][2])
    for stage in STAGES:
        state, _ = read_trained(job[2][1][stage])
        for name, tensor in wanted.items():
            assert state[name].dtype == torch.float32
            assert not torch.equal(state[name].bfloat16().float(), state[name])
            assert (state[name] - tensor).abs().max() < 2e-4, name  # Adam's two steps are of 1e-4 each
            # sums over ranks are rounded in another order at each stage: some entries differ, most do not
            assert ((state[name] - tensor).abs() < 1e-5).float().mean() > 0.9, name


@pytest.fixture(scope="module")
def partitioned(job):
    """What each rank wrote of the large LM."""
    _, runs, _ = job
    out = runs[2].parents[1]
    return [json.loads((out / f"{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]


@pytest.mark.parametrize("rank", [0, 1])
def test_no_rank_holds_the_whole_lm(partitioned, large_lm, rank):
    """An LM that needs two devices would end the run of each of them while it is loaded, or in its first step."""
    peaks, size = partitioned[rank]["peaks"], large_lm[1]
    assert peaks["load"] < 0.65 * size, peaks
    assert size < peaks["0"], peaks
    assert peaks["3"] < 0.8 * peaks["0"], peaks


def test_a_partitioned_lm_trains_as_a_whole_one(partitioned):
    """Weights that were partitioned in another order, or read by one rank only, would train another LM."""
    runs = {stage: Path(run) for stage, run in partitioned[0]["runs"].items()}
    for phase in ("train_epoch", "valid_epoch"):
        ours, theirs = (logged(runs[stage], phase)[0]["total"] for stage in ("3", "0"))
        assert ours == pytest.approx(theirs, rel=1e-5)
    ours, theirs = (read_trained(runs[stage])[0] for stage in ("3", "0"))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-3, rtol=1e-3)
