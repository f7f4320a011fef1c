"""How the trained parts start, and that each setting of their size and scale is used."""

import pytest
import torch

from models.configuration import build_config
from tests.conftest import FAMILIES
from tests.helpers import model_of, train_batch
from tests.models.spt.test_retriever import encoder, everything


@pytest.mark.parametrize("family", FAMILIES)
def test_loras_update_is_scaled_by_alpha_over_r(make_config, examples, family):
    """An alpha that is read and not used trains at another effective learning rate than the file says."""

    def loss(alpha, rank, factor):
        sizes = {"r": rank, "lora_alpha": alpha}
        model = model_of(make_config(family, model={"model_type": "lora", "peft_config": sizes}))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_A" in name:
                    # rows that are pair_labels, so that B A does not depend on the rank
                    parameter.copy_(
                        torch.linspace(-1, 1, parameter.shape[1]).cos().expand_as(parameter) / rank
                    )
                    parameter[:, ::2] *= -1
                elif "lora_B" in name:
                    parameter.copy_(
                        factor * torch.linspace(-1, 1, len(parameter))[:, None].expand_as(parameter)
                    )
            return model(train_batch(model, examples[:3])).total.item()

    once, twice, four = loss(4, 4, 1.0), loss(8, 4, 1.0), loss(16, 4, 1.0)
    assert len({round(value, 4) for value in (once, twice, four)}) == 3
    assert twice == pytest.approx(loss(4, 4, 2.0), rel=1e-5)
    assert four == pytest.approx(loss(4, 4, 4.0), rel=1e-5)
    assert loss(4, 2, 1.0) == pytest.approx(twice, rel=1e-5)  # over r


@pytest.mark.parametrize("family", FAMILIES)
def test_the_prefix_starts_small(make_config, family):
    """Keys and values of N(0, 1) drown those of the text: the LM starts from noise, and replies are worse."""
    sizes = {"num_virtual_tokens": 20}
    model = model_of(make_config(family, model={"model_type": "prefix_tuning", "peft_config": sizes}))
    assert model.prefix.std().item() == pytest.approx(0.02, rel=0.1)
    assert abs(model.prefix.mean().item()) < 0.002


@pytest.mark.parametrize("model_type", ["selective_pt", "prompt_tuning"])
def test_soft_prompts_start_at_the_standard_normal(make_config, model_type):
    """The paper's learning rates belong to prompts of that size."""
    sizes = {"num_virtual_tokens": 40}
    model = model_of(make_config(model={"model_type": model_type, "peft_config": sizes}))
    weight = model.soft_prompts.weight
    assert weight.std().item() == pytest.approx(1, rel=0.05)
    assert abs(weight.mean().item()) < 0.1


@pytest.mark.parametrize("layers", [1, 3])
def test_the_retrievers_encoder_has_the_depth_that_was_asked_for(layers):
    """A shallower encoder scores and trains as well, under the name of the deeper one."""
    width = 8
    retriever = encoder(width, retriever={"num_layers": layers})
    attention, feed_forward, norms = 4 * width * (width + 1), 2 * 2048 * width + 2048 + width, 4 * width
    trained = sum(parameter.numel() for parameter in retriever.encoder.parameters())
    assert trained == layers * (attention + feed_forward + norms)
    prompts, context = torch.randn(3, 4, width), torch.randn(2, 5, width)
    before = retriever(prompts, context, everything(context))
    before.sum().backward()
    for name, parameter in retriever.encoder.named_parameters():
        assert parameter.grad is not None, f"{name} is not used"


def test_the_retrievers_encoder_has_the_heads_that_were_asked_for():
    """Heads do not show in any shape: four and one give other scores from the same weights."""
    prompts, context = torch.randn(3, 4, 8), torch.randn(2, 5, 8)
    one, four = (encoder(retriever={"n_head": heads}) for heads in (1, 4))
    four.load_state_dict(one.state_dict())
    scores = [retriever(prompts, context, everything(context)) for retriever in (one, four)]
    assert not torch.allclose(*scores)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_lms_head_is_its_embedding(data, family):
    """An LM with a head of its own is another, larger one than the sample's sizes were chosen for."""
    init = {"architecture": family, "hidden_size": 16, "num_layers": 1, "num_heads": 2}
    sections = {
        "model": {"model_type": "language_model", "init": init | {"vocab_size": 300, "max_positions": 64}},
        "dataset": {"train": str(data["train"])},
    }
    model = model_of(build_config([("test", sections)])).lm.model
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert head is embedding
