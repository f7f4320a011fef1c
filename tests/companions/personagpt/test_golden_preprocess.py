"""Prepared data against the golden cases: every id of every example, counts and hashes."""

import hashlib
import json

import pytest
from transformers import AutoTokenizer

from companions.personagpt.action_data import encode_actions, read_action_examples
from companions.personagpt.actions import GOALS
from companions.personagpt.dialogues import persona_examples, without_duplicates
from companions.personagpt.prepared import prepare
from companions.personagpt.prompts import PersonaEncoder
from companions.personagpt.settings import PersonaConfig
from tests.companions.personagpt.golden import GOLDEN, cases, content
from tests.conftest import SHARED

EXPECTED = content(GOLDEN / "preprocess" / "expected.json")
DIALOGUES = cases("preprocess", "*.txt")
ACTIONS = [path for path in cases("preprocess", "*.release.json") if isinstance(content(path), dict)]
ELSEWHERE = [name for name in EXPECTED if not (GOLDEN / "preprocess" / f"{name}.txt").is_file()]
FIDELITY = {"release": "released_code", "corrected": "paper"}


@pytest.fixture(scope="module")
def tokenizer():
    """That of the golden cases."""
    return AutoTokenizer.from_pretrained(GOLDEN / "lm")


def config_of(form, **dataset):
    """The configuration that makes one of the two forms of the golden cases."""
    model = {"model_type": "personagpt", "model_name": "none", "fidelity": FIDELITY[form]}
    return PersonaConfig(model=model, dataset={"drop_duplicates": False, **dataset})


def pair(example):
    """[prompt ids, answer ids] of an encoded example."""
    ids = example.ids.tolist()
    return [ids[: example.query_end], ids[example.query_end :]]


def encoded_dialogues(path, form, tokenizer, **dataset):
    """The pairs of each dialogue of a file, in the order in which they are said."""
    config = config_of(form, **dataset)
    dialogues, _ = prepare(str(path), config)
    encoder = PersonaEncoder(tokenizer, config)
    found = []
    for dialogue in dialogues:
        examples = sorted(persona_examples([dialogue]), key=lambda example: len(example.context))
        found.append([pair(example) for example in encoder.encode(examples, with_response=True)])
    return found


def sha256(pairs):
    """As the golden cases take it."""
    return hashlib.sha256(json.dumps(pairs, separators=(",", ":")).encode()).hexdigest()


def test_there_are_cases():
    """A golden folder that is not found would leave nothing to compare, and pass."""
    assert DIALOGUES
    assert ACTIONS


@pytest.mark.parametrize("path", DIALOGUES, ids=lambda path: path.stem)
def test_dialogues_as_the_release_prepares_them(path, tokenizer):
    """Figures under `released_code` would be those of other sequences than the release was trained on."""
    dialogues = encoded_dialogues(path, "release", tokenizer)
    flat = [pair for dialogue in dialogues for pair in dialogue]
    expected = EXPECTED[path.stem]["release"]
    assert (len(dialogues), len(flat)) == (expected["dialogues"], expected["examples"])
    assert flat == content(path.with_suffix(".release.json"))
    assert sha256(flat) == expected["sha256"]


@pytest.mark.parametrize("path", DIALOGUES, ids=lambda path: path.stem)
def test_dialogues_as_the_method_means_them(path, tokenizer):
    """A space, an end of turn or a dialogue more or less would train on what nobody said."""
    dialogues = encoded_dialogues(path, "corrected", tokenizer)
    expected = EXPECTED[path.stem]["corrected"]
    assert [len(dialogue) for dialogue in dialogues] == expected["examples_per_dialogue"]
    assert dialogues == content(path.with_suffix(".corrected.json"))
    assert sha256([pair for dialogue in dialogues for pair in dialogue]) == expected["sha256"]


@pytest.mark.parametrize("path", DIALOGUES, ids=lambda path: path.stem)
def test_first_occurrences_are_kept(path):
    """A dialogue and its copy from the other side would count twice, or an example of the copy alone be lost."""
    dialogues, counts = prepare(str(path), config_of("corrected"))
    number_of = {dialogue.where: number for number, dialogue in enumerate(dialogues)}
    distinct = without_duplicates(dialogues)
    found = [[number_of[dialogue.where], turn] for dialogue in distinct for turn in dialogue.answers]
    expected = EXPECTED[path.stem]["corrected"]
    assert found == expected["first_occurrences"]
    assert prepare(str(path), config_of("corrected", drop_duplicates=True))[0] == distinct
    read = EXPECTED[path.stem]["dialogues_in_file"]
    assert (counts.dialogues, counts.dialogues - counts.discarded) == (read, expected["dialogues"])


@pytest.mark.parametrize("path", ACTIONS, ids=lambda path: path.name.removesuffix(".release.json"))
def test_action_data_as_the_release_encodes_it(path, tokenizer):
    """A blank that becomes a token gives another action code than the one that is asked for in a conversation."""
    (source,) = cases("preprocess", f"{path.name.removesuffix('.release.json')}*.csv")
    config = config_of("release")
    released = read_action_examples(source, config)
    encoded = encode_actions(released, PersonaEncoder(tokenizer, config))
    expected = content(path)
    assert list(map(pair, encoded)) == [
        list(parts) for parts in zip(expected["X"], expected["y"], strict=True)
    ]
    if {(example.goal, example.variant) for example in released} <= {(goal, "B") for goal in GOALS}:
        assert read_action_examples(source, config_of("corrected")) == released


@pytest.mark.slow
@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize("form", list(FIDELITY))
def test_a_whole_file(name, form, tokenizer):
    """What no sample holds, such as a twenty-first turn, would be read wrong in the data that is trained on."""
    path = SHARED / "convai2" / f"{name}.txt"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    dialogues = encoded_dialogues(path, form, tokenizer)
    flat = [pair for dialogue in dialogues for pair in dialogue]
    expected = EXPECTED[name][form]
    assert (len(dialogues), len(flat)) == (expected["n_dialogues"], expected["n_examples"])
    assert sha256(flat) == expected["sha256"]
    assert max(len(prompt) + len(answer) for prompt, answer in flat) == expected["max_len"]
    assert sum(len(prompt) for prompt, _ in flat) == expected["prompt_tokens"]
    assert sum(len(answer) for _, answer in flat) == expected["answer_tokens"]
    if "unique_examples" in expected:
        _, counts = prepare(str(path), config_of(form, drop_duplicates=True, max_utterances=10**6))
        assert counts.examples == EXPECTED[name]["uncapped_utterances"]
        dialogues, counts = prepare(str(path), config_of(form, drop_duplicates=True))
        assert counts.examples == expected["unique_examples"]
        assert counts.capped == EXPECTED[name]["uncapped_utterances"] - expected["n_examples"]
