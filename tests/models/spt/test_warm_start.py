"""Soft prompts that start from the trained one of a prompt_tuning run."""

import json
import shutil

import pytest
import torch

from models.decoding.runs import load_run, read_run_config
from models.lm.language_model import weights_sha256
from models.spt.soft_prompts import WARM_START_NOISE, SoftPrompts, warm_start_prompts
from models.trained_part import read_trained, write_trained
from tests.helpers import model_of, train
from utils.errors import UserError

PROMPT = torch.linspace(-1, 3, 4 * 32).reshape(1, 4, 32)


@pytest.fixture
def run(tmp_path, lm_folder):
    """What a prompt_tuning run of 4 virtual tokens leaves."""
    folder = tmp_path / "prompt_tuning"
    folder.mkdir()
    known = {"base_model": "its LM", "base_model_sha256": weights_sha256(str(lm_folder("opt")))}
    write_trained(folder, {"soft_prompts.weight": PROMPT}, known)
    return folder


def started(run, seed=7):
    """Three prompts that were started from a run."""
    prompts = SoftPrompts(3, 4, 32)
    warm_start_prompts(prompts, run, seed)
    return prompts.weight.detach()


def test_all_prompts_start_near_the_trained_one(run):
    """Equal prompts would stay equal for ever; ones that are far away have lost what was trained."""
    first, *others = started(run)
    assert torch.equal(first, PROMPT[0])
    noise = torch.stack(others) - first
    assert noise.std().item() == pytest.approx(WARM_START_NOISE * PROMPT.std().item(), rel=0.2)
    assert not torch.allclose(noise[0], noise[1])


def test_the_seed_alone_decides_the_offsets(run):
    """Ranks whose random states have parted would train different prompts under one name."""
    torch.manual_seed(1)
    prompts = started(run)
    torch.manual_seed(2)
    assert torch.equal(started(run), prompts)
    assert not torch.equal(started(run, seed=8), prompts)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"soft_prompts.weight": torch.ones(3, 4, 32)}, "is not of a prompt_tuning run"),
        ({"soft_prompts.weight": torch.tensor(1.0)}, "is not of a prompt_tuning run"),
        (
            {"soft_prompts.weight": PROMPT, "retriever.linear.bias": torch.ones(32)},
            "is not of a prompt_tuning",
        ),
        ({"lora_A": torch.ones(4, 32)}, "is not of a prompt_tuning run"),
        (
            {"soft_prompts.weight": torch.ones(1, 1, 32)},
            r"shape \[1, 32\], the configuration asks for \[4, 32\]",
        ),
        (
            {"soft_prompts.weight": torch.ones(1, 4, 1)},
            r"shape \[4, 1\], the configuration asks for \[4, 32\]",
        ),
    ],
)
def test_other_shapes_are_refused(run, state, message):
    """A shape of 1 would be broadcast in silence, and K prompts for one are no trained prompt."""
    write_trained(run, state, {})
    with pytest.raises(UserError, match=message):
        started(run)


def test_training_starts_there_and_decoding_needs_the_run_no_more(make_config, distributed, run):
    """A start that is read with the model, too, ends each decoding of a run whose start was moved away."""
    settings = {"warm_start_prompt": str(run), "learning_rate": 1e-7, "training_ratio": 0.2, "seed": 7}
    wanted = started(run)
    trained = train(make_config(training=settings), distributed, "warm")
    found = read_trained(trained)[0]["soft_prompts.weight"]
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    assert not torch.equal(found, wanted)
    shutil.rmtree(run)
    assert torch.equal(load_run(trained, read_run_config(trained)).soft_prompts.weight, found)


def test_two_starts_are_refused(make_config, distributed, run, trained_run):
    """One of them would be trained, and the run's files would name both."""
    config = make_config(training={"warm_start_prompt": str(run)})
    with pytest.raises(UserError, match=r"--ckpt_path and training\.warm_start_prompt both"):
        train(config, distributed, "warm", ckpt_path=str(trained_run))
    with pytest.raises(UserError, match=r"warm_start_prompt and model\.prompt_init both"):
        make_config(training={"warm_start_prompt": str(run)}, model={"prompt_init": "vocab"})
    with pytest.raises(UserError, match=r"warm_start_prompt needs model\.fidelity: paper"):
        make_config(training={"warm_start_prompt": str(run)}, model={"fidelity": "released_code"})


@pytest.mark.parametrize("metadata", [{"base_model": "other", "base_model_sha256": "0" * 64}, {}])
def test_the_prompt_of_another_lm_is_refused(make_config, run, metadata):
    """Of equal width it fits, says nothing to this LM, and the training starts from worse than noise."""
    (run / "trained.json").write_text(json.dumps(metadata), encoding="utf-8")
    model = model_of(make_config(training={"warm_start_prompt": str(run)}))
    with pytest.raises(
        UserError, match=r"warm_start_prompt: .*prompt_tuning is of another base LM"
    ) as refused:
        model.warm_start()
    assert "\n" not in str(refused.value)
