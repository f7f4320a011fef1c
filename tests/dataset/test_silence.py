"""`dataset.silence`: what becomes of a `__SILENCE__` that opens a dialogue."""

import json

import pytest

from dataset.dialogue import PARTNER, SELF, SILENCE, Dialogue, Utterance, examples_of
from dataset.inspection import silence_findings
from dataset.loading import read_examples
from dataset.text import prompt_text
from models.reading import example_file, make_collator, make_encoder
from models.registry import build_tokenizer
from utils.errors import UserError

TALK = (SILENCE, "hello", "you ?", "fine", SILENCE, "bye")
CONVAI2 = (
    "1 your persona: i ski.\n2 __SILENCE__\thello\n3 you ?\tfine\n4 __SILENCE__\tbye\n"
    "1 your persona: i run.\n2 hi\tyo\n"
)
KEPT = [((SILENCE,), "hello", 0), ((SILENCE, "hello", "you ?"), "fine", 1), (TALK[:5], "bye", 2)]
DROPPED = [((), "hello", 0), (("hello", "you ?"), "fine", 1), (TALK[1:5], "bye", 2)]
SKIPPED = [(context, response, turn - 1) for context, response, turn in DROPPED[1:]]


def dialogue_of(*texts, first=PARTNER):
    """A dialogue of these utterances, the first at line 1."""
    speakers = (first, SELF if first == PARTNER else PARTNER)
    said = [Utterance(speakers[place % 2], text, line=place + 1) for place, text in enumerate(texts)]
    return Dialogue(tuple(said), {SELF: ("i ski.",)}, "d.txt")


def seen(examples):
    """Context, response and turn of each example."""
    return [(tuple(example.context), example.response, example.turn) for example in examples]


@pytest.fixture
def config_of(tmp_path, make_config):
    """config_of(silence, **training): a configuration whose training file has two dialogues, one opened by silence."""
    path = tmp_path / "talks.txt"
    path.write_text(CONVAI2, encoding="utf-8")

    def make(silence="keep", **training):
        return make_config(dataset={"train": str(path), "silence": silence}, training=training)

    return make


@pytest.mark.parametrize(("silence", "wanted"), [("keep", KEPT), ("drop", DROPPED), ("skip", SKIPPED)])
def test_what_becomes_of_it(silence, wanted):
    """Words that nobody said stay in a context, or turns are counted from one that is no example, so that
    `assignment: turn` trains other prompts than a dialogue of another file is given. Later silence is the partner's."""
    (own, other) = dialogue_of(*TALK), dialogue_of("hi", "yo")
    examples = examples_of([own, other], silence=silence)
    assert seen(examples) == [*wanted, (("hi",), "yo", 0)]
    assert [example.where for example in examples] == [
        *[f"d.txt:{place}" for place in (2, 4, 6)[-len(wanted) :]],
        "d.txt:2",
    ]
    assert examples_of([own], only_longest=True, silence=silence)[0].response == "bye"


@pytest.mark.parametrize("silence", ["drop", "skip"])
def test_what_self_says_first_is_no_answer(silence):
    """A response to nothing becomes an example of files that never wrote a silence."""
    assert seen(examples_of([dialogue_of("hello", "you ?", "fine", first=SELF)], silence=silence)) == [
        (("hello", "you ?"), "fine", 0)
    ]
    # as the partner, whose words are not there, sees it
    assert seen(examples_of([dialogue_of(*TALK[:3])], speaker=PARTNER, silence=silence)) == [
        (("hello",), "you ?", 0)
    ]


@pytest.mark.parametrize("silence", ["keep", "drop", "skip"])
def test_both_formats_alike(tmp_path, config_of, silence):
    """Own data would be trained on what ConvAI2 leaves out."""
    config = config_of(silence)
    rows = [
        {
            "personas": {"self": [persona]},
            "utterances": [
                {"speaker": ("partner", "self")[place % 2], "text": text} for place, text in enumerate(talk)
            ],
        }
        for persona, talk in (("i ski.", TALK), ("i run.", ("hi", "yo")))
    ]
    own = tmp_path / "own.jsonl"
    own.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    of_lines = config.replaced({"dataset": {"format": "json_lines"}})
    assert seen(read_examples(str(own), of_lines)) == seen(read_examples(config.dataset.train, config))


