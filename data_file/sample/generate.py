"""Make the embedded sample: small persona dialogues in the ConvAI2 text format.

    python data_file/sample/generate.py            write both files next to this script
    python data_file/sample/generate.py --check    exit with 1 when the files differ from what it makes
    python data_file/sample/generate.py --out DIR  write (or check) in another folder

A dialogue is rendered from a persona (who the modelled speaker is) and a skeleton (what is asked, in which
words). The skeleton never holds a persona value, so all that a response says about its speaker comes from the
persona: the same skeleton with another persona gives other responses.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from pathlib import Path

try:
    from data_file.sample.topics import TOPICS_TEXT
except ImportError:  # run as a script: the folder of this file is on the path, the repository root is not
    from topics import TOPICS_TEXT

SEED = 20240607
TRAIN_DIALOGUES = 1200
VALID_DIALOGUES = 80
TRAIN_NAME = "train_self_original_no_cands.txt"
VALID_NAME = "valid_self_original_no_cands.txt"
HELD_OUT_PAIRS = 600  # of 12,000 pairs of values of two topics; training personas hold none of them

SILENCE = "__SILENCE__"
PERSONA_PREFIX = "your persona: "
MAX_RESPONSE_WORDS = 14
FOLLOW_UPS = ("first", "second")

GREETINGS = ("hello , how are you ?", "hi ! how are you today ?", "hey there ! how are you doing ?")
GREETINGS += ("good morning ! how are you ?", "hi , how are you this evening ?")
PLAIN_REPLIES = ("hello ! i am doing well today .", "hi , i am doing great , thanks .")
PLAIN_REPLIES += ("hi ! i am good , how are you ?", "hello ! i am fine , and you ?")
SHARE_REPLIES = ("hi ! i am good .", "hey , i am fine .", "great , thanks .")
PLAIN_OPENERS = ("hello ! how are you today ?", "hi there , how are you doing ?")
SHARE_OPENERS = ("how are you ?", "how goes it ?")
WELL = ("good , thanks .", "fine , thank you .", "great , thanks .")
AFTER_ANSWER = ("", "", "nice .", "cool !", "oh , great .", "i see .")
AFTER_DENIAL = ("", "no problem .", "that is okay .", "i see .")
SHARE_REQUESTS = ("tell me about yourself .", "what else can you tell me ?", "tell me more about you .")
SHARE_LEADS = ("well , let me see .", "let me think .", "sure , of course .", "okay , here goes .")
TELL_REPLIES = ("oh , nice .", "that is cool .", "good for you !", "oh , great .")
ASK_BACK = ("what about you ?", "and you ?", "how about you ?")
DOUBTS = ("really ? are you sure ?", "oh , really ?", "are you sure ?")
FAREWELLS = ("i have to go now . bye !", "it was nice to talk . bye !", "well , i need to run . bye !")
FAREWELL_REPLIES = ("bye ! have a great day !", "it was nice to meet you . bye !")
FAREWELL_REPLIES += ("thanks for the talk , take care !", "bye ! i liked our talk .")


@dataclass(frozen=True)
class Value:
    """One thing a speaker may have or like, with the replies to the two follow-up questions."""

    text: str
    first: str
    second: str


@dataclass
class Topic:
    """A topic of small talk: its values and the wordings around them, by their one-letter key."""

    name: str
    values: list[Value] = field(default_factory=list)
    wordings: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Trait:
    """One persona line: a value of a topic (by position) in one of the topic's wordings."""

    topic: str
    value: int
    wording: int


@dataclass(frozen=True)
class Slot:
    """One turn of a skeleton: what happens, about which topic, and numbers that pick the wordings."""

    kind: str  # open, greet, ask, tell, share, first, second or bye
    topic: str = ""
    lead: int = 0
    partner: int = 0
    reply: int = 0
    told: int | None = None  # which other value the partner tells about himself or herself, if any
    ask_back: int | None = None


Persona = tuple[Trait, ...]
Skeleton = tuple[Slot, ...]
Pair = frozenset[tuple[str, int]]


@lru_cache(maxsize=1)
def load_topics() -> dict[str, Topic]:
    """Read the topics text into topics by name, in the order of the text."""
    topics: dict[str, Topic] = {}
    topic = Topic("")
    for line in TOPICS_TEXT.strip().splitlines():
        if line.startswith("# "):
            topic = Topic(line[2:])
            topics[topic.name] = topic
        elif line[1:3] == ": ":
            topic.wordings.setdefault(line[0], []).extend(part.strip() for part in line[3:].split("|"))
        else:
            topic.values.append(Value(*(part.strip() for part in line.split("|"))))
    return topics


def pick(options: Sequence[str], number: int) -> str:
    """Choose by a number of the skeleton; the remainder keeps every number valid for every list."""
    return options[number % len(options)]


