"""LaMP's prompts of any texts, for tokenizers of every kind: within their length, and never an error."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companions.lamp.prompts import PromptBuilder, chosen_items, encode
from companions.lamp.questions import parse_question
from companions.lamp.tasks import TASKS
from tests.hunted import judged, texts
from tests.made_tokenizers import MAKERS, made_tokenizer

dates = st.sampled_from(["2012-05-17", "2012", 7, "", "-", "٢٠١٢-٠١", "x", "9" * 5000]) | texts


@cache
def _tokenizer(kind):
    return made_tokenizer(kind)


@pytest.mark.parametrize("kind", MAKERS)
@given(data=st.data(), task=st.sampled_from(list(TASKS.values())), length=st.integers(1, 80))
def test_any_question(survived, kind, data, task, length):
    """A field with braces was taken for a template, and a date that is none failed when the ranking was half done."""
    fields = st.fixed_dictionaries(dict.fromkeys(task.fields, texts), optional={"date": dates})
    items = [
        {**item, "id": str(number)} for number, item in enumerate(data.draw(st.lists(fields, max_size=3)))
    ]
    record = {"id": "1", "input": data.draw(texts), "profile": items}
    question = parse_question(record, "a.json: question 1", "a.json", task)
    for retriever in ("bm25", "recency_contriever"):
        chosen = judged(
            lambda retriever=retriever: chosen_items(question, 2, retriever), "a.json: question '1'"
        )
        if chosen is None:
            continue
        tokenizer = _tokenizer(kind)
        (prompt,) = PromptBuilder(task, tokenizer, length).build([question.input], [chosen])
        (encoded,) = encode(tokenizer, [prompt.text], ["target"], length)
        assert len(encoded.source) <= length
        if prompt.without_profile or not chosen:
            assert question.input in prompt.text
    task.query(question.input)
    survived("bad inputs")
