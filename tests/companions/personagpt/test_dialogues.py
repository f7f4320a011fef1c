"""From ConvAI2's dialogues to PersonaGPT's: speakers, facts, cap, what is kept, duplicates."""

import pytest

from companions.personagpt.dialogues import cleaned, persona_dialogues, persona_examples
from companions.personagpt.released_dialogues import released_dialogues
from dataset.convai2.reader import read_convai2
from utils.errors import UserError

FACTS = "1 your persona: i ski.\n2 your persona: i cook.\n3 partner's persona: i sing.\n4 partner's persona: i act.\n"
LONG = FACTS + "5 hi\they\n6 you ?\tfine\n7 ok\tbye\n"


@pytest.fixture
def read(tmp_path):
    """The dialogues of a ConvAI2 file's text."""

    def read(text):
        path = tmp_path / "file.txt"
        path.write_text(text, encoding="utf-8")
        return read_convai2(path, exact=True)

    return read


def answered(example):
    """What an example is about: the facts, the turns before, the answer."""
    return example.persona, example.context, example.response


def test_both_speakers_answer_with_their_own_facts(read):
    """With the partner's facts in the prompt the bot would learn to speak for somebody else."""
    dialogues, _ = persona_dialogues(read(FACTS + "5 hi\they\n6 you ?\tfine\n"), 20, True)
    examples = persona_examples(dialogues)
    first, second = ("i sing.", "i act."), ("i ski.", "i cook.")
    assert list(map(answered, examples)) == [
        (first, (), "hi"),
        (first, ("hi", "hey"), "you ?"),
        (second, ("hi",), "hey"),
        (second, ("hi", "hey", "you ?"), "fine"),
    ]
    assert [example.dialogue for example in examples] == [0, 0, 1, 1]
    assert [example.turn for example in examples] == [0, 1, 0, 1]
    assert [example.where.rpartition(":")[2] for example in examples] == ["5", "6", "5", "6"]


def test_the_modelled_speaker_answers_alone_where_that_is_asked_for(read):
    """The partner's lines among the replies would make another figure of ConvAI2's, over other examples."""
    for opening, own in (
        (FACTS + "5 hi\they\n", ("hey", "fine")),
        (FACTS + "5 __SILENCE__\they\n", ("hey", "fine")),
    ):
        dialogues, _ = persona_dialogues(read(opening + "6 you ?\tfine\n"), 20, True)
        examples = persona_examples(dialogues, only_modelled=True)
        assert [(example.persona, example.response) for example in examples] == [
            (("i ski.", "i cook."), text) for text in own
        ]


def test_silence_leaves_the_first_turn_to_the_other_speaker(read):
    """The bot would otherwise learn to answer "__SILENCE__", with each speaker's facts on the other's side."""
    (dialogue,), _ = persona_dialogues(read(FACTS + "5 __SILENCE__\they\n6 __SILENCE__\tfine\n"), 20, True)
    assert dialogue.turns == ("hey", "__SILENCE__", "fine")
    assert dialogue.facts == (("i ski.", "i cook."), ("i sing.", "i act."))


def test_turns_beyond_the_cap_are_left_out_and_counted(read):
    """More turns than the method uses would change its data, and nobody would be told."""
    (dialogue,), counts = persona_dialogues(read(LONG), 5, True)
    assert dialogue.turns == ("hi", "hey", "you ?", "fine", "ok")
    assert (counts.examples, counts.capped) == (5, 1)
    assert "5 examples (0 duplicates and 1 turns beyond the cap" in str(counts)


@pytest.mark.parametrize(
    "text",
    [
        LONG.replace("2 your persona: i cook.\n", ""),
        LONG.replace("4 partner's persona: i act.\n", ""),
        FACTS + "5 __SILENCE__\they\n",
    ],
    ids=["one own fact", "one partner's fact", "one turn"],
)
def test_incomplete_dialogues_are_discarded_and_counted(read, text):
    """A dialogue without facts would teach a bot that speaks for nobody; one left out in silence is missed by none."""
    kept, counts = persona_dialogues(read(text + LONG), 20, True)
    assert len(kept) == 1
    assert (counts.dialogues, counts.discarded) == (2, 1)
    assert kept == persona_dialogues(read("\n" * text.count("\n") + LONG), 20, True)[0]