def word(topic: str, key: str, number: int, value: int = 0) -> str:
    """Fill a wording of a topic with one of its values."""
    entry = load_topics()[topic]
    return pick(entry.wordings[key], number).replace("{v}", entry.values[value].text)


def persona_line(trait: Trait) -> str:
    """Write a trait as ConvAI2 does: with the full stop attached."""
    return word(trait.topic, "P", trait.wording, trait.value)


def as_sentence(trait: Trait) -> str:
    """Write a trait as a sentence of an utterance: with the full stop apart."""
    return persona_line(trait)[:-1] + " ."


def join(*parts: str) -> str:
    """Join the parts of an utterance that are not empty."""
    return " ".join(part for part in parts if part)


def count_words(text: str) -> int:
    """Count the words of a spaced utterance without its punctuation."""
    return sum(token[0].isalnum() for token in text.split())


def tell(topic: str, number: int, trait: Trait | None) -> str:
    """Let the partner tell a value of the topic that is never the persona's own, so copying it is wrong."""
    values = [at for at in range(len(load_topics()[topic].values)) if trait is None or at != trait.value]
    return word(topic, "T", number, values[number % len(values)])


def answer_slot(slot: Slot, trait: Trait | None) -> tuple[str, str]:
    """Give the partner's words and the response for a turn about a topic; without a trait it is denied."""
    denial = word(slot.topic, "N", slot.reply)
    told = "" if slot.told is None else tell(slot.topic, slot.told, trait)
    if slot.kind == "ask":
        question = word(slot.topic, "Q", slot.partner)
        response = denial if trait is None else word(slot.topic, "A", slot.reply, trait.value)
        return join(told, question), response
    if slot.kind == "tell":
        return told, denial if trait is None else join(pick(TELL_REPLIES, slot.reply), as_sentence(trait))
    if trait is None:
        return pick(DOUBTS, slot.partner), denial
    value = load_topics()[slot.topic].values[trait.value]
    if slot.kind == "first":
        return word(slot.topic, "F", slot.partner, trait.value), value.first
    return word(slot.topic, "S", slot.partner, trait.value), value.second


def frame_slot(slot: Slot, trait: Trait) -> tuple[str, str]:
    """Give the partner's words and the response for a turn that is not a question about a topic."""
    if slot.kind == "bye":
        return pick(FAREWELLS, slot.partner), pick(FAREWELL_REPLIES, slot.reply)
    if slot.kind == "share":
        return pick(SHARE_REQUESTS, slot.partner), join(pick(SHARE_LEADS, slot.reply), as_sentence(trait))
    personal = bool(slot.topic)
    if slot.kind == "open":
        shared = join("hello !", as_sentence(trait), pick(SHARE_OPENERS, slot.reply))
        return SILENCE, shared if personal else pick(PLAIN_OPENERS, slot.reply)
    shared = join(pick(SHARE_REPLIES, slot.reply), as_sentence(trait))
    return pick(GREETINGS, slot.partner), shared if personal else pick(PLAIN_REPLIES, slot.reply)


def render(skeleton: Skeleton, persona: Persona) -> list[tuple[str, str]]:
    """Turn a skeleton into (partner, response) turns as the speaker with this persona would talk."""
    traits = {trait.topic: trait for trait in persona}
    turns: list[tuple[str, str]] = []
    lead = ""
    for at, slot in enumerate(skeleton):
        held = traits.get(slot.topic)
        if slot.kind in ("open", "greet", "share", "bye"):
            partner, response = frame_slot(slot, held or persona[0])
        else:
            partner, response = answer_slot(slot, held)
        turns.append((join(lead, partner), response))
        # What the partner says first in the next turn depends on how this response ended.
        if response.endswith("?"):
            lead = pick(WELL, slot.lead)
        elif (
            slot.kind in ("open", "greet")
            or skeleton[at + 1 : at + 2]
            and skeleton[at + 1].kind in FOLLOW_UPS
        ):
            lead = ""  # a follow-up question often opens with its own reaction
        elif held is None and slot.kind != "share":
            lead = pick(AFTER_DENIAL, slot.lead)
        else:
            lead = pick(AFTER_ANSWER, slot.lead)
        if slot.ask_back is not None and held is not None:
            question = pick(ASK_BACK, slot.ask_back)
            if count_words(join(response, question)) <= MAX_RESPONSE_WORDS:
                turns[-1] = (turns[-1][0], join(response, question))
                lead = tell(slot.topic, slot.lead, held)
    return turns


def make_persona(rng: random.Random) -> Persona:
    """Draw four or five traits of different topics."""
    topics = load_topics()
    names = rng.sample(list(topics), rng.choice((4, 5)))
    return tuple(
        Trait(
            name,
            rng.choice(range(len(topics[name].values))),
            rng.choice(range(len(topics[name].wordings["P"]))),
        )
        for name in names
    )


