"""Active learning: an interviewer and a persona agent talk, a human judges each line and corrects the bad ones.

A corrected line ends the conversation and is stored as an example for the control stage; a conversation without one, of
`chat.num_turns` exchanges, is stored with the goals that were chosen. Both are stored at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from companions.personagpt.action_data import ActionExample
from companions.personagpt.agents import Interviewer, Line, PersonaBot, Voice
from companions.personagpt.records import Records
from companions.personagpt.talks import chosen_goal, index_question, menu
from utils.errors import UserError, shown

JUDGE, CORRECT = " good? [y/n]: ", " correct line: "
INTERVIEWER, AGENT = "interviewer", "persona agent"
_YES, _NO = ("y", "yes"), ("n", "no")


@dataclass
class Gym:
    """The conversations of one sitting, a `Talk` of the shell.

    Args:
        voice: the LM of both.
        goals: phrases that the interviewer can be given.
        draw_facts: gives the facts of the next persona agent.
        records: keeps corrections and whole conversations.
        dialogues: conversations to hold; None: until the human leaves.
    """

    voice: Voice
    goals: Sequence[str]
    draw_facts: Callable[[], Sequence[str]]
    records: Records
    dialogues: int | None = None
    held: int = field(default=0, init=False)
    """conversations that have ended"""

    def __post_init__(self) -> None:
        self.interviewer = Interviewer(self.voice)
        self._begin()

    @property
    def is_over(self) -> bool:
        """After the last conversation."""
        return self.held == self.dialogues

    @property
    def prompt(self) -> str:
        """For a goal, a judgement or a correction."""
        if self.line is None:
            return index_question(self.goals)
        return CORRECT if self.is_refused else JUDGE

    def opening(self) -> list[str]:
        """Where everything goes, and the first conversation."""
        return [f"corrections: {self.records.corrections}; exit ends it", *self._scene()]

    def answer(self, line: str) -> list[str]:
        """What a goal's number, a judgement or a correction is answered with.

        Raises:
            UserError: it is none; nothing has changed.
        """
        if self.line is None:
            return self._take_goal(line)
        return self._correct(line.strip()) if self.is_refused else self._judge(line, self.line)

    def save(self, folder: Path) -> Path:
        """The file of corrections: all is in it already."""
        return self.records.corrections

    def _begin(self) -> None:
        """Another persona, and nothing said yet."""
        self.agent = PersonaBot(self.voice, self.draw_facts())
        self.turns: list[Sequence[int]] = []
        self.texts: list[str] = []
        self.chosen: list[str] = []
        self.line: Line | None = None
        """the one to be judged"""
        self.is_refused = False

    def _scene(self) -> list[str]:
        """The persona, the conversation so far, and the goals."""
        facts = [f"{AGENT}:", *(f"  {fact}" for fact in self.agent.facts)]
        said = [f"{self._name(number)}: {text}" for number, text in enumerate(self.texts)]
        return ["\n".join(["", *facts, *([""] if said else []), *said, "", menu(self.goals)])]

    def _name(self, turn: int) -> str:
        """Who says a turn."""
        return AGENT if turn % 2 else f"{INTERVIEWER} ({self.chosen[turn // 2]})"

    def _take_goal(self, typed: str) -> list[str]:
        goal = chosen_goal(typed, self.goals)
        line = self.interviewer.reply(self.turns, goal)
        self.line = line
        self.chosen.append(goal)
        return [self._shown(line)]

    def _judge(self, typed: str, line: Line) -> list[str]:
        word = typed.strip().lower()
        if word not in _YES + _NO:
            raise UserError(f"{shown(typed)}: y or n is needed")
        if word in _YES:
            return self._accept(line)
        self.is_refused = True
        return []

    def _accept(self, line: Line) -> list[str]:
        text = line.text.strip()
        if not text:
            raise UserError("the line is empty, which is no turn; answer n and correct it")
        texts = [*self.texts, text]
        # of the text, as whoever reads a stored correction makes them: the LM may have cut the words otherwise
        turns = [*self.turns, self.voice.turn(text)]
        answer = self.agent.reply(turns) if len(turns) % 2 else None
        if len(turns) == 2 * self.voice.settings.num_turns:
            self.records.add_dialogue(self.agent.facts, self.chosen, texts, self.goals)
            return self._end("the conversation is complete and stored")
        self.turns, self.texts, self.line = turns, texts, answer
        return self._scene() if answer is None else [self._shown(answer)]

    def _correct(self, text: str) -> list[str]:
        """A better line, as an example of what its speaker was told: the action code, or the facts."""
        if not text:
            raise UserError("a correction needs words")
        example = ActionExample(tuple(self.texts), text, variant=self.voice.config.model.action_prompt)
        if len(self.turns) % 2:
            example = replace(example, facts=tuple(self.agent.facts), speaker=self.agent.speaker)
        else:
            example = replace(example, goal=self.chosen[-1])
        self.records.add_correction(example)
        return self._end(f"stored what the {self._name(len(self.turns))} should have said")

    def _end(self, how: str) -> list[str]:
        self.held += 1
        if self.is_over:
            return [how]
        self._begin()
        return [f"{how}; another persona comes", *self._scene()]

    def _shown(self, line: Line) -> str:
        return f"{self._name(len(self.turns))}: {line.text.strip()}"
