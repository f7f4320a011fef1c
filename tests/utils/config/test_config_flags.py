"""Flags made from a section: their names, kinds, help, and what was given."""

import argparse
from typing import Annotated, Literal

import pytest
from pydantic import Field

from utils.config.flags import Parser, add_section_flags, flagged_keys, given_flags, shown_default
from utils.config.loading import validated
from utils.config.schema import Flag, Section, nested
from utils.errors import UserError


class Inner(Section):
    """A section inside."""

    depth: Annotated[int, Field(ge=0), Flag("depth", short=("-d", "-deep"))] = 1
    """100 % of the depth"""


class Toy(Section):
    """A key of every kind."""

    count: Annotated[int, Field(ge=1), Flag("count")] = 2
    """how many"""
    rate: Annotated[float | None, Flag("lr")] = None
    """how fast"""
    loud: Annotated[bool, Flag("loud")] = True
    """whether it is heard"""
    name: Annotated[str, Flag("name")] = "x"
    """what it is called"""
    kind: Annotated[Literal["warm", "cold"] | None, Flag("kind")] = None
    """one of two"""
    bits: Annotated[Literal[16, 32, "bf16"], Flag("bits")] = 32
    """numbers and words"""
    silent: int = 3
    """a key without a flag"""
    inner: Inner = Inner()
    """a section"""


class Strict(Section):
    """A key without a default."""

    size: Annotated[int, Flag("size")]
    """how large"""


def parser(section=Toy):
    """A parser with the flags of a section."""
    made = Parser("Toy.")
    add_section_flags(made, section, "toy.")
    return made


def read(*arguments):
    """The section that a command line asks for."""
    given = given_flags(parser().parse_args(arguments), Toy, "toy.")
    return validated([("the command line", nested(given).get("toy", {}))], Toy)


@pytest.mark.parametrize(
    ("argument", "key", "value"),
    [
        ("--count=5", "count", 5),
        ("--lr=1e-5", "rate", 1e-5),
        ("--lr=1", "rate", 1.0),
        ("--loud=no", "loud", False),
        ("--loud=1", "loud", True),
        ("--name=a=b", "name", "a=b"),
        ("--name=", "name", ""),
        ("--kind=cold", "kind", "cold"),
        ("--bits=16", "bits", 16),
        ("--bits=bf16", "bits", "bf16"),
    ],
)
def test_a_flag_is_read_as_its_key(argument, key, value):
    """A text where the section wants a number, or `bool("no")`, is refused or, worse, the opposite."""
    found = getattr(read(argument), key)
    assert found == value
    assert type(found) is type(value)


def test_flags_of_inner_sections():
    """A flag that ends in another section changes nothing, or the wrong key."""
    assert read("--depth=3").inner.depth == 3
    assert read("-d3").inner.depth == read("-deep=3").inner.depth == 3  # its further spellings
    assert [flagged.key for flagged in flagged_keys(Toy, "toy.")] == [
        "toy.count",
        "toy.rate",
        "toy.loud",
        "toy.name",
        "toy.kind",
        "toy.bits",
        "toy.inner.depth",
    ]


def test_what_is_not_given_is_not_there():
    """A parser's own default would override the file's value."""
    assert given_flags(parser().parse_args([]), Toy, "toy.") == {}
    # the default, asked for
    assert given_flags(parser().parse_args(["--count=2"]), Toy, "toy.") == {"toy.count": 2}
    assert given_flags(parser().parse_args(["--loud=no", "--lr=0"]), Toy, "toy.") == {
        "toy.rate": 0.0,
        "toy.loud": False,
    }


@pytest.mark.parametrize(
    ("argument", "fault"),
    [
        ("--count=x", "argument --count: invalid int value: 'x'; see --help"),
        ("--count=0", "the command line: count = 0: input should be greater than or equal to 1"),
        ("--count=1.5", "argument --count: invalid int value"),
        ("--lr=fast", "argument --lr: invalid float value: 'fast'"),
        ("--lr=nan", "the command line: rate = nan: input should be a finite number"),
        ("--loud=maybe", "argument --loud: 'maybe': use yes or no"),
        ("--kind=hot", "the command line: kind = 'hot': input should be 'warm' or 'cold'"),
        ("--bits=8", "the command line: bits = '8': input should be 16, 32 or 'bf16'"),
        ("--silent=1", "unknown argument --silent=1"),
        ("--cuont=1", "unknown argument --cuont=1; did you mean '--count'?"),
        ("--count", "argument --count: expected one argument"),
    ],
)
def test_a_wrong_flag_is_one_line(argument, fault):
    """A page of usage, or a traceback, hides the one word that is wrong."""
    with pytest.raises(UserError) as caught:
        read(argument)
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_help_is_the_keys_meaning():
    """Help that is written a second time differs from the schema after the first change."""
    text = " ".join(parser().format_help().split())
    for words in (
        "--count COUNT how many (default 2)",
        "--lr LR how fast (default null)",
        "--loud [yes|no] whether it is heard (default true)",
        "--kind KIND one of two (default null)",
        "--depth DEPTH 100 % of the depth (default 1)",
    ):
        assert words in text
    assert "a key without a flag" not in text
    assert "--size SIZE how large (needed)" in " ".join(parser(Strict).format_help().split())


def test_two_keys_of_one_flag_are_an_error():
    """The second would take the first one's values."""

    class Twice(Section):
        first: Annotated[int, Flag("same")] = 1
        second: Annotated[int, Flag("same")] = 1

    with pytest.raises(argparse.ArgumentError, match="conflicting option string"):
        parser(Twice)


def test_a_parser_says_what_it_knows_of_an_unknown_flag():
    """The nearest flag of this script is no help for a flag that belongs elsewhere."""
    made = Parser("Toy.", hint=lambda flag: ": it is of another script" if flag == "--there" else "")
    with pytest.raises(UserError, match=r"unknown argument --there=1: it is of another script$"):
        made.parse_args(["--there=1"])
    with pytest.raises(UserError, match="unknown argument --here=1; did you mean '--help'"):
        made.parse_args(["--here=1"])


def test_values_are_shown_as_yaml_writes_them():
    """Somebody copies the default from --help into a file."""
    values = (None, True, False, 1e-5, "x", ("a", "b"))
    assert [shown_default(value) for value in values] == ["null", "true", "false", "1e-05", "x", "[a, b]"]