def make_skeleton(rng: random.Random, persona: Persona) -> Skeleton:
    """Plan six to eight turns; the persona only says which topics are worth asking about."""

    def number() -> int:
        return rng.choice(range(1000))

    def slot(kind: str, topic: str = "", told: bool = False, ask_back: bool = False) -> Slot:
        numbers = (number(), number(), number())
        return Slot(kind, topic, *numbers, number() if told else None, number() if ask_back else None)

    own = [trait.topic for trait in persona]
    rng.shuffle(own)
    other = [name for name in load_topics() if name not in own]
    rng.shuffle(other)
    kept = len(other) - 2  # no more than two denials while the persona still has something to tell
    length = rng.choice((6, 7, 7, 8))
    personal = rng.random() < 0.35
    slots = [slot("open" if rng.random() < 0.05 else "greet", own.pop() if personal else "")]
    last = slots[0].topic
    follow_ups = list(FOLLOW_UPS)
    with_bye = rng.random() < 0.4
    while len(slots) < length - with_bye:
        if slots[-1].kind in ("ask", "tell", *FOLLOW_UPS) and last and follow_ups and rng.random() < 0.42:
            slots.append(slot(follow_ups.pop(rng.choice(range(len(follow_ups)))), last))
            continue
        if not own or (len(other) > kept and rng.random() < 0.25):
            slots.append(slot("ask", other.pop(), told=rng.random() < 0.2))
            last = ""  # a denied topic has no follow-up
            continue
        last, follow_ups = own.pop(), list(FOLLOW_UPS)
        kind = rng.choice(("ask", "ask", "ask", "ask", "ask", "ask", "tell", "share"))
        told = kind == "tell" or (kind == "ask" and rng.random() < 0.2)
        may_ask_back = kind == "ask" and not told and len(slots) < length - 1
        slots.append(slot(kind, last, told=told, ask_back=may_ask_back and rng.random() < 0.3))
    if with_bye:
        slots.append(slot("bye"))
    return tuple(slots)


def value_pairs(persona: Persona) -> set[Pair]:
    """List the pairs of values that stand together in a persona."""
    return {frozenset(pair) for pair in combinations(((trait.topic, trait.value) for trait in persona), 2)}


def held_out_pairs(rng: random.Random) -> set[Pair]:
    """Draw the pairs of values that only validation personas may hold."""
    values = [(topic.name, at) for topic in load_topics().values() for at in range(len(topic.values))]
    pairs = [pair for pair in combinations(values, 2) if pair[0][0] != pair[1][0]]
    return {frozenset(pair) for pair in rng.sample(pairs, HELD_OUT_PAIRS)}


def make_cases(seed: int = SEED) -> tuple[list[tuple[Persona, Skeleton]], list[tuple[Persona, Skeleton]]]:
    """Draw the training and the validation cases: a validation persona holds at least one held-out pair."""
    rng = random.Random(seed)
    held_out = held_out_pairs(rng)
    train: list[tuple[Persona, Skeleton]] = []
    valid: list[tuple[Persona, Skeleton]] = []
    seen: set[frozenset[tuple[str, int]]] = set()
    while len(train) < TRAIN_DIALOGUES or len(valid) < VALID_DIALOGUES:
        persona = make_persona(rng)
        cases, wanted = (
            (valid, VALID_DIALOGUES) if value_pairs(persona) & held_out else (train, TRAIN_DIALOGUES)
        )
        who = frozenset((trait.topic, trait.value) for trait in persona)
        if len(cases) < wanted and who not in seen:
            seen.add(who)
            cases.append((persona, make_skeleton(rng, persona)))
    return train, valid


def format_dialogue(persona: Persona, turns: Sequence[tuple[str, str]]) -> str:
    """Write one dialogue as numbered lines that start at 1."""
    lines = [PERSONA_PREFIX + persona_line(trait) for trait in persona]
    lines += [f"{partner}\t{response}" for partner, response in turns]
    return "".join(f"{at} {line}\n" for at, line in enumerate(lines, start=1))


def make_files(seed: int = SEED) -> dict[str, str]:
    """Make the text of both files, by file name."""
    names = (TRAIN_NAME, VALID_NAME)
    return {
        name: "".join(format_dialogue(persona, render(skeleton, persona)) for persona, skeleton in cases)
        for name, cases in zip(names, make_cases(seed), strict=True)
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files, or with --check compare them; the result is the exit status."""
    parser = argparse.ArgumentParser(description="Make the embedded sample dialogues.")
    parser.add_argument("--check", action="store_true", help="compare only; exit with 1 when a file differs")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).resolve().parent, help="folder of the files"
    )
    options = parser.parse_args(argv)
    status = 0
    for name, text in make_files().items():
        path: Path = options.out / name
        # Bytes, not text: line ends must be the same on every system.
        data = text.encode("utf-8")
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
