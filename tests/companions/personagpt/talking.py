"""A voice that remembers its lines, and scripted conversations in the shell."""

from functools import cache

from companions.personagpt.agents import Line, Voice
from companions.personagpt.settings import PersonaConfig
from companions.personagpt.speaking import read_speaker
from models.conversation import ConversationModel
from models.decoding.shell import converse
from models.registry import build_model, build_tokenizer
from tests.companions.personagpt.golden import GOLDEN


class RecordingVoice(Voice):
    """Keeps every line that it generates in `lines`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.lines: list[Line] = []

    def reply(self, *arguments: object, **named: object) -> Line:
        """As `Voice.reply`."""
        self.lines.append(super().reply(*arguments, **named))
        return self.lines[-1]


def config_with(**chat: object) -> PersonaConfig:
    """The configuration of the golden LM; keys of `model` by their names, all others are keys of `chat`."""
    model = {key: chat.pop(key) for key in ("fidelity", "action_prompt") if key in chat}
    return read_speaker(str(GOLDEN / "lm"), [], {"model": model, "chat": chat})


@cache
def golden_model() -> ConversationModel:
    """The LM of the golden cases, loaded once."""
    config = config_with()
    return build_model(config, build_tokenizer(config)).eval()


def voice_with(**settings: object) -> RecordingVoice:
    """The golden LM as a voice; greedy unless told otherwise."""
    return RecordingVoice(golden_model(), config_with(**{"top_k": 1, **settings}), seed=1)


def hold(talk, lines, folder):
    """Hold a conversation with scripted lines; an exception among them is raised in its place.

    Returns:
        The questions that were asked, and what was shown.
    """
    asked, shown, script = [], [], iter(lines)

    def ask(prompt):
        asked.append(prompt)
        line = next(script, EOFError)
        if isinstance(line, str):
            return line
        raise line

    converse(talk, ask, shown.append, folder)
    return asked, shown
