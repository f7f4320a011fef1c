"""Reading the texts of one dialogue once: the same replies and losses as reading each alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from transformers import Cache
from transformers.cache_utils import DynamicLayer
from transformers.models.opt.modeling_opt import OPTModel

from dataset.batch import assign_rows
from models.decoding import prefill as prefill_module
from models.decoding.decode import DecodeOptions, decode_examples
from models.decoding.generation import generate_replies
from models.decoding.prefill import Targets, prefill
from models.decoding.settings import DecodingSettings
from models.lm.language_model import keys_and_values
from models.reading import make_collator, make_encoder
from tests.conftest import FAMILIES
from tests.helpers import encoded, inference_batch, model_of, target_losses, train_batch
from utils.distributed import DistributedContext

WORLD = DistributedContext(0, 0, 1, torch.device("cpu"))


@pytest.fixture(params=FAMILIES)
def model(request, make_config):
    """A tiny model of each family; an untied head, so that replies are not one token for ever."""
    made = model_of(make_config(request.param))
    torch.manual_seed(5)
    with torch.no_grad():
        made.lm.model.lm_head.weight = nn.Parameter(
            torch.randn_like(made.lm.head_weight), requires_grad=False
        )
    return made.eval()


def test_who_shares_a_row():
    """Texts after different prompts, or that begin otherwise, would be read from another text's row."""
    texts = [np.array(ids) for ids in ([1, 2], [1, 2, 3], [1, 9], [1, 2, 3, 4])]
    assert assign_rows(texts, [0, 0, 0, 0]) == ([0, 0, 1, 0], [3, 2])
    assert assign_rows(texts, [0, 1, 0, 0]) == ([0, 1, 2, 0], [3, 1, 2])


def test_a_reply_is_the_same_when_its_text_is_shared(model, examples):
    """A wrong mask or position after the shared keys and values would change the reply in silence."""
    chosen = examples[:12]  # two dialogues
    choice = torch.tensor([0, 0, 1, 1, 0, 2, 2, 0, 1, 1, 1, 0])
    batch = inference_batch(model, chosen)
    start = prefill(model, batch, choice, new_tokens=32)
    assert start.cache.layers[0].keys.shape[0] == 12
    together = [reply.text for reply in generate_replies(model, batch, None, choice)]
    alone = [
        generate_replies(model, inference_batch(model, [example]), None, choice[number : number + 1])[0].text
        for number, example in enumerate(chosen)
    ]
    assert together == alone
    assert len(set(together)) > 3


def test_target_losses_are_the_same_when_rows_are_shared(model, examples, make_config):
    """The perplexity would be that of another prompt where examples share a row."""
    config = model.config
    wide = decode_examples(model, config, examples[:20], WORLD, DecodeOptions(batch_size=20))
    single = decode_examples(model, config, examples[:20], WORLD, DecodeOptions(batch_size=1))
    for number, row in single.items():
        assert row["prompt"] == wide[number]["prompt"]
        assert row["nll"] == pytest.approx(wide[number]["nll"], abs=1e-3)
        assert row["nll_tokens"] == wide[number]["nll_tokens"]


@pytest.fixture
def positions_read(monkeypatch):
    """The shapes [rows, positions] that LMs read, pass by pass, but for single new tokens."""
    shapes = []
    forward = OPTModel.forward

    def record(self, *rest, inputs_embeds=None, **more):
        if inputs_embeds.shape[1] > 1:
            shapes.append(tuple(inputs_embeds.shape[:2]))
        return forward(self, *rest, inputs_embeds=inputs_embeds, **more)

    monkeypatch.setattr(OPTModel, "forward", record)
    return shapes


def test_a_dialogue_is_read_once_for_its_replies_and_its_losses(make_config, examples, positions_read):
    """A second pass over the same texts for their losses makes decoding take half as long again."""
    model = model_of(make_config("opt", model={"model_type": "textual"}))
    chosen = [example for example in examples if example.dialogue == 0]
    decode_examples(model, model.config, chosen, WORLD, DecodeOptions())
    whole = encoded(model, chosen, response=True)[-1].ids[:-1]
    assert len(chosen) > 3
    assert positions_read == [(1, len(whole))]


