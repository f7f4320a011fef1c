"""Make the sample of PersonaGPT: dialogues of two personas in the form of ConvAI2, and examples of action codes.

    python -m companions.personagpt.sample.generate            write the files beside this script
    python -m companions.personagpt.sample.generate --check    exit with 1 when they differ from what it makes

Whoever is asked about a topic answers from the own persona, or says that there is nothing to tell. Whoever follows an
action code reacts to what was said and asks about its topic. Every tenth training dialogue stands there twice, the
second time as the other speaker saw it, as all do in ConvAI2.
"""

import argparse
import csv
import io
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from companions.personagpt.sample.topics import TOPICS_TEXT

SEED = 20211026
FOLDER = Path(__file__).resolve().parent
TRAIN_NAME = "train_both.txt"
VALID_NAME = "valid_both.txt"
ACTIONS_NAME = "actions.csv"
VALID_ACTIONS_NAME = "valid_actions.csv"
TRAIN_DIALOGUES, VALID_DIALOGUES = 220, 24
ACTIONS_PER_GOAL, VALID_ACTIONS_PER_GOAL = 22, 3
TWIN_EVERY = 10
MAX_HISTORY = 7  # turns before the reply that follows an action code

GREETINGS = ("hello !", "hi there .", "good morning .", "hey !")
SMALL_TALK = ("how are you ?", "how are you today ?", "nice to meet you .")
FINE = ("i am fine .", "i am doing well .", "very well , thanks .")
REACTIONS = ("oh , nice .", "i see .", "that is great .", "how lovely .", "wow !")


@dataclass
class Topic:
    """What an action code is about."""

    goal: str
    wordings: dict[str, list[str]] = field(default_factory=dict)
    """by their one-letter key"""


Persona = dict[str, str]
"""a fact, such as "i live with two cats.", by the goal that asks about it"""


@dataclass(frozen=True, slots=True)
class Sketch:
    """One dialogue."""

    personas: tuple[Persona, Persona]
    """of the speaker who opens, and of the other"""
    turns: tuple[str, ...]


@lru_cache(maxsize=1)
def load_topics() -> dict[str, Topic]:
    """The topics by their goals, in the order of the text."""
    topics: dict[str, Topic] = {}
    topic = Topic("")
    for line in TOPICS_TEXT.strip().splitlines():
        if line.startswith("# "):
            topic = Topic(line[2:])
            topics[topic.goal] = topic
        else:
            topic.wordings[line[0]] = [part.strip() for part in line[3:].split("|")]
    return topics


def make_persona(rng: random.Random) -> Persona:
    """Four or five facts of different topics."""
    goals = rng.sample(list(load_topics()), rng.choice((4, 5)))
    found = {}
    for goal in goals:
        (form,), values = load_topics()[goal].wordings["F"], load_topics()[goal].wordings["V"]
        found[goal] = form.replace("{v}", rng.choice(values))
    return found


def answer(rng: random.Random, goal: str, persona: Persona) -> str:
    """What somebody with this persona says when asked about a topic."""
    wordings = load_topics()[goal].wordings
    if goal not in persona:
        return rng.choice(wordings["N"])
    return f"{rng.choice(wordings['L'])} {persona[goal][:-1]} ."


def make_turns(rng: random.Random, personas: tuple[Persona, Persona]) -> tuple[str, ...]:
    """Eight to twelve turns: an answer or a reaction, and often a question."""
    turns, asked = [f"{rng.choice(GREETINGS)} {rng.choice(SMALL_TALK)}"], ""
    unasked = [list(load_topics()) for _ in personas]  # each asks about every topic once at most
    for turn in range(1, rng.choice((8, 10, 12))):
        speaker = turn % 2
        if turn == 1:
            said = f"{rng.choice(GREETINGS)} {rng.choice(FINE)}"
        else:
            said = answer(rng, asked, personas[speaker]) if asked else rng.choice(REACTIONS)
        asked = ""
        # the one who opens asks more often; without a question before there is always one
        if rng.random() < (0.8, 0.5)[speaker] or said in REACTIONS:
            told = [goal for goal in unasked[speaker] if goal in personas[1 - speaker]]
            # mostly about what the other one can tell of
            asked = rng.choice(told if told and rng.random() < 0.7 else unasked[speaker])
            unasked[speaker].remove(asked)
            said = f"{said} {rng.choice(load_topics()[asked].wordings['Q'])}"
        turns.append(said)
    return tuple(turns)


