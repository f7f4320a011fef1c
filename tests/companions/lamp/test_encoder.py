"""The text encoder: pooling, batches, cutting, and folders that are none of an encoder."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from companions.lamp.encoder import Encoder, batches_by_length, load_encoder, mean_pool
from tests.companions.lamp.conftest import ENCODER
from tests.companions.lamp.golden import GOLDEN
from utils.errors import UserError


def test_padding_is_no_part_of_the_mean():
    """A short text beside a long one would get the vector of its padding."""
    hidden = torch.tensor(
        [[[1.0, 2.0], [3.0, 6.0], [100.0, torch.nan]], [[5.0, 5.0], [7.0, 7.0], [9.0, 9.0]]]
    )
    mask = torch.tensor([[1, 1, 0], [0, 0, 0]])
    assert mean_pool(hidden, mask).tolist() == [[2.0, 4.0], [0.0, 0.0]]


def test_batches_are_as_large_as_the_memory_allows():
    """16 texts of one token each would take the time of 16 long ones; 16 long ones the memory of a whole profile."""
    texts = [(1,) * length for length in (9, 9, 4, 4, 3, 1, 1, 0)]
    found = [[len(text) for text in batch] for batch in batches_by_length(texts, 12)]
    assert found == [[9], [9], [4, 4, 3], [1, 1, 0]]
    assert [len(batch) for batch in batches_by_length(texts, 1)] == [1] * 8


def test_padding_is_not_most_of_the_work():
    """A profile with one long review: every short one would take as long as that."""
    texts = [(1,) * length for length in (100, 12, 11, 10, 9, 2)]
    found = [[len(text) for text in batch] for batch in batches_by_length(texts, 1000, 8)]
    assert found == [[100], [12, 11, 10, 9], [2]]


def test_each_text_gets_its_own_vector(encoder):
    """Sorted by length and put back wrongly, every document would be ranked by another one's text."""
    texts = ["a long text about the warm oven", "sea", "a robot", "sea", ""]
    ids = encoder.tokenize(texts)
    vectors, row = encoder.embed(ids)
    assert len(vectors) == 4
    assert row[1] == row[3]
    for number, text in enumerate(ids):
        torch.testing.assert_close(vectors[row[number]], encoder.pooled([text])[0].detach())
    assert not vectors.requires_grad


def test_the_encoder_learns_through_pooled(encoder):
    """A vector without a gradient would leave a retriever in training as it was, at a loss that looks right."""
    weight = encoder.model.get_input_embeddings().weight
    encoder.pooled(encoder.tokenize(["sea", "a robot"])).sum().backward()
    assert weight.grad.abs().sum() > 0
    weight.grad = None


def test_texts_are_cut_at_the_tokenizers_limit(encoder):
    """A longer text has positions that the encoder was never trained on, or none at all."""
    assert encoder.max_length == 96
    assert [len(ids) for ids in encoder.tokenize(["oven " * 500, "oven"])] == [96, 3]
    assert [len(ids) for ids in encoder.tokenize(["oven " * 500], max_length=10)] == [10]
    assert encoder.tokenize([]) == []


def test_a_tokenizer_without_a_limit_is_limited(tmp_path):
    """Its own word for "none" is 10^30: the first long item would end the ranking with an index error."""
    shutil.copytree(ENCODER, tmp_path / "encoder")
    path = tmp_path / "encoder" / "tokenizer_config.json"
    settings = json.loads(path.read_text("utf-8"))
    del settings["model_max_length"]
    path.write_text(json.dumps(settings), encoding="utf-8")
    assert load_encoder(str(tmp_path / "encoder")).max_length == 128  # positions of the encoder


def test_a_saved_encoder_is_usable_at_once(encoder, tmp_path):
    """A trained retriever without its tokenizer, as the release saves it, ranks nothing."""
    encoder.save(tmp_path / "retriever")
    ids = encoder.tokenize(["the warm oven"])
    for name in ("retriever/", "retriever"):
        again = load_encoder(str(tmp_path / name))
        assert again.tokenize(["the warm oven"]) == ids
        assert torch.equal(again.embed(ids)[0], encoder.embed(ids)[0])
    (tmp_path / "run").mkdir()
    shutil.copytree(tmp_path / "retriever", tmp_path / "run" / "model")
    assert load_encoder(str(tmp_path / "run")).max_length == encoder.max_length


def damaged(name, tmp_path):
    """A copy of a model without some of its files."""
    folder = tmp_path / name
    if name == "without tokenizer":
        shutil.copytree(ENCODER, folder, ignore=shutil.ignore_patterns("*token*"))
    elif name == "without weights":
        shutil.copytree(ENCODER, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    elif name in ("with more layers", "with fewer layers"):
        shutil.copytree(ENCODER, folder)
        layers = {"num_hidden_layers": 3 if name == "with more layers" else 1}
        config = json.loads((folder / "config.json").read_text("utf-8")) | layers
        (folder / "config.json").write_text(json.dumps(config), "utf-8")
    elif name == "with a decoder":
        return GOLDEN / "models" / "t5-tiny"
    return folder


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("without tokenizer", "tokenizer"),
        ("without weights", "encoder in folder .* cannot be read"),
        ("with more layers", "its files lack 16 of its weights, such as encoder.layer.2"),
        ("with fewer layers", r"weights that its config\.json has no layer for, such as encoder\.layer\.1\."),
        ("with a decoder", "an encoder is needed, and 't5' has a decoder"),
        ("which is not there", "give a folder with --contriever_checkpoint FOLDER"),
    ],
)
def test_a_folder_that_is_no_encoder_is_refused_in_one_line(tmp_path, name, words):
    """With weights drawn at random the ranking would be a lottery that looks like a result."""
    with pytest.raises(UserError, match=words) as caught:
        load_encoder(str(damaged(name, tmp_path)))
    assert "\n" not in str(caught.value)


def test_the_head_that_an_encoder_was_trained_with_is_left_out(tmp_path):
    """BERT and many others come with the head of their first training: refused, they could not be used."""
    shutil.copytree(ENCODER, tmp_path / "encoder")
    path = tmp_path / "encoder" / "model.safetensors"
    save_file(load_file(path) | {"cls.predictions.bias": torch.zeros(3)}, path, {"format": "pt"})
    assert load_encoder(str(tmp_path / "encoder")).max_length == 96


def test_the_encoder_is_an_inference_model(encoder):
    """Dropout would give a text another vector at each call."""
    assert isinstance(encoder, Encoder)
    assert not encoder.model.training
