"""Which personas are pair_labels: sentence-BLEU as sacreBLEU computes it, in the order of the loss."""

import sacrebleu

from dataset import similarity
from dataset.similarity import BleuPairs, persona_bleu

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


def test_without_a_pair_there_is_no_label():
    """A batch of one example has no pair, and none must be made up."""
    assert BleuPairs(20.0)([SKI]) == []
    assert BleuPairs(20.0)([]) == []


def test_each_pair_is_computed_once(monkeypatch):
    """A persona comes back with every turn: BLEU anew for each pair of each batch takes longer than the LM."""
    calls = []
    bleu = similarity._sentence_bleu()
    score = bleu.sentence_score

    def counted(hypothesis, references):
        calls.append((hypothesis, *references))
        return score(hypothesis, references)

    monkeypatch.setattr(bleu, "sentence_score", counted)
    persona_bleu.cache_clear()
    for _ in range(3):
        BleuPairs(20.0)([SKI, LAW, SKI, LAW])
    assert sorted(calls) == sorted({(SKI, LAW), (SKI, SKI), (LAW, SKI), (LAW, LAW)})
