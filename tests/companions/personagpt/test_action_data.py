"""Examples of action codes: CSV and JSON lines to prompts and replies, and back; bad input in one line."""

import json

import pytest
from transformers import AutoTokenizer

from companions.personagpt.action_data import ActionExample, encode_actions, read_action_examples
from companions.personagpt.action_files import append_pair, pairs_text
from companions.personagpt.prompts import PersonaEncoder
from companions.personagpt.settings import PersonaConfig
from tests.companions.personagpt.golden import GOLDEN
from utils.errors import UserError

EOS = "<|endoftext|>"
PETS = "<|act|>ask about pets.<|sep|><|p1|><|sep|>"
REPLY = f"any dogs ?{EOS}"
BOT = f"<|p2|>i ski.{EOS}i cook.{EOS}<|sep|><|start|>hi{EOS}"


@pytest.fixture(scope="module")
def tokenizer():
    """That of the golden cases."""
    return AutoTokenizer.from_pretrained(GOLDEN / "lm")


def config_of(fidelity="paper", action_prompt="B", **dataset):
    """A configuration of PersonaGPT."""
    model = {"model_type": "personagpt", "model_name": "none", "fidelity": fidelity}
    return PersonaConfig(model={**model, "action_prompt": action_prompt}, dataset=dataset)


@pytest.fixture
def examples_of(tmp_path):
    """The examples of a JSON-lines file with one pair."""

    def examples_of(context, response, config=None, **more):
        path = tmp_path / "actions.jsonl"
        path.write_text(
            json.dumps({"context": context, "response": response, **more}) + "\n", encoding="utf-8"
        )
        return read_action_examples(path, config or config_of())

    return examples_of


@pytest.fixture
def csv_examples(tmp_path):
    """The examples of a CSV file's text."""

    def csv_examples(text, **options):
        path = tmp_path / "actions.csv"
        path.write_bytes(text.encode())
        return read_action_examples(path, config_of(**options))

    return csv_examples


def decoded(example, tokenizer, config=None):
    """Prompt and answer of an example as text, and the text of its targets."""
    (encoded,) = encode_actions([example], PersonaEncoder(tokenizer, config or config_of()))
    ((start, end),) = encoded.targets
    assert end == len(encoded.ids)
    prompt, answer = encoded.ids[: encoded.query_end], encoded.ids[encoded.query_end :]
    return tokenizer.decode(prompt), tokenizer.decode(answer), tokenizer.decode(encoded.ids[start:])


@pytest.mark.parametrize(
    ("context", "response"),
    [
        (PETS, f"<|start|>{REPLY}"),
        (f"{PETS}<|start|>hi{EOS}  hello {EOS}", REPLY),
        (BOT, REPLY),
        (f"<|p1|>i ski.{EOS}<|sep|>", f"<|start|>{REPLY}"),
    ],
    ids=["opening", "later", "correction of the bot", "persona's opening"],
)
def test_prompts_and_replies_are_read_as_they_are_written(
    examples_of, tokenizer, tmp_path, context, response
):
    """A correction that changes on its way through the file would teach something else."""
    (example,) = examples_of(context, response)
    assert decoded(example, tokenizer) == (context, response, response)
    released = config_of("released_code")
    first = "<|start|>" if response.startswith("<|start|>") else "any"
    assert decoded(example, tokenizer, released) == (context, response, response.removeprefix(first))
    again = tmp_path / "again.jsonl"
    again.write_text(pairs_text([example.texts]), encoding="utf-8")
    (read,) = read_action_examples(again, config_of())
    assert read.texts[:3] == example.texts[:3] == (context, response, example.goal)


def test_the_layout_is_that_of_the_configuration(examples_of, tokenizer):
    """A code would be trained in one layout and asked for in the other, where it is another text."""
    written = "<|act|> ask about pets. <|p1|> <|sep|> <|start|> hi<|endoftext|>"
    prompts = [
        decoded(*examples_of(written, REPLY, config), tokenizer, config)[0]
        for config in (config_of(), config_of(action_prompt="A"), config_of("released_code"))
    ]
    plain = written.replace("> ", ">").replace(" <", "<")
    assert prompts == [plain.replace("<|p1|>", "<|sep|><|p1|>"), plain, plain]


