"""Active learning with a scripted human: judgements, corrections, and what is on the disk when."""

from dataclasses import replace

import pytest

from companions.personagpt.action_data import encode_actions, read_action_examples
from companions.personagpt.actions import GOALS
from companions.personagpt.gym import CORRECT, JUDGE, Gym
from companions.personagpt.prompts import PersonaEncoder
from companions.personagpt.records import Records
from tests.companions.personagpt.talking import RecordingVoice, config_with, golden_model, hold, voice_with
from tests.helpers import json_rows

PERSONAS = [["i like tea.", "i have a dog.", "i ski."], ["i cook.", "i read.", "i run."], ["i swim."] * 3]
GOAL = " input [0-10]: "


@pytest.fixture
def sitting(tmp_path):
    """sitting(lines): questions, what is shown, the gym, and the pairs and conversations that were stored."""

    def run(lines, dialogues=None, **settings):
        personas = iter(PERSONAS)
        records = Records(tmp_path / "c.jsonl", tmp_path / "c.accepted.jsonl")
        voice = voice_with(**{"num_turns": 2, **settings})
        gym = Gym(voice, GOALS, lambda: next(personas), records, dialogues)
        asked, shown = hold(gym, lines, tmp_path)
        stored = [
            json_rows(path) if path.exists() else [] for path in (records.corrections, records.dialogues)
        ]
        return asked, shown, gym, *stored

    return run


def pieces(gym, path):
    """The stored corrections as prompt and answer ids, as training encodes them."""
    config = config_with()
    encoder = PersonaEncoder(golden_model().tokenizer, config)
    encoded = encode_actions(read_action_examples(path, config), encoder)
    return [
        (example.ids[: example.query_end].tolist(), example.ids[example.query_end :].tolist())
        for example in encoded
    ]


def test_a_correction_before_turn_0_has_the_start_token_in_its_answer(sitting):
    """In training the LM opens a dialogue with <|start|>; a pair that has it in the prompt is no such example."""
    asked, shown, gym, corrections, accepted = sitting(["1", "n", "do you have a dog ?"])
    assert asked == [GOAL, JUDGE, CORRECT, GOAL]
    assert corrections == [
        {
            "context": "<|act|>ask about pets.<|sep|><|p1|><|sep|>",
            "response": "<|start|>do you have a dog ?<|endoftext|>",
            "goal": "ask about pets.",
        }
    ]
    assert accepted == []
    voice = gym.voice
    prompt, answer = pieces(gym, gym.records.corrections)[0]
    assert [*prompt, voice.ids.start] == list(voice.lines[0].prompt)
    assert answer == [voice.ids.start, *voice.turn("do you have a dog ?")]
    assert "another persona comes" in shown[3]
    assert gym.agent.facts == PERSONAS[1]


def test_a_correction_has_the_layout_that_the_lm_was_asked_in(sitting):
    """Corrections of published weights would be stored, and passed on, as prompts that these weights never saw."""
    *_, corrections, _ = sitting(["1", "n", "do you have a dog ?"], action_prompt="A")
    assert corrections[0]["context"] == "<|act|>ask about pets.<|p1|><|sep|>"


def test_a_correction_of_the_persona_agent_has_its_prompt(sitting):
    """With the interviewer's prompt the LM would learn to answer action codes with facts."""
    _, _, gym, corrections, _ = sitting(["0", "y", "n", "i have two kids ."])
    voice = gym.voice
    said = voice.lines[0].text
    facts = "".join(f"{fact}<|endoftext|>" for fact in PERSONAS[0])
    assert corrections == [
        {
            "context": f"<|p2|>{facts}<|sep|><|start|>{said}<|endoftext|>",
            "response": "i have two kids .<|endoftext|>",
        }
    ]
    prompt, answer = pieces(gym, gym.records.corrections)[0]
    assert prompt == list(voice.lines[1].prompt)
    assert answer == voice.turn("i have two kids .")


def test_a_later_correction_of_the_interviewer_has_the_history(sitting):
    """Without the history, or with the goal of an earlier turn, the pair teaches another answer."""
    _, _, gym, corrections, _ = sitting(["0", "y", "y", "2", "n", "what do you do ?"])
    voice = gym.voice
    assert corrections[0]["goal"] == GOALS[2]
    prompt, answer = pieces(gym, gym.records.corrections)[0]
    assert prompt == list(voice.lines[2].prompt)
    assert answer == voice.turn("what do you do ?")


def test_a_complete_conversation_is_stored_with_its_goals(sitting):
    """Accepted lines are imitation data and no corrections; without the goals nobody knows what led them."""
    asked, shown, gym, corrections, accepted = sitting(["0", "y", "y", "10", "y", "y"], dialogues=1)
    assert corrections == []
    texts = [line.text.strip() for line in gym.voice.lines]
    assert accepted == [
        {"facts": PERSONAS[0], "goals": [GOALS[0], GOALS[10]], "indices": [0, 10], "turns": texts}
    ]
    assert asked == [GOAL, JUDGE, JUDGE, GOAL, JUDGE, JUDGE]
    assert shown[-2:] == ["the conversation is complete and stored", "goodbye"]


@pytest.mark.parametrize("end", [KeyboardInterrupt, EOFError, "exit"])
def test_what_was_stored_outlives_any_end(sitting, end):
    """A correction that waits in memory for the end of the sitting is lost with it."""
    _, shown, _, corrections, accepted = sitting(["1", "n", "do you have a dog ?", "3", "y", "n", end])
    assert len(corrections) == 1
    assert accepted == []
    assert shown[-1] == "goodbye"


def test_a_second_sitting_adds_to_the_files(sitting):
    """A sitting that begins with an empty file would cost the corrections of all earlier ones."""
    sitting(["1", "n", "do you have a dog ?"])
    *_, corrections, _ = sitting(["2", "n", "what do you do ?"])
    assert [row["goal"] for row in corrections] == [GOALS[1], GOALS[2]]


def test_mistakes_are_asked_again(sitting):
    """A slip of the finger that counts as a judgement stores a wrong example for good."""
    asked, shown, _, corrections, _ = sitting(["-1", "x", "1", "maybe", "", "n", "  ", "<|sep|>", "do you ?"])
    assert asked == [GOAL] * 3 + [JUDGE] * 3 + [CORRECT] * 3 + [GOAL]
    errors = [line for line in shown if line.startswith("error: ")]
    assert len(errors) == 6
    assert "y or n is needed" in errors[2]
    assert errors[4] == "error: a correction needs words"
    assert len(corrections) == 1


def test_an_empty_line_cannot_be_accepted(sitting, monkeypatch):
    """A stored history with a turn without words is refused by whoever reads the file."""
    reply = RecordingVoice.reply
    monkeypatch.setattr(
        RecordingVoice, "reply", lambda *args, **named: replace(reply(*args, **named), text=" ")
    )
    _, shown, gym, _, _ = sitting(["1", "y"])
    assert shown[3] == "error: the line is empty, which is no turn; answer n and correct it"
    assert gym.texts == []


def test_each_conversation_has_a_new_persona_and_the_next_prompt(sitting):
    """The facts that are shown must be those that the agent speaks for."""
    _, shown, gym, _, _ = sitting(["1", "n", "hi ?", "1", "y"])
    assert "persona agent:\n  i cook.\n  i read.\n  i run." in shown[4]
    decoded = gym.voice.model.tokenizer.decode(gym.voice.lines[-1].prompt)
    assert decoded.startswith(
        "<|p2|>i cook.<|endoftext|>i read.<|endoftext|>i run.<|endoftext|><|sep|><|start|>"
    )