@pytest.mark.parametrize("rows", ["example", "dialogue"])
def test_a_response_that_begins_the_dialogue_is_encoded(config_of, rows):
    """Without a turn the query has no last one: an index error, or a border in the persona or the response.

    Its text must be the beginning of the later ones, or rows cannot be shared.
    """
    config = config_of("drop", rows=rows)
    examples = read_examples(config.dataset.train, config)
    tokenizer = build_tokenizer(config)
    encoder = make_encoder(tokenizer, config)
    first, second, *_ = encoded = encoder.encode(examples, with_response=True)
    assert prompt_text(("i ski.",), [], None).body == "given persona: i ski.; context: R:"
    (asked,) = encoder.encode(examples[:1], with_response=False)
    assert tokenizer.decode(asked.ids[1:]) == "given persona: i ski.; context: R:"
    assert tokenizer.decode(first.ids[first.last_turn : first.query_end]).strip() == "context:"
    assert tokenizer.decode(first.ids[first.query_end :]) == " R: hello</s>"
    assert second.ids[: len(first.ids) - 1].tolist() == first.ids[:-1].tolist()
    batch = make_collator(encoder, config).train(encoded[:3])
    assert len(batch.input_ids) == (1 if rows == "dialogue" else 3)
    assert batch.query.last_turn.any(dim=1).all()


def test_a_text_that_is_too_long_is_still_refused(config_of):
    """A context without turns has none to leave out; a search for the first one would end elsewhere."""
    config = config_of("drop").replaced({"dataset": {"max_token_length": 8}})
    encoder = make_encoder(build_tokenizer(config), config)
    with pytest.raises(UserError, match=r"talks\.txt:2: persona and last turn alone are \d+ tokens"):
        encoder.encode(read_examples(config.dataset.train, config), with_response=True)


def test_a_file_of_silence_alone_leaves_no_example(tmp_path, config_of):
    """An empty data set ends in a division by zero, or in a file of results with nothing in it."""
    path = tmp_path / "silent.txt"
    path.write_text("1 __SILENCE__\thello\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"silent\.txt: dataset\.silence: skip leaves no example"):
        read_examples(str(path), config_of("skip"))
    assert len(read_examples(str(path), config_of("drop"))) == 1


def test_kept_files_are_of_one_setting(config_of):
    """The ids of another setting would be trained on without a word."""
    settings = [
        example_file(config.dataset.train, config).settings
        for config in map(config_of, ("keep", "drop", "skip"))
    ]
    assert [setting["dataset"]["silence"] for setting in settings] == ["keep", "drop", "skip"]


def test_the_release_has_no_such_setting(make_config):
    """Its numbers were made with the silence, and others would pass for them."""
    with pytest.raises(UserError, match=r"dataset\.silence: drop needs model\.fidelity: paper"):
        make_config(model={"fidelity": "released_code"}, dataset={"silence": "drop"})


def test_files_that_differ_are_a_warning():
    """All of training opens with a mark that validation never has, and nobody knows why the first replies are odd."""
    silent, usual = examples_of([dialogue_of(*TALK)]), examples_of([dialogue_of("hi", "yo")])
    (finding,) = silence_findings(silent, usual)
    assert finding.status == "warn"
    assert finding.text.startswith(
        "1 of 1 training dialogues open with __SILENCE__, and 0 of 1 validation dialogues; dataset.silence"
    )
    assert [finding.status for finding in silence_findings(silent, silent)] == ["ok"]
    assert list(silence_findings(usual, usual)) == []
    assert list(silence_findings(examples_of([dialogue_of(*TALK)], silence="drop"), usual)) == []