def test_other_words_for_a_goal_become_its_own(examples_of):
    """What is trained under "ask about family." would never be asked for."""
    context = PETS.replace("ask about pets.", "ask about family.")
    assert examples_of(context, f"<|start|>{REPLY}")[0].goal == "ask about kids."
    released = config_of("released_code")
    assert examples_of(context, f"<|start|>{REPLY}", released)[0].goal == "ask about family."


def test_a_goal_that_is_not_in_the_list_is_told(examples_of, tmp_path):
    """A misspelt goal would be a code of its own that nobody asks for."""
    context = PETS.replace("pets", "pest")
    with pytest.raises(
        UserError, match=r"actions\.jsonl:1: context: the goal 'ask about pest\.' .*'ask about pets\.'"
    ):
        examples_of(context, f"<|start|>{REPLY}")
    goals = tmp_path / "goals.txt"
    goals.write_text("ask about pest.\n", encoding="utf-8")
    assert examples_of(context, f"<|start|>{REPLY}", config_of(goals=str(goals)))[0].goal == "ask about pest."


def test_old_turns_are_left_out_where_a_text_is_too_long(examples_of, tokenizer):
    """Half a turn, or a goal cut off, would be no sequence that inference ever has."""
    turns = "".join(f"turn {number}{EOS}" for number in range(9))
    (example,) = examples_of(f"{PETS}<|start|>{turns}", REPLY)
    config = config_of(max_token_length=21)
    prompt, answer, _ = decoded(example, tokenizer, config)
    assert (prompt, answer) == (f"{PETS}<|start|>turn 7{EOS}turn 8{EOS}", REPLY)
    with pytest.raises(
        UserError, match=r"actions\.jsonl:1: facts or action code, newest turn and answer do not"
    ):
        encode_actions([example], PersonaEncoder(tokenizer, config_of(max_token_length=12)))


@pytest.mark.parametrize(
    ("context", "response", "fault"),
    [
        (
            PETS.replace("p1", "p3"),
            REPLY,
            r"context: unknown special token '<\|p3\|>'; known: <\|endoftext\|>, <\|sep\|>, .*<\|act\|>$",
        ),
        (PETS, f"<|start|>hi<|eot|>{EOS}", r"response: unknown special token '<\|eot\|>'"),
        (PETS, f"<|start>{REPLY}", r"response: unknown special token '<\|start>any dogs \?'"),
        (f"{PETS}<|start|>hi{EOS}", "any dogs ?", "response: it does not end with"),
        (f"{PETS}<|start|>hi{EOS}", REPLY + EOS, "response: one turn is needed"),
        (f"{PETS}<|start|>hi{EOS}", f"any ?{EOS}dogs ?{EOS}", "response: one turn is needed"),
        (f"{PETS}<|start|>hi{EOS}", EOS, "response: a turn is empty"),
        (f"{PETS}<|start|>hi{EOS}{EOS}", REPLY, "context: a turn is empty"),
        (PETS, REPLY, r"response: <\|start\|> opens the first turn"),
        (f"{PETS}<|start|>hi{EOS}", f"<|start|>{REPLY}", r"response: <\|start\|> opens the first turn"),
        (f"{PETS}<|start|>", REPLY, "context: no prompt, which is"),
        (f"{PETS}hi{EOS}", REPLY, "context: no prompt, which is"),
        (f"{PETS}<|start|>hi", REPLY, "context: no prompt, which is"),
        ("<|act|><|sep|><|p1|><|sep|>", REPLY, "context: no prompt, which is"),
        (PETS.replace("p1", "p2"), REPLY, "context: no prompt, which is"),
        ("hi there", REPLY, "context: no prompt, which is"),
        ("<|p1|><|sep|>", REPLY, "context: no prompt, which is"),
        (BOT.replace("i cook.", ""), REPLY, "context: a fact is empty"),
        (BOT.replace("i cook.", " "), REPLY, "context: a fact is empty"),
        ("", REPLY, "context: the text is empty"),
        (PETS, 3, "response: expected a text, found 3"),
    ],
    ids=str,
)
def test_what_is_no_prompt_or_reply_is_told(examples_of, context, response, fault):
    """An unknown token would become eight word pieces, and a layout of its own one that inference never has."""
    with pytest.raises(UserError, match=rf"actions\.jsonl:1: {fault}") as error:
        examples_of(context, response)
    assert "\n" not in str(error.value)


