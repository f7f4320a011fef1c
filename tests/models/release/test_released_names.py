"""The authors' parameter names and ours: all that was trained is found, and nothing else."""

import pytest
import torch

from models.release.names import from_released, is_own_name, is_released_name
from models.trained_part import read_trained
from tests.helpers import model_of
from utils.errors import UserError

PROMPT = "models.{}.prompt_encoder.default.embedding.weight"
ENCODER = {"retriever_type": "transformer_encoder", "n_head": 4, "num_layers": 2}


def by_their_names(state):
    """The trained parameters of one of our models under the authors' names."""
    theirs = {}
    for name, tensor in state.items():
        if name == "soft_prompts.weight":
            theirs |= {PROMPT.format(index): prompt.clone() for index, prompt in enumerate(tensor)}
        elif name.startswith("retriever.encoder."):
            theirs[name.replace("retriever.encoder.", "retriever.")] = tensor
        else:
            theirs[name.replace("retriever.linear.", "prompt_normalizer.")] = tensor
    return theirs


@pytest.mark.parametrize("retriever", [{}, ENCODER], ids=["linear", "transformer_encoder"])
def test_a_whole_model_comes_over(make_config, retriever):
    """A name that is passed over leaves its random start behind, at a plausible score."""
    config = make_config("opt", model={"retriever": retriever})
    source, target = model_of(config), model_of(config)
    theirs = by_their_names(source.trained_state())
    assert theirs.keys().isdisjoint(source.trained_state())
    assert all(is_released_name(name) for name in theirs)
    target.load_trained_state(from_released(theirs, "a run"), "a run")
    for name, tensor in source.trained_state().items():
        assert torch.equal(target.trained_state()[name], tensor)


def test_prompts_are_ordered_by_number():
    """By text 10 comes before 2, and the retriever's choices would point to other prompts."""
    state = {PROMPT.format(index): torch.full((2, 3), float(index)) for index in reversed(range(12))}
    prompts = from_released(state, "a run")["soft_prompts.weight"]
    assert prompts.shape == (12, 2, 3)
    assert prompts[:, 0, 0].tolist() == list(range(12))


@pytest.mark.parametrize("numbers", [[0, 2], [1, 2], [3]])
def test_gaps_in_the_numbering_are_refused(numbers):
    """A lost prompt would shift the others to its place."""
    state = {PROMPT.format(number): torch.zeros(1, 2) for number in numbers}
    with pytest.raises(UserError, match=r"a run: soft prompts \[.*\] are not numbered 0 to"):
        from_released(state, "a run")


@pytest.mark.parametrize(
    "name",
    [
        "model.model.decoder.embed_tokens.weight",
        "models.0.base_model.model.decoder.layers.0.fc1.weight",
        "models.1.base_model.lm_head.weight",
        "models.0.word_embeddings.weight",
        "models.0.prompt_encoder.default.embedding.weight_scale",
        "lm.model.lm_head.weight",
        "prompt_normalizer.weights",
        "retriever.weight",
    ],
)
def test_the_frozen_lms_copies_are_not_ours(name):
    """They are gigabytes, once per prompt, and not of the LM that the user has."""
    assert not is_released_name(name)


def test_our_own_names_pass():
    """DeepSpeed writes our runs into files of the same shape."""
    state = {
        "soft_prompts.weight": torch.zeros(2, 1, 2),
        "retriever.encoder.layers.0.norm1.bias": torch.ones(2),
    }
    assert all(is_own_name(name) for name in state)
    assert from_released(state, "a run").keys() == state.keys()


def test_a_run_folder_with_the_lm_inside_gives_the_trained_part(make_config, tmp_path):
    """The authors' files may hold the LM K times over; only names decide what is read."""
    model = model_of(make_config("opt"))
    state = by_their_names(model.trained_state())
    lm = {
        f"models.{k}.base_model.{name}": tensor
        for k in range(3)
        for name, tensor in model.lm.state_dict().items()
    }
    folder = tmp_path / "ds_ckpt" / "best"
    folder.mkdir(parents=True)
    torch.save({"module": lm | state}, folder / "mp_rank_00_model_states.pt")
    read, source = read_trained(tmp_path)
    assert source == folder / "mp_rank_00_model_states.pt"
    assert read.keys() == model.trained_state().keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in model.trained_state().items())
