"""Sections: frozen, composed without ambiguity, and with rules that each class states for itself."""

from typing import Annotated, Literal

import pytest
from pydantic import ValidationError

from utils.config.schema import Flag, Positive, Section, Several, composed, flag_of, keys_of, words_of


class Sizes(Section):
    """Sizes."""

    width: Positive = 4
    """how wide"""
    names: Several[Literal["a", "b"]] = ("a",)
    """which ones"""


class Ground(Section):
    """Keys that everything has."""

    rate: Annotated[float, Flag("rate", "R")] = 1.0
    """how fast"""

    def rules(self):
        """Not too fast."""
        return [(self.rate > 9, "rate is above 9")]


class Left(Ground):
    """One more key."""

    left: int = 1
    sizes: Sizes = Sizes()

    def rules(self):
        """Another rule."""
        return [(self.left < 0, "left is below 0")]


class Right(Section):
    """A part on its own."""

    right: int = 2

    def rules(self):
        """A rule of its own."""
        return [(self.right < 0, "right is below 0")]


class FurtherRight(Right):
    """Extends a part."""

    further: int = 3


class OtherRight(Section):
    """Declares a key that another part has too."""

    right: float = 0.5


def test_a_section_is_frozen_all_the_way_down():
    """A value that is changed after the configuration was saved trains a run that its config.yml does not describe."""
    made = Left.model_validate({"sizes": {"names": ["a", "b"]}})
    with pytest.raises(ValidationError, match="frozen"):
        made.left = 5
    with pytest.raises(ValidationError, match="frozen"):
        made.sizes.width = 5
    with pytest.raises(ValidationError, match="frozen"):
        made.sizes = Sizes()
    with pytest.raises(ValidationError, match="frozen"):
        made.unknown = 1
    assert made.sizes.names == ("a", "b")  # a list could be appended to
    assert hash(made) == hash(Left.model_validate({"sizes": {"names": ["a", "b"]}}))


def test_a_copy_with_other_values_is_checked_and_leaves_the_original():
    """`model_copy(update=...)` takes any value; a precision that does not exist would fail hours later."""
    made = Left()
    other = made.replaced({"sizes": {"width": 8}})
    assert (other.sizes.width, other.sizes.names, made.sizes.width) == (8, ("a",), 4)
    for wrong in ({"sizes": {"width": 0}}, {"sizes": {"wdth": 1}}, {"left": "1"}, {"sizes": 3}):
        with pytest.raises(ValidationError):
            made.replaced(wrong)


def test_a_composed_section_has_the_keys_in_the_order_of_its_parts():
    """The order of config.yml, of --help and of the documentation would change with each loss that is added."""
    whole = composed("Whole", [Left, Right])
    assert list(whole.model_fields) == ["rate", "left", "sizes", "right"]
    assert list(composed("Whole", [Right, Left]).model_fields) == ["right", "rate", "left", "sizes"]
    assert issubclass(whole, Left)
    assert issubclass(whole, Right)


def test_parts_that_are_there_already_add_nothing():
    """A part that is given twice, or beside one that extends it, was an error of Python's on the order of bases."""
    assert composed("Whole", [Left]) is Left
    assert composed("Whole", [Left, Ground, Left]) is Left
    for parts in (
        [Left, Right, FurtherRight],
        [Left, FurtherRight, Right],
        [Left, Right, FurtherRight, Right],
    ):
        assert list(composed("Whole", parts).model_fields) == ["rate", "left", "sizes", "right", "further"]
    assert list(composed("Whole", [Right, FurtherRight]).model_fields) == ["right", "further"]


def test_two_parts_with_one_key_are_an_error():
    """One of them would have the other's type and default, and train with a value that nobody gave it."""
    with pytest.raises(TypeError, match="Right and OtherRight both declare the key 'right'"):
        composed("Whole", [Left, Right, OtherRight])


def test_parts_may_share_what_they_extend():
    """A key that two parts inherit from one class is one key, and no conflict."""

    class Other(Ground):
        other: int = 0

    assert list(composed("Whole", [Left, Other]).model_fields) == ["rate", "left", "sizes", "other"]


def test_the_rules_of_every_part_are_asked_once():
    """A part whose rule is hidden by that of another part lets its contradiction pass."""
    whole = composed("Whole", [Left, FurtherRight])
    assert whole(rate=10.0, left=-1, right=-1).contradictions() == [
        "right is below 0",
        "left is below 0",
        "rate is above 9",
    ]
    assert whole().contradictions() == []


def test_rules_of_inner_sections_count():
    """A rule inside `model.init` that only direct use of that section asks for is no rule."""

    class Outer(Section):
        inner: Left = Left()

    assert Outer(inner=Left(left=-1)).contradictions() == ["left is below 0"]


def test_keys_and_flags_of_a_section():
    """Documentation and command line are made from these; a key that is not found has neither."""
    assert [key for key, _ in keys_of(Left, "x.")] == ["x.rate", "x.left", "x.sizes.width", "x.sizes.names"]
    assert flag_of(Left.model_fields["rate"]) == Flag("rate", "R")
    assert flag_of(Left.model_fields["left"]) is None
    assert words_of(Annotated[Literal[16, "bf16"] | None, Flag("x")]) == [16, "bf16"]
    assert words_of(int | None) == []