def test_keys_of_a_line(examples_of):
    """A goal beside the context that says something else, or a misspelt key, would be passed over."""
    assert examples_of(PETS, f"<|start|>{REPLY}", goal="ask about pets.")
    with pytest.raises(UserError, match="1: goal: 'ask about kids.' is not the one of the context"):
        examples_of(PETS, f"<|start|>{REPLY}", goal="ask about kids.")
    with pytest.raises(UserError, match="1: unknown key 'gaol'; did you mean 'goal'"):
        examples_of(PETS, f"<|start|>{REPLY}", gaol="ask about pets.")


def test_csv_with_quotes_commas_and_other_line_ends(csv_examples):
    """Spreadsheets write these; a text cut at a comma would end in the middle."""
    rows = f'response,context\r\n\r\n"<|start|>well , any ""dogs"" ?{EOS}",{PETS}\r\n'
    (example,) = csv_examples(rows)
    assert example.response == 'well , any "dogs" ?'
    assert example.where.endswith("actions.csv:3")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("context;response\n", "1: the columns are context and response, found 'context;response'"),
        ("context\n", "1: the first line names the columns"),
        ("context,context\n", "1: the columns are context and response, found 'context'"),
        (f"{PETS},{REPLY}\n", "1: the columns are context and response, found '<"),
        (
            f"context,response\n{PETS},<|start|>hi , you{EOS}\n",
            "2: expected 2 columns, found 3; .* need quotes",
        ),
        (f"context,response\n{PETS},\n", "2: response: the text is empty"),
        (f'context,response\n{PETS},"<|start|>a{EOS}\n{PETS},b{EOS}\n', "2: not CSV"),
        (f'context,response\n{PETS},"<|start|>a\nb{EOS}"\n', "2: response: a line break stands inside"),
        (f"context,response\n{PETS},<|start|>a<|cls|>{EOS}\n", "2: response: one turn is needed"),
        (f'context,response\n\n{PETS},"<|start|>a"\n', "3: response: it does not end with"),
        (
            f"context,response\n<|axt|>ask about pets.,{REPLY}\n",
            r"2: context: unknown special token '<\|axt\|>'",
        ),
    ],
    ids=str,
)
def test_a_csv_fault_is_told_with_its_line(csv_examples, text, fault):
    """With another line, or none, nobody finds it among hundreds."""
    with pytest.raises(UserError, match=rf"actions\.csv:{fault}"):
        csv_examples(text)


def test_files_without_examples_or_of_another_kind(csv_examples, tmp_path):
    """A control stage without examples would train on old ones alone."""
    with pytest.raises(UserError, match="the file holds no example"):
        csv_examples("context,response\n")
    with pytest.raises(UserError, match=r"a file of action codes is a \.csv or a \.jsonl file"):
        read_action_examples(tmp_path / "actions.txt", config_of())
    with pytest.raises(UserError, match="file of action codes not found"):
        read_action_examples(tmp_path / "none.csv", config_of())


def test_corrections_are_added_line_by_line(tmp_path):
    """A line that a crash cut off would swallow the next correction; one that is lost must be typed again."""
    path = tmp_path / "corrections.jsonl"
    first = ActionExample(("hi",), "any dogs ?", goal="ask about pets.")
    second = ActionExample((), "hello", facts=("i ski.",), speaker=2)
    append_pair(path, first.texts)
    path.write_bytes(path.read_bytes()[:-1])
    append_pair(path, second.texts)
    read = read_action_examples(path, config_of())
    assert [(e.turns, e.response, e.goal, e.facts, e.speaker) for e in read] == [
        (e.turns, e.response, e.goal, e.facts, e.speaker) for e in (first, second)
    ]
    with pytest.raises(UserError, match=r"cannot write .*missing"):
        append_pair(tmp_path / "missing" / "corrections.jsonl", first.texts)


@pytest.mark.parametrize(
    "changes", [{"response": "a<|p2|>b"}, {"turns": ("<|x|>",)}, {"facts": ("<|sep|>",)}], ids=str
)
def test_a_typed_special_token_is_not_kept_as_text(changes):
    """It would be read back as the token: a correction with another persona, or a file that no longer reads."""
    parts = {"turns": ("hi",), "response": "yes", "facts": ("i ski.",), **changes}
    with pytest.raises(UserError, match="which cannot be kept as an example"):
        _ = ActionExample(**parts).texts
