"""What two dialogue files have in common: a validation figure on text that was trained on says nothing."""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from dataset.dialogue import Example
from dataset.encoded import dialogues_of, ids_of, personas_of
from dataset.encoding import EncodedExample

MANY = 0.01
"""share of the validation examples above which equal ones are no chance"""


@dataclass(frozen=True, slots=True)
class Overlap:
    """How much of a validation file stands in the training file too."""

    dialogues: int
    """dialogues that stand there whole, utterance by utterance"""
    num_dialogues: int
    """all dialogues of the validation file"""
    examples: int
    """examples with the context and the response of one there, and at an opening, where greetings repeat in any two
    files, its persona too"""
    num_examples: int
    """all examples of the validation file"""
    personas: int
    """dialogues with a persona that a dialogue there has, in whatever order of its lines"""

    def warning(self, train: str, valid: str) -> str | None:
        """What is wrong and what follows from it, in words; None where what is common is chance.

        Args:
            train: the training file, as it is to be named.
            valid: the validation file.
        """
        if self.dialogues:
            what = f"{self.dialogues:,} of the {self.num_dialogues:,} dialogues"
        elif self.examples > MANY * self.num_examples:
            what = f"{self.examples:,} of the {self.num_examples:,} examples"
        else:
            return None
        return (
            f"{what} of {valid} stand in {train} too: validation figures are too good, and the checkpoint `best` "
            "may be the one that remembers most; take them out of one of the files"
        )


Row = tuple[int, Hashable, int]
"""dialogue, persona, and a number that equal texts share; it has 64 bits, so that any two of a million different texts
share one in one of 30 million files"""


def overlap_of(train: Sequence[Example], valid: Sequence[Example]) -> Overlap:
    """What the examples of two files have in common, those of a dialogue side by side with the longest last."""
    return _overlap(_of_texts(train), _of_texts(valid))


def encoded_overlap(train: Sequence[EncodedExample], valid: Sequence[EncodedExample]) -> Overlap:
    """The same of examples of one encoder, by their token ids.

    The persona is a part of these: the same dialogue under another persona is not found.
    """
    return _overlap(_of_ids(train), _of_ids(valid))


def _overlap(train: Iterable[Row], valid: Iterable[Row]) -> Overlap:
    texts, personas = set(), set()
    for _, persona, text in train:
        texts.add(text)
        personas.add(persona)
    examples, equal, whole, same_persona = 0, 0, {}, {}
    for dialogue, persona, text in valid:
        examples += 1
        equal += text in texts
        whole[dialogue] = (
            text in texts
        )  # the context of a dialogue's last example is all that was said before
        same_persona[dialogue] = bool(persona) and persona in personas
    return Overlap(sum(whole.values()), len(whole), equal, examples, sum(same_persona.values()))


def _of_texts(examples: Sequence[Example]) -> Iterator[Row]:
    for example in examples:
        persona = frozenset(example.persona)
        owner = persona if len(example.context) <= 1 else None
        yield example.dialogue, persona, hash((owner, example.context, example.response))


def _of_ids(examples: Sequence[EncodedExample]) -> Iterator[Row]:
    columns = zip(dialogues_of(examples).tolist(), personas_of(examples), ids_of(examples), strict=True)
    for dialogue, persona, ids in columns:
        yield dialogue, persona, hash(ids.tobytes())
