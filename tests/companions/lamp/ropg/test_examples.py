"""Reading training examples: which texts and utilities, and what is told of faulty files."""

import json
from pathlib import Path

import pytest

from companions.lamp.encoder import Encoder
from companions.lamp.ropg.examples import read_examples
from companions.lamp.ropg.settings import FeedbackDataSettings
from tests.companions.lamp.ropg.questions import encoder, write_files
from utils.errors import UserError


@pytest.fixture(scope="module")
def tiny():
    """The tiny encoder."""
    return encoder()


@pytest.fixture
def files(tmp_path):
    """Three questions with four items each."""
    return write_files(tmp_path, "train", 3, seed=0)


def changed(path, change):
    """Rewrite a JSON file."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    Path(path).write_text(json.dumps(change(content) or content), encoding="utf-8")


def read(files, tiny, **settings):
    """The examples of a merged file."""
    data = FeedbackDataSettings(**{"task": "LaMP-4", **settings})
    return read_examples(files["merged"], files["scores"], data, tiny)


def test_dates_are_part_of_documents_where_they_are(tmp_path, tiny):
    """User-based files have no dates; they could not be trained on at all."""
    dated, undated = (write_files(tmp_path, str(date), 2, seed=1, date=date) for date in (True, False))
    text = read(dated, tiny)[0].documents[0].tolist()
    assert "date : 2010 - 05" in tiny.tokenizer.decode(text) or text[-6:] != text[:6]
    plain = [read(undated, tiny), read(dated, tiny, use_date=False)]
    assert [len(document) for document in plain[0][0].documents] == [
        len(document) for document in plain[1][0].documents
    ]
    assert len(text) > len(plain[0][0].documents[0])


def test_only_the_first_items_are_used(files, tiny):
    """A profile has hundreds of items; all of them in a batch do not fit in memory."""
    two = read(files, tiny, ctx_size=2)
    four = read(files, tiny, ctx_size=9)
    assert [len(example.documents) for example in two] == [2, 2, 2]
    assert [len(example.documents) for example in four] == [4, 4, 4]
    for short, whole in zip(two, four, strict=True):
        assert short.utilities.tolist() == whole.utilities[:2].tolist()
        assert short.documents[1].tolist() == whole.documents[1].tolist()
    assert two.tokens().tolist() == [
        len(example.query) + sum(len(document) for document in example.documents) for example in two
    ]


def test_questions_without_items_are_left_out(files, tiny):
    """They teach nothing, and their utility of nothing would be counted as 0."""

    def empty(questions):
        questions[1]["profile"] = []

    changed(files["merged"], empty)
    examples = read(files, tiny)
    assert (len(examples), examples.left_out) == (2, 1)
    assert examples[1].number == 1
    changed(files["merged"], lambda questions: [dict(question, profile=[]) for question in questions])
    with pytest.raises(UserError, match="no question has a profile item"):
        read(files, tiny)


def test_feedback_may_lie_in_shards(files, tiny, tmp_path):
    """The original leaves a file for each share of the work, and no tool that merges them."""
    whole = read(files, tiny)
    pairs = list(json.loads(Path(files["scores"]).read_text(encoding="utf-8")).items())
    folder = tmp_path / "shards"
    folder.mkdir()
    for number in range(3):
        part = dict(pairs[number::3])
        (folder / f"scores_{number}.json").write_text(json.dumps(part), encoding="utf-8")
    sharded = read(files | {"scores": str(folder)}, tiny)
    for one, other in zip(whole, sharded, strict=True):
        assert one.utilities.tolist() == other.utilities.tolist()
    (folder / "scores_3.json").write_text(json.dumps(dict(pairs[:1])), encoding="utf-8")
    read(files | {"scores": str(folder)}, tiny)  # the same again is no contradiction
    (folder / "scores_4.json").write_text(json.dumps({pairs[0][0]: {"rouge-1": 0.5}}), encoding="utf-8")
    with pytest.raises(UserError, match=r"scores_4.json: 'q0-00' has another feedback, read before"):
        read(files | {"scores": str(folder)}, tiny)


class Bare(Encoder):
    """An encoder whose tokenizer adds no special tokens, asked for empty texts."""

    def tokenize(self, texts, max_length=None):
        """Nothing."""
        return [[] for _ in texts]


def test_a_text_without_tokens_has_one(files, tiny):
    """Attention over nothing gives NaN, which one empty item would spread over all weights."""
    for example in read(files, Bare(tiny.model, tiny.tokenizer, tiny.max_length)):
        assert [len(text) for text in (example.query, *example.documents)] == [1] * 5


def drop_feedback(feedback):
    """One item without."""
    del feedback["q1-12"]


def drop_metric(feedback):
    """One item with another metric only."""
    feedback["q1-12"] = {"bleu": 1.0}


def test_an_item_without_feedback_is_named(files, tiny):
    """Any utility that stood in for it would be learnt."""
    changed(files["scores"], drop_feedback)
    with pytest.raises(UserError, match=r"no feedback on 'q1-12' \(question-item\) .* a smaller --ctx_size"):
        read(files, tiny)
    assert len(read(files, tiny, ctx_size=2)) == 3
    changed(files["scores"], drop_metric)
    with pytest.raises(UserError, match=r"train.scores.json: 'q1-12': metric 'rouge-1' is missing"):
        read(files, tiny)


def test_faulty_questions_are_named(files, tiny):
    """A query that is not found must not become the text "None"."""

    def no_marks(questions):
        questions[2]["input"] = "What is this?"

    changed(files["merged"], no_marks)
    with pytest.raises(UserError, match="question 'q2': field 'input' lacks the marks of LaMP-4's query"):
        read(files, tiny)


def test_ids_that_make_one_key(files, tiny):
    """`1-2` and `3`, `1` and `2-3`: one would learn from the other's feedback."""

    def collide(questions):
        questions[0]["id"], questions[0]["profile"][0]["id"] = "1-2", "3"
        questions[1]["id"], questions[1]["profile"][0]["id"] = "1", "2-3"

    changed(files["merged"], collide)
    with pytest.raises(UserError, match="question '1': its feedback has the key '1-2-3'"):
        read(files, tiny)


def test_ratings_need_their_gold(tmp_path, tiny):
    """Their utility is measured by the largest error that the gold allows."""
    question = {
        "id": "q",
        "input": "What is the score of the following review on a scale of 1 to 5? review: the oven",
        "profile": [{"id": "0", "text": "the oven", "score": "3"}],
    }
    files = {"merged": str(tmp_path / "merged.json"), "scores": str(tmp_path / "scores.json")}
    Path(files["scores"]).write_text('{"q-0": {"mae": 1.0}}', encoding="utf-8")
    for output, message in ((None, "field 'output' is missing"), ("six", "'q-0': output 'six' is no rating")):
        row = question if output is None else question | {"output": output}
        Path(files["merged"]).write_text(json.dumps([row]), encoding="utf-8")
        with pytest.raises(UserError, match=message):
            read(files, tiny, task="LaMP-3")
    Path(files["merged"]).write_text(json.dumps([question | {"output": "2"}]), encoding="utf-8")
    assert read(files, tiny, task="LaMP-3")[0].utilities.tolist() == pytest.approx([2 / 3])
