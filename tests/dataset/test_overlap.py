"""What a training and a validation file have in common."""

import pytest

from dataset.dialogue import PARTNER, SELF, Dialogue, Utterance, examples_of
from dataset.overlap import encoded_overlap, overlap_of
from models.reading import make_encoder
from models.registry import build_tokenizer


def dialogue(texts, persona=("i ski .", "i cook .")):
    """A dialogue in which the partner opens."""
    utterances = tuple(Utterance((PARTNER, SELF)[place % 2], text) for place, text in enumerate(texts))
    return Dialogue(utterances, {SELF: persona})


GREETING = ["hi", "hello"]
LONG = [*GREETING, "how are you ?", "fine , and you ?"]
OTHER = ["where do you live ?", "in rome .", "nice", "it is ."]
TRAIN = [dialogue(LONG), dialogue(OTHER, persona=("i am old .",))]


def found(*valid, train=TRAIN):
    """The overlap of dialogues with the training ones above."""
    return overlap_of(examples_of(train), examples_of(valid))


def test_a_whole_dialogue_is_found_under_another_persona():
    """A dialogue that was trained on stays unseen as its persona differs, and the perplexity is that of memory."""
    overlap = found(dialogue(LONG, persona=("i am new .",)), dialogue(["who are you ?", "nobody"]))
    assert (overlap.dialogues, overlap.num_dialogues, overlap.examples, overlap.num_examples) == (1, 2, 1, 3)
    assert "1 of the 2 dialogues of v.txt stand in t.txt too" in overlap.warning("t.txt", "v.txt")


def test_a_part_of_a_dialogue_is_found():
    """A file that was split in the middle of dialogues shares their beginnings, and no dialogue as a whole."""
    overlap = found(dialogue([*LONG, "and ?", "no"], persona=()))
    assert (overlap.dialogues, overlap.examples, overlap.num_examples) == (0, 1, 3)
    assert overlap.warning("t.txt", "v.txt").startswith("1 of the 3 examples of v.txt")


def test_greetings_are_no_overlap():
    """Greetings stand in any two files: a warning about them comes in every run, and is read by nobody."""
    overlap = found(dialogue(GREETING, persona=("i am new .",)))
    assert (overlap.dialogues, overlap.examples) == (0, 0)
    assert overlap.warning("t.txt", "v.txt") is None
    assert found(dialogue(GREETING)).dialogues == 1  # with its persona it is no chance


def test_few_equal_examples_are_chance():
    """One equal example of hundreds makes a warning, so that everyone learns to overlook it."""
    others = [dialogue([f"what is {number} ?", "a number"]) for number in range(150)]
    overlap = found(dialogue([*LONG, "and ?", "no"], persona=()), *others)
    assert overlap.examples == 1
    assert overlap.warning("t.txt", "v.txt") is None


def test_personas_are_compared_as_sets():
    """The same persona in another order of lines counts as unseen, and so does none as a seen one."""
    overlap = found(
        dialogue(["a", "b"], persona=("i cook .", "i ski .")),
        dialogue(["c", "d"], persona=()),
        train=[*TRAIN, dialogue(OTHER, persona=())],
    )
    assert overlap.personas == 1


@pytest.mark.parametrize("only_longest", [False, True])
def test_encoded_examples_are_compared_by_their_ids(make_config, only_longest):
    """At the start of a training there are token ids only; a comparison of texts would read both files again."""
    config = make_config()
    encoder = make_encoder(build_tokenizer(config), config)

    def ids(*dialogues):
        return encoder.encode(examples_of(dialogues, only_longest), with_response=True)

    overlap = encoded_overlap(ids(*TRAIN), ids(dialogue(LONG), dialogue(LONG, persona=("i am new .",))))
    assert (overlap.dialogues, overlap.num_dialogues, overlap.personas) == (1, 2, 1)
    assert overlap.examples == (1 if only_longest else 2)
