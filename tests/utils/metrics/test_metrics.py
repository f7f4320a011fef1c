"""The metrics, against numbers worked out by hand and on degenerate inputs."""

import math
import sys

import pytest

from utils.errors import UserError
from utils.metrics import Unavailable, bertscore, meteor, register, registry, score


def pairs(*texts):
    """Examples from (prediction, target) pairs."""
    return [{"prediction": prediction, "target": target} for prediction, target in texts]


def value(name, examples):
    """The value of one metric."""
    return score(examples, [name])[name].value


@pytest.fixture
def no_registration_left(monkeypatch):
    """Whatever a test registers is gone after it."""
    monkeypatch.setattr(registry, "_METRICS", dict(registry._METRICS))


@pytest.fixture
def empty_nltk_path(monkeypatch, tmp_path):
    """No WordNet, neither NLTK's own nor the system's, as on a fresh computer."""
    import nltk

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.setattr(meteor, "SYSTEM_WORDNET", tmp_path)


def test_f1_counts_a_repeated_token_as_often_as_both_sides_have_it():
    """Overlap of sets would share one "a", counting each predicted one would share three.

    Here 2 are shared, of 4 and 3 tokens: 2 * 2 / (4 + 3).
    """
    assert value("f1", pairs(("a a a b", "a a c"))) == pytest.approx(400 / 7)


def test_f1_takes_tokens_as_they_are():
    """Lower-casing or dropping punctuation would make SPT's F1 into ParlAI's. Shared: 1 of 3 and 3."""
    assert value("f1", pairs(("The dog .", "the dog!! dog"))) == pytest.approx(100 / 3)


def test_f1_parlai_drops_case_punctuation_and_articles():
    """ParlAI's F1 must not be SPT's: "dog barks" against "dog t barks", so 2 * 2 / (2 + 3)."""
    examples = pairs(("The dog barks.", "a dog't, BARKS !"))
    assert value("f1_parlai", examples) == pytest.approx(80.0)
    assert value("f1_parlai", pairs(("The dog.", "a dog"))) == pytest.approx(100)
    assert value("f1_parlai", pairs(("hi , there", "hi , there"))) == pytest.approx(100)
    assert value("f1", examples) == pytest.approx(0.0)


def test_mean_over_examples_and_its_standard_error():
    """A corpus-level F1 or a population deviation would differ: 100 and 0 give 50 and (100/sqrt 2)/sqrt 2."""
    result = score(pairs(("a", "a"), ("b", "c")), ["f1"])["f1"]
    assert (result.value, result.stderr) == (pytest.approx(50.0), pytest.approx(50.0))
    assert score(pairs(("a", "a")), ["f1"])["f1"].stderr is None


def test_bleu_is_of_the_corpus():
    """A mean of sentence BLEUs, or smoothed precisions, would differ.

    Matches over totals by hand: 1-grams 8/9, 2-grams 6/7, 3-grams 4/5, 4-grams 2/3; 9 tokens on both sides.
    """
    names = ["bleu", "bleu_1", "bleu_2", "bleu_3", "bleu_4"]
    result = score(pairs(("a b c d", "a b c d"), ("e f g h i", "e f g h x")), names)
    precisions = [800 / 9, 600 / 7, 80.0, 200 / 3]
    assert [result[name].value for name in names[1:]] == pytest.approx(precisions)
    assert result["bleu"].value == pytest.approx(math.prod(precisions) ** 0.25)


def test_bleu_is_sacrebleu_with_defaults():
    """Swapped arguments or other settings would not compare with published BLEU."""
    import sacrebleu

    examples = pairs(("i like to Ski .", "i love to ski , a lot ."), ("yes", "yes i do"))
    expected = sacrebleu.corpus_bleu([e["prediction"] for e in examples], [[e["target"] for e in examples]])
    result = score(examples, ["bleu"])["bleu"]
    assert result.value == pytest.approx(expected.score)
    assert "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:" in result.signature


def test_rouge_is_an_f_measure_without_stemming():
    """Recall alone, or stems ("cats" as "cat"), would raise it.

    By hand, precision and recall: rouge1 2/3 and 2/4, rouge2 0 and 0, rougeL 1/3 and 1/4.
    """
    result = score(pairs(("Cats like dogs", "dogs like a cat")), ["rouge1", "rouge2", "rougeL"])
    assert [r.value for r in result.values()] == pytest.approx([400 / 7, 0.0, 200 / 7])


def test_dist_is_pooled_in_percent_and_does_not_cross_responses():
    """A mean over responses gives other numbers, and a joined text would invent the bigram "b a".

    Unigrams a b a a b: 2 of 5. Bigrams (a b) (a a) (a b): 2 of 3.
    """
    examples = pairs(("a b", ""), ("a a b", ""))
    assert value("dist_1", examples) == pytest.approx(40.0)
    assert value("dist_2", examples) == pytest.approx(200 / 3)


