"""The sample's untrained models."""

import json

import pytest
import torch

from companions.lamp.encoder import load_encoder
from companions.lamp.lm.load import load_lm
from companions.lamp.pipeline.tiny_models import make, parser
from companions.lamp.sample import generate


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """make_models(name): the folder of the models of the sample's training questions."""
    folder = tmp_path_factory.mktemp("models")

    def make_models(name):
        questions = generate.FOLDER / "train_questions.json"
        words = ["--task", "LaMP-3", "--questions", str(questions), "--out", str(folder / name)]
        make(parser().parse_args(words))
        return folder / name

    return make_models


def test_they_load_as_pretrained_ones_do_and_know_every_word(made):
    """An unknown word is the same as any other unknown one: the item with it cannot be told from the others."""
    folder = made("first")
    lm, encoder = load_lm(str(folder / "lm")), load_encoder(str(folder / "encoder"))
    load_encoder(str(folder / "scorer"))
    for question in json.loads((generate.FOLDER / "dev_questions.json").read_text()):
        items = [f'{item["score"]} is the score for "{item["text"]}" ' for item in question["profile"]]
        texts = [question["input"], *items, ", and ", ". "]
        for tokenizer in (lm.tokenizer, encoder.tokenizer):
            assert tokenizer.unk_token_id not in sum(tokenizer(texts).input_ids, [])


def test_an_output_is_read_as_it_was_written(made):
    """The best LM would have an MAE as if it knew nothing."""
    tokenizer = load_lm(str(made("second") / "lm")).tokenizer
    for rating in "12345":
        assert tokenizer.decode(tokenizer(rating).input_ids, skip_special_tokens=True) == rating


def test_they_are_the_same_each_time(made):
    """The demo's table would differ from call to call."""
    torch.manual_seed(1)
    first = made("third")
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    second = made("fourth")
    assert torch.equal(state, torch.random.get_rng_state()), "what is drawn later is as it was"
    for name in ("lm", "encoder", "scorer"):
        weights = [(folder / name / "model.safetensors").read_bytes() for folder in (first, second)]
        assert weights[0] == weights[1]
