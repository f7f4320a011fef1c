"""Which items go into a prompt, and how they stand in it."""

import json

import pytest
from transformers import AutoTokenizer

from companions.lamp.prompts import PromptBuilder, chosen_items, encode, joined
from companions.lamp.questions import parse_question
from companions.lamp.tasks import TASKS, task_of
from tests.conftest import ROOT
from utils.errors import UserError

T5 = ROOT / "tests" / "golden" / "lamp" / "models" / "t5-tiny"


@pytest.fixture(scope="module")
def tokenizer():
    """A tokenizer with one special token."""
    return AutoTokenizer.from_pretrained(T5, trust_remote_code=False)


def question(*dates):
    """A question whose items are called a, b, .. in the order of these dates; None for no date."""
    items = [
        {"id": chr(97 + number), "text": "x"} | ({} if date is None else {"date": date})
        for number, date in enumerate(dates)
    ]
    return parse_question(
        {"id": "7", "input": "article: y", "profile": items}, "", "data.json", task_of("LaMP_7")
    )


def ids(items):
    """The names of items."""
    return "".join(item["id"] for item in items)


@pytest.mark.parametrize(
    ("count", "corrected", "released"),
    [(1, "a", "dbca"), (2, "ad", "ad"), (3, "abd", "ad"), (4, "abdb", "abdb"), (9, "abcddbca", "abcddbca")],
)
def test_half_of_the_items_are_the_newest(count, corrected, released):
    """With one item wanted the release takes the whole profile, and with three it takes two."""
    asked = question("2010", "2012-05", "2012", "2012-05")
    assert ids(chosen_items(asked, count, "recency_contriever")) == corrected
    assert ids(chosen_items(asked, count, "recency_contriever", released=True)) == released
    assert ids(chosen_items(asked, count, "contriever")) == "abcd"[:count]


def test_a_wrong_date_is_named():
    """Among 200 items of 20,000 users it is not found by eye."""
    assert ids(chosen_items(question("2010", None), 2)) == "ab"
    for asked, message in (
        (question("2010", None), "missing"),
        (question("2010", "May"), "is 'May'; needed"),
    ):
        with pytest.raises(
            UserError, match=f"data.json: question '7', profile item 'b': field 'date' (is )?{message}"
        ):
            chosen_items(asked, 2, "recency_contriever")


def test_items_stand_within_the_title_of_a_citation_question():
    """After the whole input, the candidates would no longer be what the LM reads last."""
    text = 'For an author who has written the paper with the title "T", which reference'
    wanted = 'For an author who has written the paper with the title, and "A", and "B" "T", which reference'
    assert joined(task_of("LaMP_1"), text, ['"A"', '"B"']) == wanted
    assert joined(task_of("LaMP_1"), "no such word", ['"A"']) == "no such word"
    tweets = joined(task_of("LaMP_7"), "Paraphrase", ['"u" ', '"v" '])
    assert tweets == '"u" , and "v"  are written by a person. Following the given patterns Paraphrase'


def test_braces_in_a_text_are_text(tokenizer):
    """A review with {score} in it would be filled with the rating, or end the run with a KeyError."""
    task = task_of("LaMP_3")
    item = {"id": "1", "text": "a { b", "score": "{text}"}
    (prompt,) = PromptBuilder(task, tokenizer, 256).build(["review: {x}"], [[item]])
    assert prompt.text.startswith("{text} is the score for ")
    assert prompt.text.endswith(". review: {x}")


@pytest.mark.parametrize("name", TASKS)
def test_a_prompt_is_the_same_alone_and_in_a_batch(tokenizer, name):
    """Counts that get mixed up between questions cut one user's items by another's."""
    task = task_of(name)
    words = "the quiet ferry circles the captain in heavy rain "
    inputs = [f"title article: {words * number}" for number in (1, 3, 40)] * 2
    items = [
        [{"id": str(number), **dict.fromkeys(task.fields, words * number)} for number in range(count)]
        for count in (4, 0, 2, 1, 3, 5)
    ]
    builder = PromptBuilder(task, tokenizer, 128)
    together = builder.build(inputs, items)
    assert together == [builder.build([text], [some])[0] for text, some in zip(inputs, items, strict=True)]
    assert together[1].text == inputs[1]
    assert not together[1].without_profile
    assert builder.build([], []) == []


def test_prompts_without_room_for_the_profile_are_told(tokenizer):
    """Results with a profile that was never read would be taken for those of retrieval."""
    item = {"id": "1", "title": "long title " * 100, "text": "x"}
    (prompt,) = PromptBuilder(task_of("LaMP_4"), tokenizer, 64).build(["article: y"], [[item]])
    assert (prompt.text, prompt.without_profile) == ("article: y", True)


def test_spaces_before_punctuation(tokenizer, tmp_path):
    """The library that the release ran on took them out by default, today's does not: every long field differs."""
    tokenizer.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings.pop("clean_up_tokenization_spaces", None)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    silent = AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=False)
    item = {"id": "1", "text": "the quiet ferry , the captain ."}
    texts = {}
    for name, some in (("stated", tokenizer), ("silent", silent)):
        for released in (False, True):
            (prompt,) = PromptBuilder(task_of("LaMP_7"), some, 128, released).build(["x"], [[item]])
            texts[name, released] = prompt.text.partition('"  are')[0][1:]
    assert texts["silent", True] == "the quiet ferry, the captain."
    assert texts["silent", False] == texts["stated", False] == texts["stated", True] == item["text"]


def test_cut_prompts_are_told(tokenizer):
    """The tail that is cut off holds the candidates of a citation question: the LM guesses."""
    text = "the quiet ferry"
    length = len(tokenizer(text)["input_ids"])
    fits, cut = [encode(tokenizer, [text], [], limit)[0] for limit in (length, length - 1)]
    assert (fits.cut, cut.cut) == (False, True)
    assert fits.target == []
    assert cut.source[-1] == tokenizer.eos_token_id
    assert len(cut.source) == length - 1
