"""Scripted conversations: commands, persona, history, and the ways to leave."""

import io
import shutil
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from models.decoding import chat as chat_module
from models.decoding import shell
from models.decoding.chat import HELP, Conversation, chat_with_run, given_lines, persona_source
from models.decoding.runs import load_run, read_run_config
from models.decoding.settings import ChatSettings
from models.decoding.shell import converse
from utils.errors import UserError

SKI = "i like to ski.; i have two cats."
PERSONA_BLOCK = "persona:\n  i like to ski.\n  i have two cats."
HINT = "type help for the commands"


@pytest.fixture(scope="module")
def model(trained_run):
    """The trained run, loaded once."""
    return load_run(trained_run, read_run_config(trained_run, []))


@pytest.fixture
def talk(model, tmp_path):
    """talk(lines, persona): what a conversation shows, and the conversation."""

    def run(lines, persona=SKI):
        chat = Conversation(
            model, model.config, persona_source(persona, model.config, None, 1), torch.device("cpu")
        )
        shown, script = [], iter(lines)

        def ask(prompt):
            assert prompt == "you> "
            line = next(script, EOFError)
            if isinstance(line, str):
                return line
            raise line

        converse(chat, ask, shown.append, tmp_path)
        return SimpleNamespace(shown=shown, chat=chat, rest=list(script))

    return run


def test_a_conversation(talk):
    """A reply that is left out of the history, or an empty line that gets one, leads the next reply astray."""
    said = talk(["hello there", "  do you ski ?  ", "", "exit", "never read"])
    assert said.shown[:2] == [PERSONA_BLOCK, HINT]
    assert said.shown[-1] == "goodbye"
    assert said.rest == ["never read"]
    replies = said.shown[2:-1]
    assert len(replies) == 2
    prompts = [line.partition("> ")[0] for line in replies]
    assert all(prompt in {f"bot [prompt {index}]" for index in range(3)} for prompt in prompts)
    texts = [line.partition("> ")[2] for line in replies]
    assert said.chat.history == ["hello there", texts[0], "do you ski ?", texts[1]]
    assert all(":" not in text and "\n" not in text for text in texts)


def test_the_whole_history_reaches_the_model(talk, model, monkeypatch):
    """A chat that sends the last utterance only answers as if nothing had been said."""
    texts = []
    choose = model.score_prompts

    def record(query):
        texts.append(model.tokenizer.decode(query.ids[0][query.mask[0]]))
        return choose(query)

    monkeypatch.setattr(model, "score_prompts", record)
    said = talk(["hello there", "and then ?"])
    first = said.chat.history[1]
    start = "<s>given persona: i like to ski. i have two cats.; context: Q: hello there"
    assert texts == [start, f"{start} R: {first} Q: and then ?"]


def test_decoding_settings_are_the_papers(talk, monkeypatch):
    """Other defaults than the release's (10 beams, 32 tokens) let a run reply unlike the authors' chat."""
    calls = []

    def generate(model, batch, scores, choice, settings, seed):
        calls.append(settings)
        return [chat_module.Reply("fine . Q: and you ?", 1, [0.1, 0.2, 0.3])]

    monkeypatch.setattr(chat_module, "generate_replies", generate)
    said = talk(["hello"])
    assert calls == [ChatSettings(max_new_tokens=32, num_beams=10, no_repeat_ngram_size=4)]
    assert said.shown[2] == "bot [prompt 1]> fine ."


def test_clear_forgets_the_history_and_keeps_the_persona(talk):
    """A cleared chat that still knows what was said cannot be used to compare replies."""
    said = talk(["hello", "clear", "hello", "clear"])
    assert said.shown[3] == said.shown[5] == "history cleared"
    assert said.shown[2] == said.shown[4]  # the same reply to the same words
    assert said.chat.history == said.chat.transcript == []
    assert said.chat.persona == ("i like to ski.", "i have two cats.")


def test_r_reads_the_persona_file_again(talk, tmp_path):
    """The release only generated again; here a persona is edited beside the chat and taken over."""
    path = tmp_path / "persona.txt"
    path.write_text("\ufeffi like to ski.\n\n  i have two cats.  \n", encoding="utf-8")

    def lines():
        yield "hello"
        path.write_text("i hate snow.\n", encoding="utf-8")
        yield "R"

    said = talk(lines(), persona=str(path))
    assert said.shown[0] == PERSONA_BLOCK
    assert said.shown[3] == "persona:\n  i hate snow."
    assert said.chat.history == []


def test_a_persona_file_that_went_away_does_not_end_the_chat(talk, tmp_path):
    """`r` after a slip in an editor must not cost the conversation."""
    path = tmp_path / "persona.txt"
    path.write_text("i like to ski.\n", encoding="utf-8")

    def lines():
        yield "hello"
        path.unlink()
        yield "r"
        yield "still there ?"

    said = talk(lines(), persona=str(path))
    assert said.shown[3] == f"error: --persona {path}: no such file"
    assert said.chat.persona == ("i like to ski.",)
    assert len(said.chat.history) == 4


