"""Which personas are similar: sentence-BLEU as sacreBLEU computes it, in the order of the loss."""

import random

import numpy as np
import pytest
import sacrebleu

from dataset import similarity
from dataset.dialogue import examples_of
from dataset.readers import read_dialogues
from dataset.similarity import BleuPairs, pair_bleu, persona_bleu
from tests.conftest import SHARED

SKI = "i like to ski. i hate mexican food. i have two dogs."
SKI_TOO = "i like to ski. i love mexican food. i live alone."
LAW = "my mother is a lawyer. we never eat meat."


def test_persona_bleu_is_sacrebleus(examples):
    """Another smoothing, or no effective order, moves pairs across the threshold."""
    personas = list(dict.fromkeys(" ".join(example.persona) for example in examples))[:6] + [
        SKI,
        SKI_TOO,
        LAW,
        "i",
    ]
    for first in personas:
        for second in personas:
            expected = sacrebleu.sentence_bleu(first, [second], use_effective_order=True).score
            assert persona_bleu(first, second) == expected


def test_the_scale_is_0_to_100():
    """A threshold of 20 on a scale of 0 to 1 calls no pair similar."""
    assert persona_bleu(SKI, SKI) > 99.9
    assert 20 < persona_bleu(SKI, SKI_TOO) < 90
    assert persona_bleu(SKI, LAW) < 20


def test_pairs_are_in_order_and_directed():
    """Labels in another order belong to other pairs; BLEU(i, j) is not BLEU(j, i)."""
    assert BleuPairs(20.0)([SKI, LAW, SKI_TOO, LAW]) == [-1.0, 1.0, -1.0, -1.0, 1.0, -1.0]
    short, long = "i like to ski.", SKI
    forth, back = persona_bleu(short, long), persona_bleu(long, short)
    assert forth != back
    between = (forth + back) / 2
    assert BleuPairs(between)([short, long]) == [1.0 if forth > between else -1.0]
    assert BleuPairs(between)([long, short]) == [1.0 if back > between else -1.0]


def test_the_threshold_itself_is_not_similar():
    """Pairs that score exactly the threshold would be pulled together where the paper's rule pushes them apart."""
    score = persona_bleu(SKI, SKI_TOO)
    assert BleuPairs(score)([SKI, SKI_TOO]) == [-1.0]
    assert BleuPairs(score - 1e-9)([SKI, SKI_TOO]) == [1.0]


def test_rounding_does_not_decide(monkeypatch):
    """A score whose last digit differs from sacreBLEU's would label pairs at the threshold otherwise than it does."""
    score = persona_bleu(SKI, SKI_TOO)
    monkeypatch.setattr(similarity, "pair_bleu", lambda personas, pairs: np.array([score + 1e-12]))
    assert BleuPairs(score)([SKI, SKI_TOO]) == [-1.0]


def test_without_a_pair_there_is_no_label():
    """A batch of one example has no pair, and none must be made up."""
    assert BleuPairs(20.0)([SKI]) == []
    assert BleuPairs(20.0)([]) == []


def personas_of(path):
    """The distinct personas of a ConvAI2 file, as the encoder joins them."""
    return list(
        dict.fromkeys(" ".join(example.persona) for example in examples_of(read_dialogues(path, "convai2")))
    )


def made_personas(count, seed=0):
    """Texts of few words, so that n-grams repeat within and between them; with what the tokenizer takes apart."""
    words = "i like to ski . my dog's name , is &quot;rex&quot; 1,000.5 well-known ( don't ) été 猫 !".split()
    draw = random.Random(seed)
    made = [" ".join(draw.choices(words, k=draw.choice([0, 1, 2, 3, 4, 5, 9, 30]))) for _ in range(count)]
    return [*made, "", " ", "i i i i i i", "a\nb", "a-\nb", "i like to-\n", "i like to ski. \t"]


def assert_sacrebleus(personas, count):
    """Scores and labels of `count` pairs, drawn at random, are sacreBLEU's."""
    pairs = np.random.RandomState(0).randint(0, len(personas), (2, count))
    pairs[1, : count // 20] = pairs[0, : count // 20]
    expected = np.array([persona_bleu(personas[first], personas[second]) for first, second in pairs.T])
    scores = pair_bleu(personas, pairs)
    assert np.abs(scores - expected).max() < 1e-9
    for threshold in (20.0, expected[0], expected[-1]):
        labels = BleuPairs(threshold).labels(personas, pairs)
        assert np.array_equal(labels, np.where(expected > threshold, 1, -1))
    assert 0 < (expected > 20).mean() < 1  # both kinds of pairs occur


def test_many_pairs_at_once_are_sacrebleus():
    """A count that is clipped or smoothed otherwise moves pairs across the threshold, without any error."""
    assert_sacrebleus(made_personas(300), 10_000)


@pytest.mark.skipif(not SHARED.exists(), reason="the official data is not here")
def test_many_pairs_of_real_personas_are_sacrebleus():
    """Real personas differ from made ones: what holds for these alone gives other labels in every real run."""
    assert_sacrebleus(personas_of(SHARED / "convai2" / "valid_self_original_no_cands.txt"), 10_000)


def test_a_long_list_of_pairs_is_cut(monkeypatch):
    """Pairs that are scored with the personas of another part of the list give a whole file wrong labels."""
    personas, pairs = made_personas(20), np.random.RandomState(1).randint(0, 26, (2, 50))
    whole = pair_bleu(personas, pairs)
    monkeypatch.setattr(similarity, "_CHUNK", 7)
    assert np.array_equal(pair_bleu(personas, pairs), whole)
    assert pair_bleu(personas, np.zeros((2, 0), dtype=np.int64)).shape == (0,)


def test_labels_of_a_batch_are_those_of_its_pairs():
    """A persona that comes back in the batch must not shift the labels of those that follow it."""
    personas = [SKI, LAW, SKI, SKI_TOO, LAW]
    expected = [
        1.0 if persona_bleu(first, second) > 30 else -1.0
        for number, first in enumerate(personas)
        for second in personas[number + 1 :]
    ]
    assert BleuPairs(30.0)(personas) == expected
