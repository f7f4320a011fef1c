"""Which dialogues the release makes of a file: those that are incomplete run on into the next, the last is lost.

Behind `model.fidelity: released_code`.
"""

from collections.abc import Iterator, Sequence

from companions.personagpt.dialogues import is_complete
from dataset.dialogue import PARTNER, SELF, Dialogue, Utterance


def released_dialogues(dialogues: Sequence[Dialogue]) -> list[Dialogue]:
    """The dialogues of a file as the release reads it.

    It looks only before it reads a fact whether what it has read so far is complete, and only then does it begin
    anew. So an incomplete dialogue takes facts of the next one, and all of it where that does not suffice; and no
    fact follows the last dialogue.

    Args:
        dialogues: of one file, in its order.
    """
    stored: list[Dialogue] = []
    facts: dict[str, list[str]] = {SELF: [], PARTNER: []}
    utterances: list[Utterance] = []
    for dialogue in dialogues:
        for speaker, fact in _facts(dialogue):
            if is_complete(facts, utterances):
                personas = {side: tuple(lines) for side, lines in facts.items()}
                stored.append(Dialogue(tuple(utterances), personas, dialogue.source))
                facts, utterances = {SELF: [], PARTNER: []}, []
            facts[speaker].append(fact)
        utterances += dialogue.utterances
    return stored


def _facts(dialogue: Dialogue) -> Iterator[tuple[str, str]]:
    """Speaker and text of each fact, in the order of the file."""
    order = dialogue.persona_order or [
        side for side in (SELF, PARTNER) for _ in dialogue.personas.get(side, ())
    ]
    return zip(order, dialogue.persona, strict=True)