def test_ppl_is_per_token_of_the_corpus():
    """A mean of per-example perplexities would differ: exp((2 + 10) / (4 + 4)), in nats."""
    examples = pairs(("", "x"), ("", "y"))
    examples[0] |= {"nll": 2.0, "nll_tokens": 4}
    examples[1] |= {"nll": 10.0, "nll_tokens": 4}
    assert value("ppl", examples) == pytest.approx(math.exp(1.5))


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({}, "nll is missing in 1 of 2"),
        ({"nll": None, "nll_tokens": None}, "nll is missing in 1 of 2"),
        ({"nll": math.nan, "nll_tokens": 1}, "nll is not finite in 1 of 2"),
        ({"nll": math.inf, "nll_tokens": 1}, "nll is not finite in 1 of 2"),
    ],
)
def test_ppl_is_empty_rather_than_of_a_part(extra, reason):
    """Leaving examples out would compare runs on different examples, without a word."""
    examples = [
        {"prediction": "", "target": "", "nll": 1.0, "nll_tokens": 1},
        {"prediction": "", "target": ""} | extra,
    ]
    result = score(examples, ["ppl"])["ppl"]
    assert result.value is None
    assert reason in result.reason


def test_ppl_of_no_token_and_of_a_hopeless_model():
    """0 / 0 and exp(1000) must not end a report over many runs."""
    none = [{"prediction": "", "target": "", "nll": 0.0, "nll_tokens": 0}]
    assert score(none, ["ppl"])["ppl"].reason == "nll_tokens is 0 in every example"
    hopeless = score([none[0] | {"nll": 1000.0, "nll_tokens": 1}], ["ppl"])["ppl"]
    assert hopeless.value is None
    assert hopeless.reason == "the perplexity is too large to be represented; the run has diverged"


def test_empty_prediction_scores_zero_and_dist_says_why_it_is_empty():
    """A response that the cut emptied must neither crash the report nor be left out of the means."""
    zero = ["f1", "f1_parlai", "bleu", "bleu_1", "bleu_4", "rouge1", "rouge2", "rougeL"]
    result = score(pairs(("", "a b"), ("   ", "")), [*zero, "dist_1", "dist_2"])
    assert [result[name].value for name in zero] == [0.0] * len(zero)
    assert result["dist_1"].value is None
    assert result["dist_2"].reason == "no prediction has 2 or more tokens, so there is no 2-gram to count"


class NoSynonyms:
    """A WordNet that knows no word, so that METEOR can be worked out by hand."""

    def synsets(self, word):
        """No synset."""
        return []

    def get_version(self):
        """For the signature."""
        return "0"


def test_meteor_by_hand(monkeypatch):
    """Swapped arguments would weigh precision for recall.

    Two matches in one chunk, P = 2/2, R = 2/4: Fmean = P R / (0.9 P + 0.1 R), penalty = 0.5 (1/2)^3.
    """
    monkeypatch.setattr(meteor, "load_wordnet", lambda: (NoSynonyms(), "none"))
    result = score(pairs(("x y", "X y z w"), ("", "x")), ["meteor"])["meteor"]
    assert result.value == pytest.approx(100 * 0.5 / 0.95 * (1 - 0.0625) / 2)
    assert "nltk " in result.signature


def test_meteor_without_wordnet_is_empty(empty_nltk_path):
    """A zero would be read as a result, and NLTK's own message is a page long."""
    result = score(pairs(("a", "a")), ["meteor"])["meteor"]
    assert result.value is None
    assert result.reason == (
        "WordNet is not installed; run: python -m nltk.downloader wordnet, "
        "or on Debian: apt-get install wordnet-base"
    )


@pytest.mark.parametrize("name", ["no/such-model", "/no/such/folder", "no such name"])
def test_bertscore_without_its_model_is_empty(name):
    """It must neither download gigabytes nor wait for a network, whatever the name looks like."""
    pytest.importorskip("bert_score")
    result = score(pairs(("a", "a")), ["bert_f1", "bert_r"], {"bertscore_model": name})
    assert [r.value for r in result.values()] == [None, None]
    assert f"the model {name} is not in the local Hugging Face cache" in result["bert_f1"].reason


def test_missing_package_is_a_reason(monkeypatch):
    """A metric whose package is an extra must not end the report of the others."""
    monkeypatch.setitem(sys.modules, "bert_score", None)
    reason = score(pairs(("a", "a")), ["bert_p"])["bert_p"].reason
    assert reason == "the package bert-score is not installed; run: pip install bert-score"


