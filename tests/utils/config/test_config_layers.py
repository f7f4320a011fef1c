"""Layers: files on their bases, and mistakes that are blamed on the layer that holds them."""

import os

import pytest

from utils.config.loading import COMMAND_LINE, merged, parse_assignments, read_layers, validated
from utils.config.schema import Positive, Section
from utils.errors import UserError


class Part(Section):
    """A part."""

    low: Positive = 1
    high: int = 9
    rate: float | None = None

    def rules(self):
        """An order."""
        return [(self.low > self.high, "part.low is above part.high")]


class Needed(Section):
    """A part without defaults."""

    size: int


class Whole(Section):
    """A configuration."""

    part: Part = Part()
    needed: Needed | None = None


@pytest.fixture
def write(tmp_path):
    """write(name, text): the path of a new file."""

    def make(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return make


def message(call, *arguments):
    """The one line of an error."""
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def read(path, *assignments):
    """The validated content of a file."""
    return validated([*read_layers(path), (COMMAND_LINE, parse_assignments(assignments))], Whole)


def test_a_base_lies_under_the_file_that_names_it(write):
    """A base that wins over the file makes an ablation the experiment that it was to differ from."""
    write("base.yml", "part: {low: 2, high: 7}\n")
    made = read(write("own.yml", "base: base.yml\npart: {low: 3}\n"))
    assert (made.part.low, made.part.high) == (3, 7)


def test_a_base_is_looked_for_beside_the_file_that_names_it(write, monkeypatch, tmp_path):
    """Looked for in the working directory, a configuration would load from one place only."""
    write("deep/ground.yml", "part: {low: 2, high: 5}\n")
    write("deep/middle.yml", "base: ground.yml\npart: {high: 6}\n")
    top = write("top/own.yml", "base: ../deep/middle.yml\npart: {rate: 1}\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    write("elsewhere/ground.yml", "part: {low: 9}\n")
    for path in (top, os.path.relpath(top)):
        names = [name for name, _ in read_layers(path)]
        assert [os.path.basename(name) for name in names] == ["ground.yml", "middle.yml", "own.yml"]
        made = read(path)
        assert (made.part.low, made.part.high, made.part.rate) == (2, 6, 1.0)


def test_two_files_may_have_one_base(write):
    """A check that takes every second use of a file for a circle would let no two runs share a base."""
    write("base.yml", "part: {low: 2}\n")
    for name in ("one.yml", "two.yml"):
        assert read(write(name, "base: base.yml\n")).part.low == 2


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("base: own.yml\n", "base = 'own.yml' leads back"),
        ("base: ./own.yml\n", "base = './own.yml' leads back"),
        ("base: none.yml\n", "base = 'none.yml': configuration not found: "),
        ("base: .\n", "base = '.': configuration is a folder, a file is needed: "),
        ("base:\n", "base = None: the name of another configuration file is needed"),
        ("base: ''\n", "base = '': the name of another configuration file is needed"),
        ("base: 3\n", "base = 3: the name"),
        ("base: [a.yml, b.yml]\n", "base = ['a.yml', 'b.yml']: the name"),
        ("base: {part: 1}\n", "base = {'part': 1}: the name"),
        (f"base: {'a' * 5000}\n", "aaa"),
    ],
)
def test_a_base_that_is_none_is_one_line_that_names_the_file(write, text, fault):
    """A missing base that is called by its own name only: which of ten files asked for it?"""
    found = message(read_layers, write("own.yml", text))
    assert "own.yml: base = " in found
    assert fault in found


def test_a_circle_of_three_ends(write):
    """Reading would go on for ever."""
    for name, base in (("a", "b"), ("b", "c"), ("c", "a")):
        path = write(f"{name}.yml", f"base: {base}.yml\n")
    assert "b.yml: base = 'c.yml' leads back to a file" in message(read_layers, path)


def test_a_circle_through_a_link_ends(write, tmp_path):
    """Another name for a file before it is the same file."""
    own = write("own.yml", "base: link.yml\n")
    (tmp_path / "link.yml").symlink_to(own)
    assert "leads back" in message(read_layers, own)
    (tmp_path / "loop.yml").symlink_to(tmp_path / "loop.yml")
    assert "own2.yml: base = 'loop.yml'" in message(read_layers, write("own2.yml", "base: loop.yml\n"))


def test_a_fault_in_a_base_names_the_base_and_its_line(write):
    """Who looks into the file that was asked for finds nothing wrong there."""
    write("base.yml", "part: {low: 2}\npart: {low: 3}\n")
    assert "base.yml:2: not valid YAML" in message(read_layers, write("own.yml", "base: base.yml\n"))


@pytest.mark.parametrize(
    ("base", "own", "assignment", "where"),
    [
        ("{lwo: 1}", "{low: 2}", "part.high=3", "base.yml: unknown key 'part.lwo'; did you mean 'low'?"),
        ("{low: 1}", "{lwo: 2}", "part.high=3", "own.yml: unknown key 'part.lwo'"),
        ("{low: 1}", "{low: 2}", "part.lwo=3", "the command line: unknown key 'part.lwo'"),
        ("{low: 0}", "{high: 8}", "part.rate=1", "base.yml: part.low = 0: "),
        ("{low: 1}", "{low: 0}", "part.rate=1", "own.yml: part.low = 0: "),
        ("{low: 1}", "{low: 2}", "part.low=0", "the command line: part.low = 0: "),
        ("{low: 8, high: 7}", "{rate: 1}", "part.rate=1", "base.yml: part.low is above part.high"),
        ("{low: 5}", "{high: 4}", "part.rate=1", "own.yml: part.low is above part.high"),
        ("{low: 5}", "{rate: 4}", "part.high=1", "the command line: part.low is above part.high"),
    ],
)
def test_a_mistake_is_blamed_on_the_layer_that_holds_it(write, base, own, assignment, where):
    """With bases a key may stand in any of several files; the wrong name sends people to a file without a fault."""
    write("base.yml", f"part: {base}\n")
    path = write("own.yml", f"base: base.yml\npart: {own}\n")
    assert where in message(read, path, assignment)


def test_a_contradiction_that_is_resolved_above_is_none(write):
    """Only the whole has to hold together: a base may leave a gap that each of its files fills."""
    write("base.yml", "part: {low: 8, high: 7}\n")
    assert read(write("own.yml", "base: base.yml\npart: {high: 8}\n")).part.high == 8


def test_a_section_may_be_needed_only_where_it_is_given(write):
    """A part without defaults that misses a key names the file with the part."""
    path = write("own.yml", "needed: {}\n")
    assert "own.yml: 'needed.size' is missing" in message(read, path)


def test_a_base_is_a_key_of_files_alone(write):
    """`--set base=x` that passes would be a base that nothing reads."""
    path = write("own.yml", "part: {low: 2}\n")
    assert "--set base=x.yml: write section.key=value" in message(read, path, "base=x.yml")
    assert "the command line: unknown key 'base'" in message(read, path, "base.x=1")


def test_layers_stay_as_they_were():
    """A layer that merging changes would be written back into the defaults of the next configuration."""
    layers = [("a", {"part": {"low": 1}}), ("b", {"part": {"high": 2}})]
    assert merged(layers) == {"part": {"low": 1, "high": 2}}
    assert layers == [("a", {"part": {"low": 1}}), ("b", {"part": {"high": 2}})]
