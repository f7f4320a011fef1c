"""What a sitting of active learning leaves behind, as JSON lines that are on the disk as soon as they are made."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from companions.personagpt.action_data import ActionExample
from companions.personagpt.action_files import append_pair
from utils.appending import append_line
from utils.files import json_line


@dataclass
class Records:
    """Two files that grow; what they held before stays.

    Args:
        corrections: examples of what should have been said, a file of action codes.
        dialogues: whole conversations that were accepted, with the goals that led them.
    """

    corrections: Path
    dialogues: Path
    added: int = 0
    """corrections of this sitting"""

    def add_correction(self, example: ActionExample) -> None:
        """Keep a corrected line.

        Raises:
            UserError: a text of it holds a special token, or the file cannot be written.
        """
        append_pair(self.corrections, example.texts)
        self.added += 1

    def add_dialogue(
        self, facts: Sequence[str], chosen: Sequence[str], texts: Sequence[str], goals: Sequence[str]
    ) -> None:
        """Keep a conversation.

        Args:
            facts: of the persona agent.
            chosen: the goal of each exchange.
            texts: the lines, the interviewer's first.
            goals: all that could be chosen.

        Raises:
            UserError: the file cannot be written.
        """
        numbers = [list(goals).index(goal) for goal in chosen]
        row = {"facts": list(facts), "goals": list(chosen), "indices": numbers, "turns": list(texts)}
        append_line(self.dialogues, json_line(row))