@pytest.fixture
def tiny_bert(tmp_path):
    """A random BERT of 12 layers, in a folder named as a model whose layer (9) bert-score knows."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path / "bert-base-uncased"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cats", "like", "dogs", "."]
    tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 8, "num_hidden_layers": 12, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=len(words), initializer_range=1.0, **shape)).half().save_pretrained(
        folder
    )
    return folder


def test_bertscore_of_a_local_model(tiny_bert):
    """An unset maximal length, an empty text and half-precision weights each break it with transformers 5.

    An exact copy scores 100, an empty prediction 0, and a prediction that is a part of its target is precise
    above its recall.
    """
    import torch

    pytest.importorskip("bert_score")
    examples = pairs(("cats like dogs", "cats like dogs"), ("", "cats"), ("dogs .", "cats like dogs ."))
    result = score(examples, ["bert_f1", "bert_p", "bert_r"], {"bertscore_model": str(tiny_bert)})
    same = score(examples[:1], ["bert_f1"], {"bertscore_model": str(tiny_bert)})["bert_f1"]
    assert same.value == pytest.approx(100.0, abs=1e-3)
    f1, precision, recall = (3 * r.value - 100 for r in result.values())
    assert f1 == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-2)
    assert precision > recall > 0
    model, _ = bertscore._load(tiny_bert, 9)
    assert (model.dtype, len(model.encoder.layer)) == (torch.float32, 9)
    assert "layer 9, float32" in result["bert_p"].signature


def test_bertscore_refuses_a_half_downloaded_model(tiny_bert):
    """Weights that a broken download left out must be a reason, not a traceback."""
    pytest.importorskip("bert_score")
    (tiny_bert / "model.safetensors").unlink()
    assert (
        "lacks config.json or weights"
        in score(pairs(("a", "a")), ["bert_f1"], {"bertscore_model": str(tiny_bert)})["bert_f1"].reason
    )


def test_bertscore_refuses_a_model_without_a_tuned_layer(tiny_bert):
    """A guessed layer gives plausible numbers that compare with no one's."""
    pytest.importorskip("bert_score")
    other = tiny_bert.rename(tiny_bert.with_name("other"))
    reason = score(pairs(("a", "a")), ["bert_f1"], {"bertscore_model": str(other)})["bert_f1"].reason
    assert "bert-score knows no layer for" in reason


def test_columns_and_their_order():
    """Reports of two dates are read side by side: a column that moves is read as another."""
    names = " ".join(metric.name for metric in registry.select())
    assert names == (
        "ppl f1 f1_parlai bleu bleu_1 bleu_2 bleu_3 bleu_4 rouge1 rouge2 rougeL bert_f1 bert_p bert_r "
        "dist_1 dist_2 meteor"
    )
    assert [m.name for m in registry.select() if m.direction == "lower"] == ["ppl"]


def test_unknown_metric_names_the_nearest():
    """A typo must not silently drop a column."""
    with pytest.raises(UserError, match="unknown metric 'rouge_1'; did you mean 'rouge1'"):
        score(pairs(("a", "a")), ["rouge_1"])


def test_no_examples_is_an_error():
    """A mean over nothing is no zero."""
    with pytest.raises(UserError, match="no examples"):
        score([])


def test_a_family_is_computed_once_and_only_when_asked(no_registration_left):
    """Three columns of BERTScore must not embed every text three times."""
    calls = []

    @register("left", "right", direction="higher", level="example", signature="")
    def both(corpus):
        calls.append(corpus.targets)
        return [1.0], [2.0]

    result = score(pairs(("a", "b")), ["right", "left", "right"])
    assert {name: r.value for name, r in result.items()} == {"right": 2.0, "left": 1.0}
    assert list(result) == ["right", "left"]
    assert calls == [["b"]]
    score(pairs(("a", "b")), ["f1"])
    assert len(calls) == 1


def test_registration_mistakes_are_errors(no_registration_left):
    """A second metric under one name, or a mean over fewer values than examples, would be believed."""
    with pytest.raises(ValueError, match="registered twice"):
        register("f1", direction="higher", level="example", signature="")(len)
    register("short", direction="higher", level="example", signature="")(lambda corpus: [1.0])
    with pytest.raises(ValueError, match="1 values for 2 examples"):
        score(pairs(("a", "a"), ("b", "b")), ["short"])


@pytest.mark.parametrize(
    ("level", "values", "message"),
    [("example", 0.5, "gave float, not a number per example"), ("corpus", [0.5], "gave 1 values, not one")],
)
def test_a_metric_of_the_wrong_level_is_named(no_registration_left, level, values, message):
    """Its author would see an error of the standard library that names no metric, after hours of decoding."""
    register("wrong", direction="higher", level=level, signature="")(lambda corpus: values)
    with pytest.raises(ValueError, match=f"metric 'wrong' {message}"):
        score(pairs(("a", "a")), ["wrong"])


def test_unavailable_is_of_the_metric_alone(no_registration_left):
    """One metric that cannot be computed must not empty the others."""

    @register("never", direction="higher", level="corpus", signature="")
    def never(corpus):
        raise Unavailable("why")

    result = score(pairs(("a", "a")), ["never", "f1"])
    assert (result["never"].value, result["never"].reason, result["f1"].value) == (None, "why", 100.0)