def test_a_file_of_one_persona_is_told(tmp_path, data):
    """SPT's own files hold one persona: all of their dialogues would be discarded, and the training have no data."""
    with pytest.raises(UserError, match=r"train\.txt: no dialogue has two facts of both speakers"):
        persona_dialogues(read_convai2(data["train"]), 20, True)


def test_spaces_of_facts_and_utterances(read):
    """Ids of a double space differ from those of one: the data would not be the published model's."""
    text = (
        FACTS.replace("i  sing", "i sing").replace("i ski.", " i  ski , yes .")
        + "5  hi  there \t  hey  you \n"
    )
    (dialogue,), _ = persona_dialogues(read(text), 20, True)
    assert dialogue.turns == ("hi there", "  hey  you ")
    assert dialogue.facts[1] == ("i ski, yes.", "i cook.")


@pytest.mark.parametrize(
    ("fact", "expected"),
    [
        ("a . b ? c ! d ,", "a. b? c! d,"),
        ("i ' m", "i'm"),
        ("do n't i 'm he 's i 've you 're", "don't i'm he's i've you're"),
        ("i 'll  stay", "i 'll stay"),
        ("a  .", "a."),
        # a comma goes before " ' " does: another order would give "a,'b"
        ("a , ' b", "a,'b"),
    ],
)
def test_facts_are_cleaned_up(fact, expected):
    """Facts that keep their spaced punctuation have other ids than those that the published model was trained on."""
    assert cleaned(fact) == expected


def test_duplicates_are_dropped_by_example(read):
    """Whole dialogues compared would keep both sides of each: the copy that silence opens is a turn shorter."""
    twin = LONG.replace("your", "THEIR").replace("partner's", "your").replace("THEIR", "partner's")
    twin = twin.split("5 ")[0] + "5 __SILENCE__\thi\n6 hey\tyou ?\n7 fine\tok\n8 bye\tbye bye\n"
    kept, counts = persona_dialogues(read(LONG + twin), 20, True)
    assert [dialogue.answers for dialogue in kept] == [(0, 1, 2, 3, 4, 5), (6,)]
    assert (counts.duplicates, counts.examples) == (6, 7)
    everything, counts = persona_dialogues(read(LONG + twin), 20, False)
    assert [len(dialogue.answers) for dialogue in everything] == [6, 7]
    assert counts.duplicates == 0


def test_the_same_words_with_other_facts_are_no_duplicate(read):
    """An answer of another persona would be lost, and with it what its facts mean."""
    kept, counts = persona_dialogues(read(LONG + LONG.replace("i ski", "i row")), 20, True)
    assert [dialogue.answers for dialogue in kept] == [(0, 1, 2, 3, 4, 5), (1, 3, 5)]
    assert counts.duplicates == 3


def test_only_the_longest_answer_of_each_speaker(read):
    """`only_longest` would keep one speaker's answer and drop the other speaker altogether."""
    dialogues, _ = persona_dialogues(read(LONG), 20, True)
    assert [example.response for example in persona_examples(dialogues, only_longest=True)] == ["ok", "bye"]


def test_an_empty_fact_is_told_with_its_line(tmp_path):
    """A fact without words is an end of text that stands for nothing, in every prompt of the dialogue."""
    path = tmp_path / "file.txt"
    path.write_text(LONG.replace("i cook.", " "), encoding="utf-8")
    with pytest.raises(UserError, match=r"file\.txt:2: the persona line is empty"):
        read_convai2(path, exact=True)
    with pytest.raises(UserError, match=r"file\.txt:5: a fact of the dialogue that begins here is empty"):
        persona_dialogues(read_convai2(path), 20, True)


def test_the_release_runs_incomplete_dialogues_into_the_next_and_loses_the_last(read):
    """Its numbers could not be repeated: it has fewer dialogues, and facts of one in another."""
    short = LONG.replace("2 your persona: i cook.\n", "").replace("hi\they", "well\tyes")
    (first, *rest) = released_dialogues(read(short + LONG + LONG))
    assert first.personas == {"self": ("i ski.", "i ski."), "partner": ("i sing.", "i act.")}
    assert first.utterances[0].text == "well"
    # the fact that completed the first is missing here
    assert [dialogue.personas["self"] for dialogue in rest] == [("i cook.", "i ski.")]