def test_save_writes_the_conversation_and_never_over_another(talk, tmp_path):
    """A second save that overwrites the first loses a conversation."""
    said = talk(["hello there", "save", "bye", "SAVE"])
    first, second = tmp_path / "chat_1.txt", tmp_path / "chat_2.txt"
    assert [line for line in said.shown if line.startswith("saved")] == [
        f"saved to {first}",
        f"saved to {second}",
    ]
    prompt, _, reply = said.shown[2].removeprefix("bot ").partition("> ")
    text = "persona: i like to ski.\npersona: i have two cats.\nQ: hello there\n"
    text += f"R: {reply} {prompt}\n"
    assert first.read_text(encoding="utf-8") == text
    assert second.read_text(encoding="utf-8").startswith(text + "Q: bye\nR: ")


def test_a_folder_that_cannot_be_written_does_not_end_the_chat(talk, monkeypatch):
    """A full disk is told, and one may go on talking."""

    def refuse(path, text):
        raise UserError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(shell, "write_new", refuse)
    said = talk(["hello", "save", "hello"])
    assert said.shown[3].startswith("error: cannot write ")
    assert len(said.chat.history) == 4


def test_help_names_every_command(talk):
    """A command that help leaves out does not exist for the user."""
    assert talk(["help"]).shown[2] == HELP
    assert [line.split()[0] for line in HELP.splitlines()[:-1]] == ["exit", "clear", "r", "save", "help"]


@pytest.mark.parametrize("end", [EOFError, KeyboardInterrupt])
def test_the_end_of_input_and_ctrl_c_leave_politely(talk, end):
    """A traceback at the end of a piped conversation, or at Ctrl-C."""
    assert talk(["clear", end()]).shown[-2:] == ["", "goodbye"]


def test_ctrl_c_during_a_reply_leaves_politely(talk, model, monkeypatch):
    """Generating is when people press it."""

    def interrupt(query):
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "score_prompts", interrupt)
    said = talk(["hello", "never read"])
    assert said.shown == [PERSONA_BLOCK, HINT, "", "goodbye"]
    assert said.rest == ["never read"]


def test_a_message_that_does_not_fit_is_told_and_forgotten(talk):
    """A pasted page used to end the chat; a history with it inside would fail for ever after."""
    said = talk(["word " * 2000, "hello"])
    assert said.shown[2].startswith("error: this message: persona and last turn alone are ")
    assert said.shown[3].startswith("bot [prompt ")
    assert said.chat.history[0] == "hello"


def test_a_long_history_drops_its_oldest_turns(talk):
    """Turn by turn the text grows past the LM's positions; the chat must go on."""
    said = talk(["tell me more about all of that please " * 3] * 8)
    assert len(said.chat.history) == 16
    assert not any(line.startswith("error") for line in said.shown)


@pytest.mark.parametrize("fidelity", ["paper", "released_code"])
def test_the_newest_message_always_reaches_the_model(trained_run, tmp_path, monkeypatch, fidelity):
    """A text of the authors' is cut at its end: after a dozen exchanges the model heard nothing new any more."""
    config = read_run_config(trained_run, [f"model.fidelity={fidelity}"])
    model = load_run(trained_run, config)
    texts = []

    def generate(model, batch, scores, choice, _settings, seed):
        texts.append(model.tokenizer.decode(batch.input_ids[0]))
        return [chat_module.Reply("that is something which i have never heard before", 1, [0.1, 0.2, 0.3])]

    monkeypatch.setattr(chat_module, "generate_replies", generate)
    draw = persona_source(SKI, config, None, 1)
    chat = Conversation(model, config, draw, torch.device("cpu"))
    said = [f"tell me a very long story about the number {number} please" for number in range(20)]
    for message in said:
        chat.say(message)
    assert all(text.rstrip().endswith(f"Q: {message} R:") for text, message in zip(texts, said, strict=True))
    assert all("i like to ski. i have two cats." in text for text in texts)
    assert said[0] in texts[1]  # what fits is still told
    assert said[0] not in texts[-1]
    assert len(chat.history) == 40
    with pytest.raises(UserError, match="this message: "):
        chat.say("word " * 2000)
    assert len(chat.history) == 40


def test_a_line_that_is_no_text_is_told_and_the_chat_goes_on(talk):
    """Whatever puts a stray byte on the input: it must not reach the tokenizer, nor end the conversation."""
    said = talk(["caf\ufffd", "caf\udce9", "save\udcff", "hello"])
    told = "error: this line holds bytes that are not UTF-8 text; nothing was said to the model"
    assert said.shown[2:5] == [told] * 3
    assert said.shown[5].startswith("bot [prompt ")
    assert said.chat.history[0] == "hello"
    assert len(said.chat.history) == 2