@pytest.mark.parametrize("positions", [1, 10_000])
@pytest.mark.parametrize("fidelity", ["paper", "released_code"])
def test_losses_are_those_of_a_pass_of_their_own(make_config, examples, monkeypatch, fidelity, positions):
    """A perplexity that depends on what is read beside it compares with none that was reported earlier."""
    monkeypatch.setattr(prefill_module, "_POSITIONS", {"cpu": positions})
    model = model_of(make_config("opt", model={"fidelity": fidelity}))
    rows = decode_examples(model, model.config, examples[:12], WORLD, DecodeOptions(batch_size=12))
    choice = torch.tensor([rows[number]["prompt"] for number in range(12)])
    sums, counts = target_losses(model, train_batch(model, examples[:12], decoding=True), choice)
    assert [rows[number]["nll_tokens"] for number in range(12)] == counts.tolist()
    assert [rows[number]["nll"] for number in range(12)] == pytest.approx(sums.tolist(), abs=1e-4)


def test_a_text_that_its_target_does_not_begin_with_is_read_for_itself(make_config, examples, positions_read):
    """Where turns were dropped for the new tokens alone, the reply would answer to the text with these turns."""
    model = model_of(make_config("opt"))
    example = examples[6]
    target = encoded(model, [example], response=True)[0]
    text = encoded(model, [replace(example, context=example.context[-1:])], response=False)[0]
    collator = make_collator(make_encoder(model.tokenizer, model.config), model.config, decoding=True)
    batch = collator.inference([text])
    choice = torch.tensor([1])
    alone = generate_replies(model, batch, None, choice)[0]
    positions_read.clear()
    targets = Targets([target.ids[:-1]], collator.train([target]))
    reply = generate_replies(model, batch, None, choice, targets=targets)[0]
    assert [rows for rows, _ in positions_read] == [1, 1]
    assert (reply.text, reply.ids) == (alone.text, alone.ids)
    assert reply.nll == pytest.approx(target_losses(model, targets.batch, choice)[0].item(), abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("model_type", ["selective_pt", "prompt_tuning", "prefix_tuning", "textual"])
def test_the_first_token_is_the_lms_own_argmax(make_config, examples, family, model_type):
    """`generate` skips cached positions of its input: a prefix would cost the text its first tokens."""
    model = model_of(make_config(family, model={"model_type": model_type}))
    example = examples[5]
    ids = torch.from_numpy(encoded(model, [example], response=False)[0].ids).long()[None]
    choice = torch.tensor([1]) if model_type == "selective_pt" else None
    row = model.lm.embed(ids)
    prompts = model.prompts_for(choice, 1)
    if prompts is not None:
        row = torch.cat([prompts, row], dim=1)
    with torch.no_grad():
        last = model.lm.hidden(row, model.prefix_cache(1))[0, -1]
        expected = int((model.lm.head_weight @ last).argmax())
    reply = generate_replies(
        model, inference_batch(model, [example]), None, choice, DecodingSettings(max_new_tokens=1)
    )[0]
    assert reply.text == model.tokenizer.decode([expected], skip_special_tokens=True)


def test_the_released_order_and_rows_stay(make_config, examples):
    """The release's choice depends on the batch, so its batches must stay those of the file."""
    config = make_config("opt", model={"fidelity": "released_code"})
    model = model_of(config).eval()
    rows = decode_examples(model, config, examples[:9], WORLD, DecodeOptions(batch_size=4))
    batch = inference_batch(model, examples[:4])
    assert [rows[number]["scores"] for number in range(4)] == [
        pytest.approx(column, abs=1e-6) for column in model.score_prompts(batch.query).T.tolist()
    ]


def test_a_layer_without_keys_is_named():
    """An LM that keeps a state of another kind would end in an error about None, far from its cause."""
    with pytest.raises(RuntimeError, match="DynamicLayer.* has no keys and values"):
        keys_and_values(Cache(layers=[DynamicLayer()]))
