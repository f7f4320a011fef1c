"""The commands interact and learn: LM, facts, goals and files, from their flags to a conversation."""

import io
import shlex
import sys

import pytest

from companions.personagpt import conversations
from companions.personagpt.arguments import interact_parser, learn_parser, talk_flags
from companions.personagpt.chain import read_chain
from companions.personagpt.settings import PersonaChatSettings
from companions.personagpt.speaking import load_voice, read_speaker
from tests.companions.personagpt.golden import GOLDEN
from tests.helpers import json_rows
from utils.errors import UserError

LM = str(GOLDEN / "lm")
DIALOGUES = str(GOLDEN / "preprocess" / "dialogues.txt")
FACTS = ["--facts", "i ski.; i cook."]


@pytest.fixture
def command(distributed, capsys, monkeypatch):
    """command(parser, function, flags, lines): what is printed, with scripted lines on standard input."""

    def run(parser, function, flags, lines=(), ask=None):
        args = parser().parse_args(flags)
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        function(args, talk_flags(args), distributed, ask)
        return capsys.readouterr().out

    return run


@pytest.fixture
def interact(command):
    """interact(flags, lines): what it prints."""
    return lambda flags, lines=(): command(interact_parser, conversations.interact, flags, lines)


@pytest.fixture
def learn(command, tmp_path):
    """learn(flags, lines): what it prints; corrections go to c.jsonl."""
    given = [f"--model_path={LM}", f"--profiles={DIALOGUES}", f"--out={tmp_path / 'c.jsonl'}", "-turns", "1"]
    given += ["--set", f"dataset.valid={DIALOGUES}"]
    return lambda flags, lines=(), ask=None: command(
        learn_parser, conversations.learn, [*given, *flags], lines, ask
    )


def test_the_original_flags_and_defaults():
    """A command line of the original that is refused, or means something else, breaks its users' scripts."""
    args = interact_parser().parse_args(["-M", "0", "-turns", "3", "-maxlen", "200", "-k", "5", "-p", "0.8"])
    assert (args.mode, talk_flags(args)) == (
        0,
        {"chat": {"num_turns": 3, "max_length": 200, "top_k": 5, "top_p": 0.8}},
    )
    long = ["--mode=0", "--num_turns=3", "--max_length=200", "--top_k=5", "--top_p=0.8"]
    assert talk_flags(interact_parser().parse_args(long)) == talk_flags(args)
    assert interact_parser().parse_args([]).mode == 1
    chat = PersonaChatSettings()
    assert (chat.num_turns, chat.max_length, chat.top_k, chat.top_p) == (8, 1000, 10, 0.92)
    assert (chat.do_sample, chat.num_beams, chat.temperature, chat.repetition_penalty) == (True, 1, 1.0, 1.0)
    assert (chat.no_repeat_ngram_size, chat.num_facts) == (0, 5)


@pytest.mark.parametrize("weights", [["--model_path", LM], ["--set", f"model.model_name={LM}"]])
def test_published_weights_talk(interact, weights):
    """A folder in the Hugging Face form is no run; without it nobody could use the published LM."""
    output = interact([*weights, *FACTS, "-M", "0", "-turns", "1", "-k", "1"], ["hi there"])
    assert ">> User: hi there\nBot: " in output
    assert output.endswith("goodbye\n")
    assert "drawn at random" not in output


def test_piped_lines_are_shown_in_both_modes(interact):
    """A transcript without the questions' answers cannot be read."""
    steered = interact([f"--model_path={LM}", *FACTS, "-turns", "1", "-k", "1"], ["x", "3"])
    assert " input [0-10]: x\nerror: 'x': a number from 0 to 10 is needed\n input [0-10]: 3\n" in steered
    typed = interact([f"--model_path={LM}", "-M", "0"], ["i ski.", ""])
    assert ">> Fact 1: i ski.\n>> Fact 2: \nerror: a fact is empty" in typed


def test_goals_of_a_file(interact, tmp_path, monkeypatch):
    """Goals are phrases in a file; the numbers must be those of its lines."""
    monkeypatch.chdir(tmp_path)  # beside weights there is no run folder to save in
    goals = tmp_path / "goals.txt"
    goals.write_text("talk about tea.\nask about ships.\n", encoding="utf-8")
    output = interact(
        [f"--model_path={LM}", *FACTS, "--goals", str(goals), "-turns", "1"], ["2", "1", "save"]
    )
    assert " actions: \n0 talk about tea.\n1 ask about ships.\n input [0-1]: 2\nerror: '2'" in output
    saved = (tmp_path / "chat_1.txt").read_text(encoding="utf-8")
    assert saved.startswith("fact: i ski.\nfact: i cook.\naction: ask about ships.\n>> User: ")


def test_two_bots_talk_to_each_other(interact):
    """Each line must come from the other bot, and the partner opens as speaker 1."""
    output = interact(
        [f"--model_path={LM}", *FACTS, "--partner", "i read.; i run.", "-turns", "2", "-k", "1"]
    )
    assert [line.split(": ")[0] for line in output.splitlines()] == ["bot 1", "bot 2"] * 2
    with pytest.raises(UserError, match="--partner needs the facts of the first bot"):
        interact([f"--model_path={LM}", "--partner", "i read."])


def test_a_run_of_another_type_is_refused(tmp_path):
    """Its LM would be asked in sequences that it was never trained on, and answer something."""
    (tmp_path / "config.yml").write_text(
        "model: {model_type: selective_pt, model_name: x}\n", encoding="utf-8"
    )
    with pytest.raises(UserError, match="a run of model_type selective_pt, one of personagpt is needed"):
        read_speaker(str(tmp_path), [])


