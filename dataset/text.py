"""The one place that knows the prompt's wording. Training, decoding and chat all come here.

    given persona: {persona}; context: Q: {partner} R: {self} .. Q: {partner} R: {response}

Special tokens are not text: dataset/encoding.py adds them as ids (docs/method.md, section 2).
"""

from collections.abc import Sequence
from dataclasses import dataclass

CUE = " R:"
PARTNER_MARK, SELF_MARK = "Q: ", "R: "
CUT_MARKS = ("R:", "Q:", "Summary:", "\n", ":")
STOP_CHARACTERS = (":", "\n")  # every cut mark holds one of them: nothing after it is ever kept


@dataclass(frozen=True, slots=True)
class PromptText:
    """A text in the parts whose borders matter later; `body` is their concatenation."""

    persona: str
    """up to the end of the persona lines"""
    context: str
    """from `; context:` to the end of the last turn"""
    cue: str
    """` R:`, after which the response begins"""
    response: str
    """a space and the response; empty at inference"""

    @property
    def body(self) -> str:
        """The whole text."""
        return self.persona + self.context + self.cue + self.response


def label_turns(utterances: Sequence[str]) -> list[str]:
    """Prefix the utterances alternately with the partner's and the modelled speaker's mark.

    Args:
        utterances: oldest first; the last one is the partner's, which fixes whose the others are.
    """
    offset = len(utterances) % 2  # odd count: the partner spoke first
    return [
        (PARTNER_MARK if (index + offset) % 2 else SELF_MARK) + text for index, text in enumerate(utterances)
    ]


def prompt_text(persona: Sequence[str], turns: Sequence[str], response: str | None) -> PromptText:
    """The text of one example.

    Args:
        persona: persona lines, joined by single spaces.
        turns: labelled turns (see `label_turns`), oldest first; none where the response begins the dialogue.
        response: the response, or None at inference.
    """
    return PromptText(
        persona=f"given persona: {' '.join(persona)}",
        context=" ".join(["; context:", *turns]),
        cue=CUE,
        response="" if response is None else f" {response}",
    )


def cut_response(text: str) -> str:
    """The generated text up to the first mark of a next turn (docs/method.md, section 6)."""
    ends = [text.find(mark) for mark in CUT_MARKS]
    return text[: min((end for end in ends if end >= 0), default=len(text))]
