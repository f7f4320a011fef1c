"""The ids of a reply: what the LM generated, and nothing that stands around it."""

import pytest
import torch

from models.decoding.generation import StopAtMarks, _without_padding, generate_replies
from models.decoding.settings import DecodingSettings
from tests.conftest import ROOT
from tests.helpers import inference_batch, model_of

CHOICE = torch.tensor([2, 0, 1, 2])
PAD, EOS, MARK = 0, 2, 9


class StopAt(StopAtMarks):
    """Stops at one id."""

    def __init__(self, token):
        self.stops = torch.arange(20) == token


def test_padding_is_left_out_and_the_last_token_kept():
    """An eos that is lost, or padding that is kept, changes every later turn of a history of ids."""
    tokens = torch.tensor([[5, EOS, PAD, PAD], [5, 6, 7, 8], [EOS, PAD, PAD, PAD], [PAD, 5, EOS, PAD]])
    assert _without_padding(tokens, EOS, []) == [(5, EOS), (5, 6, 7, 8), (EOS,), (PAD, 5, EOS)]
    padded_with_eos = torch.tensor([[5, MARK, EOS, EOS], [5, EOS, EOS, EOS], [5, 6, 7, MARK]])
    found = _without_padding(padded_with_eos, EOS, [StopAt(MARK)])
    assert found == [(5, MARK), (5, EOS), (5, 6, 7, MARK)]


@pytest.mark.parametrize("pad_is_eos", [False, True])
@pytest.mark.parametrize("beams", [1, 3])
def test_the_ids_are_the_text(make_config, examples, pad_is_eos, beams):
    """Ids of a neighbour, or with the prompt before them, would give a history that nobody has said."""
    config = make_config("opt", model={"model_name": str(ROOT / "tests" / "golden" / "opt-tiny")})
    torch.manual_seed(5)
    model = model_of(config)
    if pad_is_eos:
        model.tokenizer.pad_token = model.tokenizer.eos_token
    chosen = [examples[number] for number in (0, 6, 9, 3)]
    settings = DecodingSettings(num_beams=beams)
    batch = inference_batch(model, chosen)
    replies = generate_replies(model, batch, None, CHOICE, settings, [StopAtMarks(model)])
    eos, lengths = model.tokenizer.eos_token_id, set()
    for number, (example, reply) in enumerate(zip(chosen, replies, strict=True)):
        assert model.tokenizer.decode(reply.ids, skip_special_tokens=True) == reply.text
        assert eos not in reply.ids[:-1]
        lengths.add(len(reply.ids))
        batch = inference_batch(model, [example])
        one = CHOICE[number : number + 1]
        (alone,) = generate_replies(model, batch, None, one, settings, [StopAtMarks(model)])
        assert alone.ids == reply.ids  # alone there is nothing to pad
    assert len(lengths) > 1
