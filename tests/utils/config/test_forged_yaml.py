"""YAML of a few lines that stands for gigabytes, or that Python cannot read: one line that one can read."""

import pytest

from models.configuration import build_config, load_config
from utils.config.loading import parse_assignments
from utils.config.strict_yaml import read_yaml
from utils.errors import UserError, shown


def _bomb(level, kind):
    """Nine names, each for ten of the one before: a thousand million values in half a kilobyte."""
    lines = ["a0: &a0 [lol, lol]" if kind == "list" else "a0: &a0 {lol: lol}"]
    for number in range(1, level + 1):
        inside = ", ".join([f"*a{number - 1}"] * 10)
        if kind == "merge":
            inside = "{<<: [" + inside + "]}"
        elif kind == "mapping":
            inside = "{" + ", ".join(f"k{place}: *a{number - 1}" for place in range(10)) + "}"
        else:
            inside = f"[{inside}]"
        lines.append(f"a{number}: &a{number} {inside}")
    return "\n".join(lines)


@pytest.fixture
def fault(tmp_path):
    """fault(text): what is said of a configuration with this content; one line, of a length that one reads."""

    def run(text):
        path = tmp_path / "run.yml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError) as caught:
            load_config(path)
        message = str(caught.value)
        assert str(path) in message
        assert "\n" not in message
        assert len(message) < 800
        return message

    return run


@pytest.mark.parametrize("kind", ["list", "mapping", "merge"])
def test_aliases_that_stand_for_millions(fault, kind):
    """The list filled the message, the merged mapping the memory, while the file was read."""
    assert "not valid YAML: with its aliases written out it has more than" in fault(_bomb(9, kind))


def test_aliases_below_the_limit_do_not_fill_the_message(fault):
    """What is allowed may still be too long to be shown."""
    message = fault(
        "x: &x [lol, lol]\ny: &y [*x, *x, *x, *x]\nmodel:\n  K: [*y, *y, *y, *y, *y, *y, *y, *y]\n"
    )
    assert "unknown key 'x'" in message
    message = fault("model:\n  normalizer: &x [lol, lol]\n  K: [*x, *x, *x, *x, *x, *x, *x, *x, *x, *x]\n")
    assert "model.normalizer = ['lol', 'lol']: " in message or "model.K = [[" in message


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "a: &a {b: *a}\n", "a: &a {<<: *a}\n"])
def test_a_value_that_holds_itself(fault, text):
    """It is without end for whoever walks through it."""
    fault(text)


@pytest.mark.parametrize("text", ["model: " + "[" * 5000, "model: " + "{a: " * 5000, "- " * 5000 + "x"])
def test_deep_nesting(fault, text):
    """It ended in Python's RecursionError, a traceback of a thousand lines."""
    assert "not valid YAML: it is nested too deeply" in fault(text)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("9" * 5000, "not valid YAML: Exceeds the limit"),
        ("0x" + "f" * 5000, "model.K = a number of more than 60 digits: "),
        ("2024-99-99", "not valid YAML: month must be in 1..12"),
        ("x" * 100_000, "model.K = 'xxx"),
        ("!!python/object/apply:os.system [id]", "could not determine a constructor for the tag"),
        (".nan", "model.K = nan"),
    ],
)
def test_values_that_python_cannot_read_or_show(fault, value, message):
    """A number of 5,000 digits, a 99th month, a text of 100 kB in the middle of a message."""
    assert message in fault(f"model:\n  K: {value}\n")


def test_long_keys(fault):
    """A key of 100 kB is named in part, and is not compared with every key that there is for minutes."""
    assert "unknown key 'model.xxx" in fault("model:\n  " + "x" * 1000 + ": 1\n")
    assert "is not a text" in fault("? " + "[" + "x," * 2000 + "x]\n: 1\n")
    assert "is given twice" in fault(f"{'x' * 1000}: 1\n{'x' * 1000}: 2\n")


def test_a_file_of_megabytes(fault):
    """Reading YAML takes a second per megabyte, and a hundred bytes of memory per byte."""
    assert "configuration has more than 1 MiB" in fault("# " + "x" * (2 << 20))


@pytest.mark.parametrize("text", ["- a\n- b\n", "just a text\n", "3\n", "[" + "a, " * 5000 + "a]"])
def test_a_file_that_is_no_mapping(fault, text):
    """What was found is shown in part only."""
    assert "expected sections with keys, found " in fault(text)


def test_the_command_line_reads_values_in_the_same_way():
    """A value of --set that is parsed without the limits would end in a traceback, or fill the memory."""
    for value in ["[" * 5000, "9" * 5000, "&a [*a]"]:
        with pytest.raises(UserError, match="the value is not valid YAML: ") as caught:
            parse_assignments([f"model.K={value}"])
        assert "\n" not in str(caught.value)


def test_ordinary_aliases_and_merges_still_work(tmp_path):
    """The limit must not forbid what people write."""
    path = tmp_path / "run.yml"
    path.write_text(
        "base: &base {K: 2}\nmodel:\n  <<: *base\n  normalizer_on: &on [prompt]\n", encoding="utf-8"
    )
    content = read_yaml(path)
    assert content["model"] == {"K": 2, "normalizer_on": ["prompt"]}
    del content["base"]
    assert (
        build_config([("run.yml", content | {"model": content["model"] | {"model_name": "x"}})]).model.K == 2
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("two", "'two'"),
        (2.5, "2.5"),
        (None, "None"),
        (True, "True"),
        ({"a": [1]}, "{'a': [1]}"),
        (10**59, str(10**59)),
    ],
)
def test_values_are_shown_as_they_are(value, text):
    """A short value that is cut or renamed cannot be found in the file."""
    assert shown(value) == text


def test_long_values_are_shown_in_part():
    """A message of a megabyte hides what it says."""
    nested = [[[["x" * 1000] * 100] * 100] * 100] * 100
    for value in (nested, "x" * 10**6, {f"key{number}": nested for number in range(100)}, 10**70, -(10**70)):
        assert len(shown(value)) <= 200


@pytest.mark.parametrize(
    "value",
    ["!!bool x", '!!float ""', '!!int ""', '!!timestamp "x"', "1" + ":1" * 30_000 + ".5"],
)
def test_tags_that_force_a_text_into_a_kind(fault, value):
    """PyYAML's own readers of scalars end in KeyError, IndexError and others: a traceback for a slip of the pen."""
    assert "not valid YAML: '" in fault(f"model:\n  K: {value}\n")
    with pytest.raises(UserError, match="the value is not valid YAML: '"):
        parse_assignments([f"model.K={value}"])
