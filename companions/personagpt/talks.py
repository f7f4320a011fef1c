"""The two modes of interaction, as conversations that the shell of SPT's chat holds.

Mode 0: the user opens as speaker 1 and talks to the bot, speaker 2. Mode 1: the user picks action codes; the
interviewer's line and the bot's answer are both generated. In both, the bot's facts are typed first where none are
given. Generated lines are shown as the original shows them, without spaces before punctuation; but where it ends each
line with the literal `<|endoftext|>`, in mode 1, no special token is shown here.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from companions.personagpt.actions import goal_by_number
from companions.personagpt.agents import Interviewer, PersonaBot, Voice
from companions.personagpt.dialogues import cleaned
from models.decoding.shell import save_transcript
from utils.errors import UserError, shown

USER, BOT = ">> User: ", "Bot: "
HINT = "save writes the conversation to a file, exit ends it"
END = "that was the last exchange; save, or any other line to end: "


class PersonaTalk(ABC):
    """A conversation with a persona bot, a `Talk` of the shell: first its facts, then a number of exchanges.

    Args:
        voice: the LM.
        facts: of the bot; None: they are typed.
    """

    def __init__(self, voice: Voice, facts: Sequence[str] | None) -> None:
        self.voice = voice
        self.facts = list(facts or ())
        self.wanted = voice.settings.num_facts if facts is None else len(self.facts)
        self.bot = PersonaBot(voice, self.facts)
        self.turns: list[Sequence[int]] = []
        """ids of the lines so far"""
        self.shown: list[str] = []
        """the lines so far, as they are shown"""
        self.notes: dict[int, str] = {}
        """what is saved before a line, by its number"""
        self.is_over = False
        """whether the user has seen the end"""

    @property
    def prompt(self) -> str:
        """For a fact, for what the mode asks, or at the end."""
        if not self._has_facts:
            return f">> Fact {len(self.facts) + 1}: "
        return END if self.is_complete else self.question

    @property
    def is_complete(self) -> bool:
        """Whether there were `chat.num_turns` exchanges."""
        return len(self.turns) >= 2 * self.voice.settings.num_turns

    @property
    def _has_facts(self) -> bool:
        return len(self.facts) >= self.wanted

    def opening(self) -> list[str]:
        """The facts that were given, and the first question."""
        given = "\n".join(["facts of the bot:", *(f"  {fact}" for fact in self.facts)])
        return [HINT, given, *self.before()] if self._has_facts else [HINT]

    def answer(self, line: str) -> list[str]:
        """What a fact, or a line of the conversation, is answered with.

        Raises:
            UserError: it cannot be taken; nothing has changed.
        """
        if self.is_complete:
            self.is_over = True
            return []
        if self._has_facts:
            return self.exchange(line)
        self.facts.append(self._fact(line))
        return self.before() if self._has_facts else []

    def _fact(self, line: str) -> str:
        """A typed fact; the release takes any text, and its tokenizer drops spaces at the start of the first one."""
        if self.voice.released:
            return line if self.facts else line.lstrip()
        if not line.strip():
            raise UserError("a fact is empty; nothing was taken")
        return line.strip()

    def save(self, folder: Path) -> Path:
        """Write facts and conversation to the next free `chat_{n}.txt` in `folder`."""
        lines = [f"fact: {fact}" for fact in self.facts]
        for number, line in enumerate(self.shown):
            if number in self.notes:
                lines.append(self.notes[number])
            lines.append(line)
        return save_transcript(folder, "\n".join(lines) + "\n")

    @property
    @abstractmethod
    def question(self) -> str:
        """What stands before the user's line."""

    @abstractmethod
    def before(self) -> list[str]:
        """What is shown before the first question."""

    @abstractmethod
    def exchange(self, line: str) -> list[str]:
        """One exchange, of two lines."""

    def _add(self, user: Sequence[int], user_text: str, bot: Sequence[int], bot_text: str) -> None:
        self.turns += [user, bot]
        self.shown += [f"{USER}{user_text}", f"{BOT}{cleaned(bot_text)}"]


class ChatTalk(PersonaTalk):
    """Mode 0: the user's own words."""

    question = USER

    def before(self) -> list[str]:
        """Nothing."""
        return []

    def exchange(self, line: str) -> list[str]:
        """The bot's line. An empty one is passed over; the release takes it as a turn without words.

        Raises:
            UserError: facts and line leave no room for a reply.
        """
        said = line if self.voice.released else line.strip()
        if not (said or self.voice.released):
            return []
        turn = self.voice.turn(said)
        reply = self.bot.reply([*self.turns, turn])
        self._add(turn, said, reply.ids, reply.text)
        return [self.shown[-1]]


class SteeredTalk(PersonaTalk):
    """Mode 1: action codes.

    Args:
        voice: the LM.
        facts: of the bot; None: they are typed.
        goals: phrases to choose from.
    """

    def __init__(self, voice: Voice, facts: Sequence[str] | None, goals: Sequence[str]) -> None:
        super().__init__(voice, facts)
        self.goals = goals
        self.interviewer = Interviewer(voice)

    @property
    def question(self) -> str:
        """The numbers to choose from."""
        return index_question(self.goals)

    def before(self) -> list[str]:
        """The conversation so far, and the phrases to choose from."""
        return ["\n".join(["", *self.shown, *([""] if self.shown else []), menu(self.goals)])]

    def exchange(self, line: str) -> list[str]:
        """The conversation so far, with the interviewer's line and the bot's answer.

        Raises:
            UserError: no number of a goal, or no room for a reply.
        """
        goal = chosen_goal(line, self.goals, self.voice.released)
        asked = self.interviewer.reply(self.turns, goal)
        reply = self.bot.reply([*self.turns, asked.ids])
        self.notes[len(self.turns)] = f"action: {goal}"
        self._add(asked.ids, cleaned(asked.text), reply.ids, reply.text)
        return ["\n".join(["", *self.shown])] if self.is_complete else self.before()


def index_question(goals: Sequence[str]) -> str:
    """What stands before the number of a goal."""
    return f" input [0-{len(goals) - 1}]: "


def menu(goals: Sequence[str]) -> str:
    """The phrases with their numbers."""
    return "\n".join([" actions: ", *(f"{number} {goal}" for number, goal in enumerate(goals))])


def chosen_goal(line: str, goals: Sequence[str], released: bool = False) -> str:
    """The goal whose number a line is.

    Args:
        line: as it was typed.
        goals: phrases to choose from.
        released: count from the end with negative numbers, as the release's list does.

    Raises:
        UserError: it is no number of one.
    """
    number = line.strip()
    goal = goal_by_number(number, goals)
    if goal is None and released and number.startswith("-"):
        goal = goal_by_number(number[1:], (goals[0], *reversed(goals)))
    if goal is None:
        raise UserError(f"{shown(line)}: a number from 0 to {len(goals) - 1} is needed")
    return goal