def test_a_stray_byte_on_standard_input(trained_run, distributed, monkeypatch, capsys):
    """Reading such a line raised an error, and took the rest of a piped conversation with it."""
    raw = io.BytesIO("hé\n".encode() + b"caf\xe9 \xff\nhello\nexit\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(raw, encoding="utf-8"))
    chat_with_run(str(trained_run), distributed, SKI, None, None, [])
    lines = capsys.readouterr().out.splitlines()
    assert sum("bot [prompt " in line for line in lines) == 2
    assert "error: this line holds bytes that are not UTF-8 text; nothing was said to the model" in lines
    assert lines[-1] == "goodbye"


def test_two_chats_save_into_files_of_their_own(talk, tmp_path):
    """Both looked for a free number, found the same one, and the second to write won."""
    first, second = talk(["hello"]).chat, talk(["bye"]).chat
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda chat: chat.save(tmp_path), [first, second] * 20))
    assert len(set(paths)) == 40
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"chat_{n}.txt" for n in range(1, 41))
    texts = [path.read_text("utf-8") for path in paths]
    assert all("Q: hello" in text for text in texts[::2])
    assert all("Q: bye" in text for text in texts[1::2])


def test_a_drawn_persona_comes_from_its_seed(model, data):
    """A conversation that is to be repeated needs the same persona."""
    draws = {}
    for seed in (1, 1, 2, 3, 4):
        draw = persona_source(None, model.config, None, seed)
        draws.setdefault(seed, []).append([tuple(draw()) for _ in range(3)])
    assert draws[1][0] == draws[1][1]
    assert len({tuple(found[0]) for found in draws.values()}) > 1
    lines = {line for persona in draws[1][0] for line in persona}
    text = data["valid"].read_text(encoding="utf-8")
    assert all(f"your persona: {line}" in text for line in lines)


def test_a_persona_is_drawn_from_another_file(model, data):
    """--valid_path: the run's own validation file may be on another machine."""
    draw = persona_source(None, model.config, str(data["train"]), 1)
    text = data["train"].read_text(encoding="utf-8")
    assert all(f"your persona: {line}" in text for line in draw())
    with pytest.raises(UserError, match="none.txt"):
        persona_source(None, model.config, "none.txt", 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [("", "no persona line; write"), (" ; ;", "no persona line; write"), ("none.txt", "no such file")],
)
def test_an_empty_or_missing_persona_is_an_error(model, given, message):
    """An empty persona would chat as if the flag had not been given."""
    with pytest.raises(UserError, match=message):
        persona_source(given, model.config, None, None)


def test_an_empty_or_binary_persona_file_is_an_error(model, tmp_path):
    """Bytes that are no text used to end in a traceback."""
    empty, binary = tmp_path / "empty.txt", tmp_path / "binary.txt"
    empty.write_text("\n \n", encoding="utf-8")
    binary.write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(UserError, match="blank lines only"):
        persona_source(str(empty), model.config, None, None)
    with pytest.raises(UserError, match=r"binary\.txt:1: not UTF-8 text"):
        persona_source(str(binary), model.config, None, None)


def test_a_line_of_a_persona_file_is_one_line(model, tmp_path):
    """U+2028 and the like stand inside what people write: cut there, one fact became two."""
    path = tmp_path / "persona.txt"
    path.write_text("i ski\u2028 and\x85 swim.\r\n\ufeffi cook.", encoding="utf-8-sig")
    assert given_lines("--persona", str(path)) == ["i ski\u2028 and\x85 swim.", "\ufeffi cook."]


def test_a_long_persona_text_is_no_file_name(model):
    """Five lines are longer than a file's name may be, which the system answers with an error."""
    lines = [f"i have {number} cats and they all like to sleep on my bed." for number in range(8)]
    assert list(persona_source("; ".join(lines), model.config, None, None)()) == lines


def test_a_parent_of_several_runs_says_which_one_talks(trained_run, tmp_path, distributed, capsys):
    """A conversation with another run than the one that was meant."""
    for name in ("b", "a"):
        shutil.copytree(trained_run, tmp_path / name)
    chat_with_run(str(tmp_path), distributed, SKI, None, None, [], ask=lambda prompt: "exit")
    line = f"automatic choice: {tmp_path / 'a'}, the first of 2 runs in {tmp_path}"
    assert capsys.readouterr().out.splitlines()[0] == line


def test_chat_with_run_from_the_folder(trained_run, distributed, capsys):
    """Parts that work alone and do not fit together would fail only when somebody starts the chat."""
    script = iter(["hello", "exit"])
    chat_with_run(str(trained_run), distributed, SKI, None, None, [], ask=lambda prompt: next(script))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [*PERSONA_BLOCK.splitlines(), HINT]
    assert lines[4].startswith("bot [prompt ")
    assert lines[-1] == "goodbye"


def test_a_persona_that_is_no_text_is_told_before_the_model_is_loaded(trained_run):
    """A shell passes a byte that is not UTF-8 as a lone surrogate, which ended in the tokenizer's traceback."""
    with pytest.raises(UserError, match="not UTF-8"):
        persona_source("caf\udce9", read_run_config(trained_run, []), None, 1)
