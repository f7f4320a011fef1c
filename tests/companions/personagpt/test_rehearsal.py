"""Old answers beside corrections, and the command that trains on both."""

import random

from companions.personagpt.chain import read_chain
from companions.personagpt.prepared import read_persona_dialogues, read_persona_examples
from companions.personagpt.rehearsal import draw_answers, training_arguments, write_rehearsal
from tests.companions.personagpt.golden import GOLDEN
from tests.companions.personagpt.talking import config_with

DIALOGUES = str(GOLDEN / "preprocess" / "dialogues.txt")


def test_as_many_old_answers_as_corrections(tmp_path):
    """With the whole training file beside ten corrections, each of them would be learnt thousands of times."""
    config = config_with()
    old = read_persona_dialogues(DIALOGUES, config)
    path = tmp_path / "old.jsonl"
    write_rehearsal(path, old, 7, config, seed=1)
    drawn = read_persona_examples(str(path), config)
    assert len(drawn) == 7
    known = {
        (example.persona, example.context, example.response)
        for example in read_persona_examples(DIALOGUES, config)
    }
    assert all((example.persona, example.context, example.response) in known for example in drawn)
    write_rehearsal(tmp_path / "again.jsonl", old, 7, config, seed=1)
    assert path.read_bytes() == (tmp_path / "again.jsonl").read_bytes()


def test_no_answer_is_drawn_twice_and_few_are_all_taken():
    """A short file must not stop the training, and a repeated answer rehearses less than it seems."""
    old = read_persona_dialogues(DIALOGUES, config_with())
    total = sum(len(dialogue.answers) for dialogue in old)
    drawn = draw_answers(old, 10 * total, random.Random(1))
    assert len(drawn) == total
    assert len({(dialogue.facts, dialogue.turns) for dialogue in drawn}) == total


def test_the_arguments_are_what_the_trainer_reads(tmp_path):
    """A key that the trainer refuses, or reads otherwise, is found after the human's work."""
    goals = tmp_path / "goals.txt"
    goals.write_text("talk about tea.\n", encoding="utf-8")
    config = config_with(action_prompt="A").replaced(
        {"dataset": {"goals": str(goals), "max_utterances": 12, "drop_duplicates": False, "valid": DIALOGUES}}
    )
    arguments = training_arguments(
        ["--config=config/personagpt/learn.yml", "--log_dir=a folder"],
        "an lm",
        tmp_path / "c.jsonl",
        tmp_path / "old.jsonl",
        config,
    )
    (link,) = read_chain(arguments)
    assert (link.config.training.stage, link.config.training.log_dir) == ("control", "a folder")
    assert (link.config.model.model_name, link.config.model.action_prompt) == ("an lm", "A")
    wanted = {"train": str(tmp_path / "old.jsonl"), "actions": str(tmp_path / "c.jsonl")}
    wanted |= {"goals": str(goals), "max_utterances": 12, "drop_duplicates": False, "valid": DIALOGUES}
    assert link.config.dataset.model_dump(include=set(wanted)) == wanted
