"""ZeRO stage 3: each rank keeps its share of the LM, from loading to the end of the training."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from models.trained_part import read_trained
from tests.conftest import config_for
from tests.helpers import launch, logged

pytestmark = pytest.mark.slow  # a job of two processes


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
    """What the two ranks wrote."""
    out = tmp_path_factory.mktemp("partitioned")
    little = {name: out / f"{name}.txt" for name in data}
    for path in little.values():
        path.write_text("1 your persona: i ski.\n2 hi .\thi , you ?\n3 i ski .\tme too .\n", encoding="utf-8")
    sections = {"training": {"batch_size": 1, "save_model": False}, "model": {"model_type": "lora"}}
    content = {"out": str(out)}
    for size, folder in (("small", lm_folder("llama")), ("large", large_lm[0])):
        content[size] = config_for(little, folder, out / "runs", sections).model_dump()
    content["large"]["training"]["save_model"] = True
    (out / "job.json").write_text(json.dumps(content), encoding="utf-8")
    done = launch(
        "deepspeed",
        "--num_gpus=2",
        "--module",
        "tests.partitioned_ranks",
        str(out / "job.json"),
        # freed memory goes back to the system at once, and does not count as still in use
        variables={"MALLOC_MMAP_THRESHOLD_": "200000"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads((out / f"{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]


@pytest.mark.parametrize("rank", [0, 1])
def test_no_rank_holds_the_whole_lm(job, large_lm, rank):
    """An LM that needs two devices would end the run of each of them while it is loaded, or in its first step."""
    peaks, size = job[rank]["peaks"], large_lm[1]
    assert peaks["load"] < 0.65 * size, peaks
    assert size < peaks["0"], peaks
    assert peaks["3"] < 0.8 * peaks["0"], peaks


def test_a_partitioned_lm_trains_as_a_whole_one(job):
    """Weights that were partitioned in another order, or read by one rank only, would train another LM."""
    runs = {stage: Path(run) for stage, run in job[0]["runs"].items()}
    for phase in ("train_epoch", "valid_epoch"):
        ours, theirs = (logged(runs[stage], phase)[0]["total"] for stage in ("3", "0"))
        assert ours == pytest.approx(theirs, rel=1e-5)
    ours, theirs = (read_trained(runs[stage])[0] for stage in ("3", "0"))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-3, rtol=1e-3)
