"""Metrics that must be unavailable, with a reason: scores that are not finite, damaged models of BERTScore."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, BertTokenizerFast

from utils.metrics import bertscore, register, registry, score

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] cats like dogs .".split()
EXAMPLES = [{"prediction": "cats like", "target": "cats like dogs ."}, {"prediction": "dogs", "target": "."}]


@pytest.fixture
def bert(tmp_path):
    """A random BERT in a folder named as a model whose best layer (9) bert-score knows."""
    pytest.importorskip("bert_score")
    return save_bert(tmp_path / "bert-base-uncased", layers=9)


def save_bert(folder, layers):
    """A tiny BERT and its tokenizer in `folder`."""
    BertTokenizerFast(vocab={word: index for index, word in enumerate(WORDS)}).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 8, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=len(WORDS), initializer_range=0.1, **shape)).save_pretrained(folder)
    return folder


def change_weights(folder, change):
    """Apply `change` to the dict of weights."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def bert_scores(folder):
    """The three scores of BERTScore, the model read anew."""
    bertscore._load.cache_clear()
    return score(EXAMPLES, ["bert_f1", "bert_p", "bert_r"], {"bertscore_model": str(folder)}).values()


def reason(folder):
    """Why there is none of the three scores: one line."""
    results = list(bert_scores(folder))
    assert [result.value for result in results] == [None] * 3
    assert len({result.reason for result in results}) == 1
    assert "\n" not in results[0].reason
    return results[0].reason


def test_missing_weights_are_a_reason(bert):
    """Weights that are drawn at random in place of missing ones give plausible scores that mean nothing."""
    key = "encoder.layer.3.output.dense.weight"
    change_weights(bert, lambda weights: weights.pop(key))
    assert f"lacks 1 of its weights, such as {key}" in reason(bert)


def test_a_checkpoint_without_a_pooler_is_scored(bert):
    """The pooler takes no part in the score: to ask for it would refuse most published encoders."""
    expected = [result.value for result in bert_scores(bert)]

    def drop_pooler(weights):
        for key in [key for key in weights if key.startswith("pooler.")]:
            del weights[key]

    change_weights(bert, drop_pooler)
    assert [result.value for result in bert_scores(bert)] == expected
    assert None not in expected


def test_nan_weights_are_a_reason(bert):
    """bert-score turns an F1 that is NaN into 0, which reads as the worst possible replies."""
    change_weights(bert, lambda weights: weights["encoder.layer.3.output.dense.weight"].fill_(math.nan))
    assert "gives scores that are not finite" in reason(bert)


def test_too_few_layers_are_a_reason(tmp_path):
    """A score of layer 4 under a signature that says layer 9 would be compared with the wrong figures."""
    pytest.importorskip("bert_score")
    folder = save_bert(tmp_path / "bert-base-uncased", layers=4)
    assert "has 4 layers, its score is defined on layer 9" in reason(folder)


def garbage_weights(folder):
    """What a proxy's error page leaves in place of a download."""
    (folder / "model.safetensors").write_bytes(b"<html>" * 100)


def nested_config(folder):
    """Lists in lists, deeper than the parser goes."""
    (folder / "config.json").write_text("[" * 100_000)


def config_with(**changes):
    """A config.json with other values."""

    def damage(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


@pytest.mark.parametrize(
    "damage",
    [garbage_weights, nested_config, config_with(num_attention_heads=0), config_with(hidden_act="no_such")],
    ids=["garbage weights", "nested config", "no heads", "unknown activation"],
)
def test_a_damaged_model_is_a_reason(bert, damage):
    """A traceback from one broken file would cost the report of all other metrics."""
    damage(bert)
    assert f"cannot load the model in {bert}: " in reason(bert)


def test_a_model_name_too_long_for_a_file_is_a_reason():
    """A pasted text as --bertscore_model must not end in a traceback of the file system's error."""
    pytest.importorskip("bert_score")
    assert "not in the local Hugging Face cache" in reason("x" * 300)


@pytest.mark.parametrize(
    ("level", "values", "why"),
    [
        ("corpus", math.inf, "the score is not finite: inf"),
        ("corpus", math.nan, "the score is not finite: nan"),
        ("example", [1.0, math.nan], "the score is not finite in 1 of 2 examples"),
        ("example", [-math.inf, math.inf], "the score is not finite in 2 of 2 examples"),
        ("example", [1e308, 1e308], "the mean or its standard error is too large to be represented"),
    ],
)
def test_no_metric_gives_a_score_that_is_not_finite(monkeypatch, level, values, why):
    """A NaN or an infinity in a table is sorted and averaged with the numbers beside it."""
    monkeypatch.setattr(registry, "_METRICS", dict(registry._METRICS))
    register("odd", "even", direction="higher", level=level, signature="")(
        lambda corpus: (values, 1.0 if level == "corpus" else [1.0, 2.0])
    )
    result = score(EXAMPLES, ["odd", "even"])
    assert (result["odd"].value, result["odd"].stderr, result["odd"].reason) == (None, None, why)
    assert result["even"].value is not None


def test_texts_without_a_token_are_no_damage(bert):
    """A reply of characters that the tokenizer drops has no token to match: 0 as for an empty one, not a reason."""
    examples = [{"prediction": "\u200b", "target": "cats"}, {"prediction": "cats", "target": "\u200b"}]
    examples.append({"prediction": "\u200b", "target": "\u200b"})
    bertscore._load.cache_clear()
    result = score(examples, ["bert_f1"], {"bertscore_model": str(bert)})["bert_f1"]
    assert (result.value, result.reason) == (0.0, "")
