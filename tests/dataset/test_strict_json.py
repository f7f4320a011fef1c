"""Lines of JSON, read strictly: what is accepted, and the line that says what is not."""

import pytest

from dataset.strict_json import fields_of, items_of, parsed_line, text_of, texts_of
from utils.errors import UserError


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (lambda: parsed_line("{", "f:1"), "f:1: not JSON: .* at column 2"),
        (
            lambda: parsed_line('{"a": 1, "a": 2}', "f:1"),
            "f:1: not JSON that can be read: key 'a' is given twice",
        ),
        (lambda: parsed_line("[" * 100_000, "f:1"), "f:1: nested too deeply"),
        (lambda: fields_of([], "f:1"), r"f:1: expected an object, found \[\]"),
        (lambda: fields_of({"b": 1}, "f:1", optional=["bb"]), "f:1: unknown key 'b'; did you mean 'bb'"),
        (lambda: fields_of({}, "f:1", required=["b"]), "f:1: the key 'b' is missing"),
        (lambda: items_of("ab", "f:1: a"), "f:1: a: expected a list, found 'ab'"),
        (lambda: texts_of(["a", None], "f:1: a"), r"f:1: a\[1\]: expected a text, found None"),
        (lambda: text_of(" ", "f:1: a"), "f:1: a: the text is empty"),
        (lambda: text_of("a\nb", "f:1: a"), "f:1: a: a line break stands inside"),
        (lambda: text_of("a\ud800", "f:1: a"), "f:1: a: .* half of a surrogate pair"),
    ],
)
def test_a_fault_is_told_by_line_and_key(call, fault):
    """A value of another kind would be read as something else, such as a text as the list of its letters."""
    with pytest.raises(UserError, match=fault):
        call()


def test_texts_keep_the_blanks_around_them():
    """A format in which these blanks are part of the words could not be read."""
    assert texts_of([" a ", "b"], "f:1") == (" a ", "b")
    assert fields_of({"a": 1}, "f:1", required=["a"], optional=["b"]) == {"a": 1}
    assert parsed_line('{"a": [1]}', "f:1") == {"a": [1]}
