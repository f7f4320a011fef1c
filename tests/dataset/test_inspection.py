"""What a dialogue file holds; each fault is planted."""

import pytest

from dataset.dialogue import PARTNER, SELF, Dialogue, Utterance, examples_of
from dataset.inspection import length_findings, measure_lengths, quantiles, text_findings
from dataset.text import cut_response
from models.reading import make_encoder
from models.registry import build_tokenizer


def dialogue(*replies, persona=("i ski .",)):
    """A dialogue with these replies, the first at line 2."""
    utterances = []
    for place, reply in enumerate(replies):
        utterances.append(Utterance(PARTNER, f"question {place}", line=place + 2))
        utterances.append(Utterance(SELF, reply, line=place + 2))
    return Dialogue(tuple(utterances), {SELF: persona}, "file.txt")


def found(*dialogues, status="warn"):
    """Subject and text of the findings of one status."""
    findings = text_findings(examples_of(dialogues), cut_response)
    return [(finding.subject, finding.text) for finding in findings if finding.status == status]


def test_a_usual_file_has_no_warning(examples):
    """Warnings about every file are read by nobody."""
    findings = list(text_findings(examples, cut_response))
    assert {finding.status for finding in findings} == {"ok"}
    assert "12 dialogues" in findings[0].text


@pytest.mark.parametrize(
    ("dialogues", "subject", "words"),
    [
        ([dialogue("yes"), dialogue("no", persona=())], "personas", "1 of 2 dialogues have none"),
        ([dialogue("yes", persona=())], "personas", "nothing here can be personal"),
        ([dialogue("yes", persona=("i ski .", "i ski ."))], "personas", "twice"),
        ([dialogue("yes", "no"), dialogue("yes", "no")], "repetitions", "1 stand in the file"),
        ([dialogue("yes", "...")], "replies", "neither a letter nor a digit"),
        ([dialogue("yes", "at 10:30")], "replies", "a mark at which generated text is cut"),
        ([dialogue("yes", "a\ufffdb")], "characters", "file.txt:3"),
        ([dialogue("caf\u00c3\u00a9")], "characters", "wrong encoding"),
        ([dialogue("a\x07b")], "characters", "control characters"),
    ],
)
def test_a_planted_fault_is_found(dialogues, subject, words):
    """What is wrong with a file is found in its replies, a week later."""
    (finding,) = found(*dialogues)
    assert finding[0] == subject
    assert words in finding[1]


def test_usual_characters_of_any_script_are_none():
    """Emoji with joiners, Persian and Hebrew text would be called broken, and people told to convert good files."""
    family, persian = (
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    )
    assert found(dialogue(f"{family} {persian} \u05e9\u05dc\u05d5\u05dd na\u00efve \u4f60\u597d")) == []


@pytest.fixture
def lengths(make_config):
    """Lengths of some dialogues at a limit: lengths(limit, dialogue, ..)."""

    def measure(limit, *dialogues):
        config = make_config(dataset={"max_token_length": limit})
        tokenizer = build_tokenizer(config)
        whole = make_encoder(tokenizer, config.replaced({"dataset": {"max_token_length": 10**6}}))
        encoder = make_encoder(tokenizer, config)
        return measure_lengths(examples_of(dialogues), whole, encoder), encoder

    return measure


def test_truncated_and_refused_examples_are_counted(lengths):
    """Training ends at the first example that does not fit, after the LM was loaded; what lost context says nothing."""
    measured, encoder = lengths(40, dialogue("yes", "no", "maybe"), dialogue("word " * 60), dialogue("ok"))
    assert (measured.shortened, len(measured.refusals), len(measured.encoded)) == (2, 1, 4)
    assert "file.txt:2" in measured.refusals[0]
    assert [example.index for example in measured.encoded] == [0, 1, 2, 4]
    assert max(len(example.ids) for example in measured.encoded) <= 40 < measured.tokens.max()
    texts = {
        finding.status: finding.text
        for finding in length_findings(measured, 40)
        if finding.subject != "tokens"
    }
    assert "2 of 5 examples lose their oldest turns" in texts["warn"]
    assert "1 of 5 examples do not fit at all" in texts["FAIL"]


def test_what_fits_is_encoded_as_training_has_it(lengths, examples):
    """Steps that are timed on other ids than those of the training promise another time."""
    dialogues = [dialogue("yes", "no", "maybe"), dialogue("ok")]
    measured, encoder = lengths(512, *dialogues)
    own = encoder.encode(examples_of(dialogues), with_response=True)
    assert [example.ids.tolist() for example in measured.encoded] == [example.ids.tolist() for example in own]
    assert [finding.status for finding in length_findings(measured, 512)] == ["ok", "ok"]


def test_quantiles_are_in_order():
    """A largest value that is taken for a usual one."""
    assert quantiles([1] * 60 + [5] * 35 + [90] * 5) == "1 to 90 (half up to 1, nine tenths up to 5)"
    assert quantiles([3, 3]) == "3"
