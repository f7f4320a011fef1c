"""Beam search in batches gives what the library's `generate` gives for one prompt."""

import dataclasses

import pytest
import torch

from companions.lamp.lm.beam_search import beam_search
from companions.lamp.lm.shared_keys import shares_keys
from tests.companions.lamp.lm.made_lms import MODELS, WITH_ENCODER, made, prompts

FAMILIES = sorted(MODELS)


def by_library(lm, ids, max_length, num_beams=4, **settings):
    """The library's output of one prompt, from its first new token to eos."""
    inputs = torch.tensor([ids])
    # with an encoder the length has the token that the output starts with
    limit = {"max_length": max_length} if lm.has_encoder else {"max_new_tokens": max_length - 1}
    before = 1 if lm.has_encoder else len(ids)
    row = lm.model.generate(
        inputs,
        attention_mask=torch.ones_like(inputs),
        num_beams=num_beams,
        do_sample=False,
        **limit,
        **settings,
    )[0].tolist()[before:]
    return row[: row.index(1) + 1] if 1 in row else row


def searched(lm, ids, max_length=20, num_beams=4, leave=0, **settings):
    """The outputs of prompts in one batch."""
    search = dataclasses.replace(lm.search(num_beams, max_length), **settings)
    return beam_search(lm.kind.decoder(lm.kind.read(ids)), search, leave)


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_are_those_of_the_library(family, num_beams):
    """A beam taken from another question, or padding that is read, gives fluent outputs of another prompt."""
    lm = made(family)
    ids = prompts(lm)
    assert searched(lm, ids, num_beams=num_beams) == [by_library(lm, one, 20, num_beams) for one in ids]


@pytest.mark.parametrize("family", WITH_ENCODER)
def test_an_lm_without_the_default_attention(family):
    """Beams that share keys which this attention cannot share: an error, or the prompt of another question is read."""
    lm = made(family, attention="eager")
    assert not shares_keys(lm.model)
    ids = prompts(lm)
    assert searched(lm, ids) == [by_library(lm, one, 20) for one in ids]


@pytest.mark.parametrize(
    "settings",
    [
        {"length_penalty": 2.0},
        {"length_penalty": -1.0},
        {"early_stopping": True},
        {"early_stopping": "never"},
        {"no_repeat_ngram_size": 2},
        {"min_length": 6},
        {"repetition_penalty": 1.5},
        {"forced_bos_token_id": 7},
    ],
    ids=str,
)
@pytest.mark.parametrize("family", ["t5", "bart"])
def test_the_lms_own_settings_count(family, settings):
    """A summariser's length penalty left out: outputs are shorter than the LM's own, and no error says so."""
    lm = made(family)
    ids = prompts(lm, 12)
    for name, value in settings.items():
        setattr(lm.model.generation_config, name, value)
    assert searched(lm, ids) == [by_library(lm, one, 20) for one in ids]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_last_questions_are_left(family):
    """A question that is left has no output; taken as an empty one, it would be scored as a wrong answer."""
    lm = made(family)
    ids = prompts(lm)
    whole, part = searched(lm, ids), searched(lm, ids, leave=12)
    assert len({len(output) for output in whole}) > 3, "outputs of one length leave the batch together"
    assert 1 <= part.count(None) <= 12
    assert all(some is None or some == all_ for some, all_ in zip(part, whole, strict=True))


def test_an_output_may_be_cut_by_its_length():
    """The best of the unfinished outputs is given; an empty one instead would score 0."""
    lm = made("bart")
    ids = prompts(lm)
    outputs = searched(lm, ids, max_length=4)
    assert max(len(output) for output in outputs) == 3
    assert outputs == [by_library(lm, one, 4) for one in ids]


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_are_those_of_the_library(family):
    """A target shifted by one, or padding counted, trains the LM on other tokens at a plausible loss."""
    lm = made(family)
    ids = prompts(lm, 6)
    targets = [[5, 6, 1], [7, 1], [8, 9, 10, 11, 1], [1], [12, 13, 1], [5, 1]]
    losses, owner = lm.kind.token_losses(lm.kind.read(ids), targets)
    for number, (source, target) in enumerate(zip(ids, targets, strict=True)):
        if family in WITH_ENCODER:
            wanted = lm.model(input_ids=torch.tensor([source]), labels=torch.tensor([target])).loss
        else:
            labels = torch.tensor([[-100] * len(source) + target])
            wanted = lm.model(input_ids=torch.tensor([source + target]), labels=labels).loss
        torch.testing.assert_close(losses[owner == number].mean(), wanted, atol=1e-5, rtol=1e-4)
        assert (owner == number).sum() == len(target)
