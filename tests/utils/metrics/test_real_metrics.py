"""Metrics on what they really need: WordNet for METEOR, bert-score with a model for BERTScore."""

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from utils.metrics import Unavailable, meteor, score

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] cats like dogs and birds .".split()


def pair(prediction, target):
    """The only example of a corpus."""
    return [{"prediction": prediction, "target": target}]


@pytest.fixture
def system_wordnet(monkeypatch, tmp_path):
    """The system's WordNet, with none of NLTK's own beside it."""
    import nltk

    if not (meteor.SYSTEM_WORDNET / "data.noun").is_file():
        pytest.skip(f"no WordNet in {meteor.SYSTEM_WORDNET} (Debian: apt-get install wordnet-base)")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])


@pytest.fixture
def wordnet():
    """Any WordNet that METEOR finds."""
    try:
        meteor.load_wordnet()
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("prediction", "target", "matches"),
    [
        ("a car stopped", "a auto stopped", 3),  # in one synset
        ("a hound barked", "a dog barked", 3),
        ("cats slept", "cat walked", 1),  # by its stem
        ("a car stopped", "a tree stopped", 2),
    ],
)
def test_meteor_with_the_system_wordnet(system_wordnet, prediction, target, matches):
    """Without synonyms METEOR is plausible and too low, and compares with no published figure."""
    result = score(pair(prediction, target), ["meteor"])["meteor"]
    assert result.reason == ""
    length = len(target.split())
    chunks = 2 if matches == 2 else 1  # "a" and "stopped" with another word between
    penalty = 0.5 * (chunks / matches) ** 3
    assert result.value == pytest.approx(100 * (1 - penalty) * matches / length)  # as P = R
    assert "synonyms of WordNet 3.0 (the system's wordnet-base)" in result.signature


def test_meteor_weighs_recall_over_precision(wordnet):
    """With the arguments swapped, a reply that says too much scores as one that says too little."""
    long, short = "my dog barks at cars", "dog barks"
    too_little = score(pair(short, long), ["meteor"])["meteor"].value  # P = 1, R = 2/5
    too_much = score(pair(long, short), ["meteor"])["meteor"].value  # P = 2/5, R = 1
    chunk = 1 - 0.5 * 0.5**3
    assert too_little == pytest.approx(100 * chunk * 0.4 / (0.9 * 1 + 0.1 * 0.4))
    assert too_much == pytest.approx(100 * chunk * 0.4 / (0.9 * 0.4 + 0.1 * 1))


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A random BERT in a folder named as a model whose best layer (9) bert-score knows."""
    folder = tmp_path_factory.mktemp("bert") / "bert-base-uncased"
    tokenizer = BertTokenizerFast(vocab={word: index for index, word in enumerate(WORDS)})
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 8, "num_hidden_layers": 12, "num_attention_heads": 2, "intermediate_size": 8}
    config = BertConfig(vocab_size=len(WORDS), initializer_range=0.1, **shape)
    BertModel(config).save_pretrained(folder)
    return folder


def greedy(folder, prediction, target):
    """P, R and F1 in percent: each token with its best partner on the other side ([CLS], [SEP] weigh 0)."""
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    model = BertModel.from_pretrained(folder).eval()
    sides = []
    for text in (prediction, target):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
        sides.append(torch.nn.functional.normalize(states[9][0], dim=-1))  # [tokens, H]
    cosine = sides[0] @ sides[1].T  # [predicted, true]
    precision = cosine.max(dim=1).values[1:-1].mean().item()
    recall = cosine.max(dim=0).values[1:-1].mean().item()
    return 100 * precision, 100 * recall, 200 * precision * recall / (precision + recall)


@pytest.mark.parametrize(
    ("prediction", "target"),
    [("dogs", "cats like dogs and birds ."), ("cats like dogs and birds .", "birds"), ("cats", "cats")],
)
def test_bertscore_is_the_papers_formula(bert, prediction, target):
    """P and R swapped, another layer, or references given as candidates: each is a plausible percentage."""
    settings = {"bertscore_model": str(bert)}
    result = score(pair(prediction, target), ["bert_p", "bert_r", "bert_f1"], settings)
    ours = [metric.value for metric in result.values()]
    assert ours == pytest.approx(greedy(bert, prediction, target), abs=1e-3)
    assert "bert-score 0." in result["bert_p"].signature
    assert "layer 9" in result["bert_p"].signature
    if prediction != target:
        assert abs(ours[0] - ours[1]) > 1  # else swapped values would pass


def test_bertscore_of_a_corpus_keeps_each_example_at_its_place(bert):
    """bert-score sorts texts by length; values that came back in that order would give the same mean only."""
    texts = [("dogs", "cats like dogs and birds ."), ("", "cats"), ("cats like birds", "birds like cats .")]
    corpus = [{"prediction": prediction, "target": target} for prediction, target in texts]
    settings = {"bertscore_model": str(bert)}
    from utils.metrics import bertscore
    from utils.metrics.registry import Corpus

    f1, precision, recall = bertscore.bertscore(Corpus(corpus, settings))
    for place, (prediction, target) in enumerate(texts):
        expected = greedy(bert, prediction, target) if prediction else (0, 0, 0)
        assert (precision[place], recall[place], f1[place]) == pytest.approx(expected, abs=1e-3)