def make_sketches(rng: random.Random, count: int) -> list[Sketch]:
    """Dialogues of different personas."""
    sketches = []
    for _ in range(count):
        personas = (make_persona(rng), make_persona(rng))
        sketches.append(Sketch(personas, make_turns(rng, personas)))
    return sketches


def format_dialogue(sketch: Sketch, opens: bool = False) -> str:
    """One dialogue as numbered lines that start at 1.

    Args:
        sketch: the dialogue.
        opens: whether it is written as the speaker saw it who opens; the last turn, being the other's, is lost then.
    """
    first, second = sketch.personas
    own, partner = (first, second) if opens else (second, first)
    turns = ["__SILENCE__", *sketch.turns[:-1]] if opens else sketch.turns
    lines = [f"your persona: {fact}" for fact in own.values()]
    lines += [f"partner's persona: {fact}" for fact in partner.values()]
    lines += [f"{left}\t{right}" for left, right in zip(turns[::2], turns[1::2], strict=True)]
    return "".join(f"{number} {line}\n" for number, line in enumerate(lines, start=1))


def action_rows(rng: random.Random, sketches: Sequence[Sketch], per_goal: int) -> list[tuple[str, str]]:
    """Contexts and replies of action codes: the speaker who opens has no facts and asks about the goal."""
    rows = []
    for goal, topic in load_topics().items():
        for number in range(per_goal):
            history = rng.choice(sketches).turns[: 2 * (number % (MAX_HISTORY // 2 + 1))]
            question = topic.wordings["Q"][number % len(topic.wordings["Q"])]
            context = f"<|act|>{goal}<|sep|><|p1|><|sep|>"
            if history:
                context += f"<|start|>{''.join(f'{turn}<|endoftext|>' for turn in history)}"
                reply = f"{rng.choice(REACTIONS)} {question}<|endoftext|>"
            else:
                reply = f"<|start|>{rng.choice(GREETINGS)} {question}<|endoftext|>"
            rows.append((context, reply))
    return rows


def format_actions(rows: Sequence[tuple[str, str]]) -> str:
    """A CSV file with the columns context and response."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("context", "response"), *rows])
    return text.getvalue()


def make_files(seed: int = SEED) -> dict[str, str]:
    """The text of all files, by file name."""
    rng = random.Random(seed)
    train, valid = make_sketches(rng, TRAIN_DIALOGUES), make_sketches(rng, VALID_DIALOGUES)
    dialogues = [format_dialogue(sketch) for sketch in train]
    dialogues += [format_dialogue(sketch, opens=True) for sketch in train[::TWIN_EVERY]]
    return {
        TRAIN_NAME: "".join(dialogues),
        VALID_NAME: "".join(map(format_dialogue, valid)),
        ACTIONS_NAME: format_actions(action_rows(rng, train, ACTIONS_PER_GOAL)),
        VALID_ACTIONS_NAME: format_actions(action_rows(rng, valid, VALID_ACTIONS_PER_GOAL)),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files, or with --check compare them; the result is the exit status."""
    parser = argparse.ArgumentParser(description="Make the embedded sample of PersonaGPT.")
    parser.add_argument("--check", action="store_true", help="compare only; exit with 1 when a file differs")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the files")
    options = parser.parse_args(argv)
    status = 0
    for name, text in make_files().items():
        path: Path = options.out / name
        data = text.encode("utf-8")  # bytes, as line ends must be the same on every system
        if not options.check:
            options.out.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            print(f"wrote {path}")
        elif not path.is_file() or path.read_bytes() != data:
            print(f"{path} differs from what the generator makes; run it without --check", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    raise SystemExit(main())
