"""PersonaGPT's files that nobody wrote by hand: each reader parses them, or says in one line what is wrong."""

import csv
import io
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from companions.personagpt import actions
from companions.personagpt.action_data import ActionExample, read_action_examples
from companions.personagpt.action_files import pairs_text
from companions.personagpt.actions import GOALS, goals_in
from companions.personagpt.prepared import prepared_text, read_persona_dialogues, read_persona_examples
from companions.personagpt.settings import PersonaConfig
from tests.hunted import files, judged_file, spoken, values, with_a_part_replaced

EOS = "<|endoftext|>"
CONTEXT = f"<|act|>ask about pets.<|sep|><|p1|><|sep|><|start|>hi !{EOS}"
PERSONA = f"<|p2|>i ski.{EOS}i cook.{EOS}<|sep|>"
CSV = f'context,response\n"{CONTEXT}","any dogs, or cats ?{EOS}"\n\n{PERSONA},<|start|>hello{EOS}\n'
ROWS = [
    {"context": CONTEXT, "response": f"any dogs ?{EOS}", "goal": "ask about pets."},
    {"context": PERSONA, "response": f"<|start|>hello{EOS}"},
]
JSON_LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
PREPARED = [
    {"personagpt": 1, "max_utterances": 20, "drop_duplicates": True, "fidelity": "paper"},
    {"facts": [["i ski."], ["i cook."]], "turns": ["hi !", "hello ."], "answers": [0, 1], "modelled": 2},
]
PREPARED_LINES = "".join(json.dumps(row) + "\n" for row in PREPARED)
DIALOGUES = """\
1 your persona: i ski .
2 your persona: i do n't cook .
3 partner's persona: i cook .
4 partner's persona: i swim .
5 __SILENCE__\thi !
6 hello .  and you ?\tme too .
"""


def config_of(fidelity):
    """A configuration of PersonaGPT."""
    return PersonaConfig(model={"model_type": "personagpt", "model_name": "none", "fidelity": fidelity})


PAPER, RELEASED = config_of("paper"), config_of("released_code")


@pytest.mark.parametrize(("name", "good"), [("a.csv", CSV), ("a.jsonl", JSON_LINES)])
@given(data=st.data())
def test_action_codes(tmp_path, survived, name, good, data):
    """A spreadsheet's export, or corrections that a crash has cut, are read whole or refused by line."""
    content = data.draw(files(good))
    for config in (PAPER, RELEASED):
        found = judged_file(
            lambda path, config=config: read_action_examples(path, config), tmp_path / name, content
        )
        for one in found or ():
            assert one.response.strip()
            assert all(turn.strip() for turn in (*one.turns, *one.facts))
    survived("bad inputs")


@given(
    cells=st.lists(
        st.lists(st.sampled_from([CONTEXT, PERSONA, EOS, "", "a"]) | spoken, max_size=3), max_size=3
    )
)
def test_any_cells(tmp_path, survived, cells):
    """A table with other columns, or texts in other places, is no file of action codes."""
    text = io.StringIO()
    csv.writer(text).writerows([["context", "response"], *cells])
    content = text.getvalue().encode("utf-8", "replace")
    judged_file(
        lambda path: read_action_examples(path, RELEASED),
        tmp_path / "a.csv",
        content,
        by_line=any(map(any, cells)),
    )
    survived("bad inputs")


@given(value=values, data=st.data())
def test_any_value_in_a_line(tmp_path, survived, value, data):
    """Valid JSON of another form: a number in the place of a text, a list in the place of a turn's number."""
    random = data.draw(st.randoms(use_true_random=False))
    for row in ROWS:
        line = json.dumps(with_a_part_replaced(row, value, random)).encode()
        judged_file(lambda path: read_action_examples(path, PAPER), tmp_path / "a.jsonl", line)
    header, good = PREPARED
    for rows in (
        [with_a_part_replaced(header, value, random), good],
        [header, with_a_part_replaced(good, value, random)],
    ):
        lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
        judged_file(
            lambda path: read_persona_dialogues(str(path), PAPER), tmp_path / "a.jsonl", lines, by_line=False
        )
    survived("bad inputs", 4)


@pytest.mark.parametrize("good", [PREPARED_LINES, DIALOGUES], ids=["prepared", "dialogues"])
@given(data=st.data())
def test_dialogues(tmp_path, survived, good, data):
    """A dialogue of which a part is lost is left out or refused; a turn without words was trained on."""
    content = data.draw(files(good))
    for config in (PAPER, RELEASED):
        # what is wrong may be the whole file: that no dialogue in it has what it takes
        found = judged_file(
            lambda path, config=config: read_persona_examples(str(path), config),
            tmp_path / "a",
            content,
            by_line=False,
        )
        for one in found or ():
            assert one.response.strip()
    survived("bad inputs")


@given(content=files("ask about pets.\ntalk about work.\n"))
@example(content="ask about pets.\u2028\n\x85talk".encode())
def test_goals(tmp_path, survived, content):
    """The number of a line is what a user types: a line more or less gives another goal."""
    found = judged_file(goals_in, tmp_path / "goals.txt", content)
    if found is not None:
        assert len(found) == content.removesuffix(b"\n").count(b"\n") + 1
    survived("bad inputs")


def test_goals_are_compared_once(tmp_path, monkeypatch):
    """Each goal was compared with all before it: a file of 100,000 lines took hours."""
    calls = []
    plain = actions._plain
    monkeypatch.setattr(actions, "_plain", lambda phrase: calls.append(phrase) or plain(phrase))
    (tmp_path / "goals.txt").write_text(
        "".join(f"ask about {number}.\n" for number in range(2000)), encoding="utf-8"
    )
    assert len(goals_in(tmp_path / "goals.txt")) == len(calls) == 2000


turns = spoken.map(str.strip).filter(lambda text: text and "<|" not in text)


@given(
    said=st.lists(turns, max_size=3),
    response=turns,
    goal=st.none() | st.sampled_from(GOALS),
    facts=st.lists(turns, min_size=1, max_size=3),
)
def test_what_is_written_is_read(tmp_path, said, response, goal, facts):
    """A correction that comes back with other words teaches what nobody has said."""
    kind = {"goal": goal} if goal else {"facts": tuple(facts), "speaker": 2}
    written = ActionExample(tuple(said), response, **kind)
    path = tmp_path / "a.jsonl"
    path.write_text(pairs_text([written.texts]), encoding="utf-8")
    (read,) = read_action_examples(path, PAPER)
    assert (read.turns, read.response, read.goal, read.facts) == (
        tuple(said),
        response,
        goal,
        kind.get("facts", ()),
    )


def test_a_prepared_file_gives_back_its_dialogues(tmp_path):
    """A dialogue of strange texts must not change when it is kept and read."""
    path = tmp_path / "a.txt"
    path.write_text(
        DIALOGUES.replace("me too", "\U0001f468\u200d\U0001f469 \u202eשלום\u202c \u2028"), encoding="utf-8"
    )
    dialogues = read_persona_dialogues(str(path), PAPER)
    (tmp_path / "a.jsonl").write_text(prepared_text(dialogues, PAPER), encoding="utf-8")
    found = read_persona_dialogues(str(tmp_path / "a.jsonl"), PAPER)
    assert [(one.facts, one.turns, one.answers) for one in found] == [
        (one.facts, one.turns, one.answers) for one in dialogues
    ]
