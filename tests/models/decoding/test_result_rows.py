"""What a result file says of an example: the cut reply, every prompt's count, and nothing learnt from the target."""

import re

from dataset.dialogue import examples_of
from dataset.readers import read_dialogues
from models.decoding.decode import DecodeOptions, decode_runs
from models.decoding.generation import Reply
from models.decoding.results import result_row, result_text
from tests.helpers import json_rows

ROWS = "evaluation_result.jsonl"


def test_the_prediction_is_cut_at_the_next_turn(examples):
    """A reply with the partner's next turn in it is longer than the target, and every metric falls."""
    said = "i ski . Q: and you ? R: no"
    row = result_row(examples[0], Reply(said, 1, [0.1, 0.2], nll=1.5, nll_tokens=3))
    assert row["raw_prediction"] == said
    assert row["prediction"].strip() == "i ski ."
    assert (row["target"], row["prompt"], row["scores"]) == (examples[0].response, 1, [0.1, 0.2])
    assert (row["nll"], row["nll_tokens"]) == (1.5, 3)


def test_prompt_0_is_counted(examples):
    """0 is a prompt and None is none: a counter that takes one for the other hides a prompt that dominates."""
    choices = [0, 2, 0, 0, None]
    rows = [result_row(examples[0], Reply("a", choice, None)) for choice in choices]
    assert "{0: 3, 2: 1}" in result_text(rows, {}).split("\n\n")[0]


def test_the_reply_does_not_know_the_target(run_copy, data, tmp_path, distributed):
    """A target that reaches the LM, or the retriever, gives the best scores that this field has seen."""
    text = data["valid"].read_text(encoding="utf-8")
    # other responses in the last turn of each dialogue, which stand in no other example's context
    changed = re.sub(r"\t[^\t\n]+\n(?=1 |\Z)", "\tcompletely other words with five cats .\n", text)
    (tmp_path / "other.txt").write_text(changed, encoding="utf-8")
    results = []
    for valid in (data["valid"], tmp_path / "other.txt"):
        decode_runs([run_copy], distributed, DecodeOptions(valid_path=str(valid), skip_exists=False))
        results.append(json_rows(run_copy / ROWS))
    before, after = results
    told = [row["target"] != other["target"] for row, other in zip(before, after, strict=True)]
    assert sum(told) == len(
        {example.dialogue for example in examples_of(read_dialogues(data["valid"], "convai2"))}
    )
    for row, other in zip(before, after, strict=True):
        for key in ("context", "raw_prediction", "prompt", "scores"):
            assert row[key] == other[key], key