def test_a_run_is_not_taken_for_other_weights(tmp_path):
    """The user would talk to the run, and believe to talk to the weights that were named."""
    (tmp_path / "config.yml").write_text("model: {model_type: personagpt, model_name: x}\n", encoding="utf-8")
    assert read_speaker(str(tmp_path), ["chat.num_turns=2"]).chat.num_turns == 2
    with pytest.raises(UserError, match="is a run, with an LM of its own: leave out --set model.model_name"):
        read_speaker(str(tmp_path), [f"model.model_name={LM}"])


def test_without_weights_one_line_says_what_is_missing():
    """A traceback, or a download that nobody asked for, is no answer to a flag that was forgotten."""
    with pytest.raises(UserError, match="model.model_name is missing"):
        read_speaker(None, [])


def test_an_lm_without_the_special_tokens_is_told(lm_folder, distributed, capsys):
    """Its replies are noise, and the user would look for the reason in the facts."""
    source = str(lm_folder("gpt2"))
    voice = load_voice(source, read_speaker(source, []), distributed, seed=1)
    assert "automatic choice: 6 rows drawn at random" in capsys.readouterr().out
    assert voice.reply([voice.ids.p2, voice.ids.sep], []).ids


def test_learn_says_how_to_train(learn, tmp_path):
    """The command that is shown must train on this file, beside as many old answers."""
    output = learn(["--dialogues", "1"], ["1", "n", "do you have a dog ?"])
    lines = output.splitlines()
    assert lines[-2] == f"1 corrections added to {tmp_path / 'c.jsonl'}"
    shown = lines[-1].removeprefix("train on them: python -m companions.personagpt.train ")
    (link,) = read_chain(shlex.split(shown))
    assert link.config.dataset.actions == str(tmp_path / "c.jsonl")
    assert link.config.model.model_name == LM
    assert len(json_rows(tmp_path / "c.rehearsal.jsonl")) == 2  # header and one answer


@pytest.mark.parametrize(("end", "trained"), [(EOFError, 1), ("exit", 1), (KeyboardInterrupt, 0)])
def test_training_follows_unless_ctrl_c_ended_it(learn, monkeypatch, end, trained):
    """Who leaves in the middle did not ask for minutes of training; what was corrected stays."""
    chains = []
    monkeypatch.setattr(conversations, "train_chain", lambda links, distributed: chains.append(links))
    script = iter(["1", "n", "do you ?", end])

    def ask(prompt):
        line = next(script)
        if isinstance(line, str):
            return line
        raise line

    output = learn(["--train", "yes"], ask=ask)
    assert "1 corrections added" in output
    assert len(chains) == trained
    assert ("train on them: " in output) == (not trained)


def test_without_corrections_nothing_is_trained(learn, monkeypatch):
    """A sitting without a correction has nothing to learn from; an empty file would be an error."""
    monkeypatch.setattr(conversations, "train_chain", None)
    output = learn(["--train", "yes"], ["1", "y", "exit"])
    assert output.splitlines()[-1].startswith("0 corrections added to ")


def test_mistakes_of_learn_are_told_before_the_conversation(command, tmp_path, data):
    """What is found after an hour of judging costs the hour."""

    def told(*flags):
        with pytest.raises(UserError) as caught:
            command(learn_parser, conversations.learn, [f"--model_path={LM}", *flags])
        return str(caught.value)

    good = f"--profiles={DIALOGUES}"
    assert "a name that ends with .jsonl" in told(good, f"--out={tmp_path / 'c.csv'}")
    assert "a name that ends with .jsonl" in told(good, f"--out={tmp_path / 'none' / 'c.jsonl'}")
    out = f"--out={tmp_path / 'c.jsonl'}"
    assert "not found" in told(f"--profiles={tmp_path / 'none.txt'}", out)
    assert str(data["train"]) in told(f"--profiles={data['train']}", out)  # personas of one side only
    assert "none.yml" in told(good, out, f"--config={tmp_path / 'none.yml'}")
    missing = tmp_path / "valid.txt"
    assert f"{missing}" in told(good, out, "--train=yes", f"--set=dataset.valid={missing}")
    assert not (tmp_path / "c.jsonl").exists()


@pytest.mark.slow
def test_the_whole_loop(command, tmp_path):
    """Judge, correct, train, and talk to the run: each command reads what the one before it wrote."""
    lines = ["1", "n", "do you have a dog ?", "2", "y", "n", "i am a nurse .", "0", "y", "y", "exit"]
    flags = [f"--model_path={LM}", f"--profiles={DIALOGUES}", f"--out={tmp_path / 'c.jsonl'}", "--train=yes"]
    flags += ["--seed=1", "-k", "1", "-turns", "1"]
    flags += ["--set", f"dataset.valid={DIALOGUES}", "--log_dir", str(tmp_path / "runs")]
    printed = command(learn_parser, conversations.learn, flags, lines)
    assert len(json_rows(tmp_path / "c.jsonl")) == 2
    assert len(json_rows(tmp_path / "c.accepted.jsonl")) == 1
    assert "ctrl_loss" in printed
    (run,) = (tmp_path / "runs").iterdir()
    flags = [f"--model_path={run}", "-M", "0", "-turns", "1", "-k", "1", *FACTS]
    printed = command(interact_parser, conversations.interact, flags, ["hi there", "save"])
    assert ">> User: hi there\nBot: " in printed
    assert (run / "chat_1.txt").is_file()
