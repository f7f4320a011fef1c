"""Prepared files: the same examples as from the dialogues, and one line about what is wrong with a file."""

import json
from pathlib import Path

import pytest

from companions.personagpt.prepared import is_prepared, prepare, prepared_text, read_persona_examples
from companions.personagpt.settings import PersonaConfig
from tests.companions.personagpt.golden import GOLDEN
from utils.errors import UserError

EDGE = str(GOLDEN / "preprocess" / "edge.txt")
HEADER = '{"personagpt": 1, "max_utterances": 20, "drop_duplicates": true, "fidelity": "paper"}'
ROW = {"facts": [["i ski."], ["i cook."]], "turns": ["hi !", "hello ."], "answers": [0, 1], "modelled": 2}


def config_of(fidelity="paper", **dataset):
    """A configuration of PersonaGPT."""
    model = {"model_type": "personagpt", "model_name": "none", "fidelity": fidelity}
    return PersonaConfig(model=model, dataset=dataset)


@pytest.fixture
def prepared(tmp_path):
    """The path of a prepared file that holds a row, with some of its keys changed."""

    def prepared(header=HEADER, **changes):
        path = tmp_path / "rows.jsonl"
        row = {key: value for key, value in {**ROW, **changes}.items() if value is not None}
        path.write_text(f"{header}\n{json.dumps(row)}\n", encoding="utf-8")
        return str(path)

    return prepared


def content(example):
    """All of an example but where it was read."""
    return example.persona, example.context, example.response, example.dialogue, example.turn


@pytest.mark.parametrize("fidelity", ["paper", "released_code"])
@pytest.mark.parametrize("options", [{}, {"ratio": 0.3}, {"only_longest": True}], ids=str)
def test_a_prepared_file_gives_the_examples_of_its_dialogues(tmp_path, fidelity, options):
    """Training on prepared data would be another training: a space lost, a duplicate back, a share of others."""
    config = config_of(fidelity)
    path = tmp_path / "rows.jsonl"
    path.write_text(prepared_text(prepare(EDGE, config)[0], config), encoding="utf-8")
    examples = read_persona_examples(str(path), config, **options)
    assert list(map(content, examples)) == [
        content(example) for example in read_persona_examples(EDGE, config, **options)
    ]
    assert examples[0].where == f"{path}:2"
    alone = config_of(fidelity, speakers="self")
    modelled = list(map(content, read_persona_examples(str(path), alone)))
    assert modelled == list(map(content, read_persona_examples(EDGE, alone)))
    assert 0 < len(modelled) < len(read_persona_examples(EDGE, config))


def test_a_share_of_the_dialogues():
    """A share of all examples would cut the last dialogue in two."""
    whole = read_persona_examples(EDGE, config_of())
    half = read_persona_examples(EDGE, config_of(), ratio=0.5)
    assert half == whole[: len(half)]
    assert len({example.dialogue // 2 for example in half}) == 4  # of 8 that are left without duplicates
    assert read_persona_examples(EDGE, config_of(), ratio=0.001)[0] == whole[0]


def test_other_formats_of_dialogues_are_read(tmp_path):
    """Own data in JSON lines could not be trained on; what its partner says would be told apart by its form."""
    personas = {"self": ["i ski .", "i cook ."], "partner": ["i sing .", "i act ."]}
    utterances = [{"speaker": "self", "text": "hi"}, {"speaker": "partner", "text": "hello"}]
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"personas": personas, "utterances": [*utterances, utterances[0]]}) + "\n")
    examples = read_persona_examples(str(path), config_of(format="json_lines"))
    assert [(example.persona, example.response) for example in examples] == [
        (("i ski.", "i cook."), "hi"),
        (("i ski.", "i cook."), "hi"),
        (("i sing.", "i act."), "hello"),
    ]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"facts": [["i ski."]]}, "2: facts: a list for each of the two speakers is needed, found 1"),
        ({"facts": [["i ski."], [""]]}, r"2: facts\[1\]\[0\]: the text is empty"),
        ({"turns": ["hi !", 3]}, r"2: turns\[1\]: expected a text, found 3"),
        ({"turns": ["a"] * 21}, "2: turns: 21 are more than max_utterances, 20"),
        ({"answers": [0, 2]}, "2: answers: numbers of turns from 0 to 1 are needed"),
        ({"answers": [True]}, "2: answers: numbers of turns"),
        ({"answers": [-1]}, "2: answers: numbers of turns"),
        ({"answers": []}, "2: answers: numbers of turns"),
        ({"answers": [1, 0]}, "2: answers: ascending numbers are needed"),
        ({"answers": [1, 1]}, "2: answers: ascending numbers are needed"),
        ({"answers": None}, "2: the key 'answers' is missing"),
        ({"answer": [0]}, "2: unknown key 'answer'; did you mean 'answers'"),
        ({"modelled": 3}, "2: modelled: 1 or 2 is needed, found 3"),
        ({"modelled": True}, "2: modelled: 1 or 2 is needed, found True"),
        ({"header": HEADER.replace("20", "8")}, "1: the file was prepared with max_utterances 8, .* has 20"),
        ({"header": HEADER.replace("true", "1")}, "1: the file was prepared with drop_duplicates 1"),
        ({"header": HEADER.replace("paper", "released_code")}, "1: the file was prepared with fidelity"),
        ({"header": HEADER.replace('": 1,', '": 2,')}, "1: the file was prepared with personagpt 2"),
        ({"header": '{"personagpt": 1}'}, "1: the key 'max_utterances' is missing"),
        ({"header": '{"personagpt": 1'}, "1: not JSON"),
    ],
    ids=str,
)
def test_a_fault_is_told_with_its_line(prepared, changes, fault):
    """What is not what the settings say would be trained on, or end in a traceback that names no line."""
    with pytest.raises(UserError, match=rf"rows\.jsonl:{fault}"):
        read_persona_examples(prepared(**changes), config_of())


def test_a_file_without_rows_and_one_that_is_not_there(tmp_path):
    """An empty training would begin, or a traceback end it."""
    path = tmp_path / "rows.jsonl"
    path.write_text(HEADER + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="the file holds no dialogue"):
        read_persona_examples(str(path), config_of())
    with pytest.raises(UserError, match="dialogue file not found"):
        read_persona_examples(str(tmp_path / "none"), config_of())


def test_a_prepared_file_is_known_by_its_first_line(prepared, tmp_path):
    """An editor's byte-order mark would send it to the reader of dialogues, which cannot read it."""
    path = tmp_path / "mark.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + Path(prepared()).read_bytes())
    assert is_prepared(str(path))
    assert len(read_persona_examples(str(path), config_of())) == 2
    assert not is_prepared(EDGE)
