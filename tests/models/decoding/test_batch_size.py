"""The batch size of decoding: by free memory where it changes nothing, and smaller where that was too much."""

import json

import pytest
import torch

from models.decoding import batch_size, decode
from models.decoding.arguments import decode_parser
from models.decoding.batch_size import FIXED, bytes_per_row, choose_batch_size, within_memory
from models.decoding.decode import DecodeOptions, decode_runs
from models.decoding.prefill import prefill
from tests.helpers import inference_batch, json_rows, model_of
from utils.distributed import DistributedContext
from utils.errors import UserError

ROWS, TEXT = "evaluation_result.jsonl", "evaluation_result.txt"


@pytest.fixture
def model(make_config):
    """A tiny SPT model."""
    return model_of(make_config("opt"))


def rank_of(size):
    """One of several processes; they are not asked."""
    rank = DistributedContext(0, 0, 1, torch.device("cpu"))
    object.__setattr__(rank, "size", size)
    return rank


def test_the_cache_is_what_a_row_is_reckoned_with(model, examples):
    """A row that takes more than is reckoned ends a run of hours in an error."""
    config = model.config.replaced({"dataset": {"max_token_length": 1000}})
    new = config.decoding.max_new_tokens
    start = prefill(model, inference_batch(model, examples[:1]), torch.tensor([0]), new)
    room = start.cache.layers[0].room
    per_position = sum(memory[:, :, 0].numel() * 4 * len(start.cache.layers) for memory in room)
    cached = per_position * model.lm.max_positions  # the longest text fills all of them
    assert cached < bytes_per_row(model, config) < 2 * cached + 100 * len(model.tokenizer)
    several = config.replaced({"decoding": {"num_beams": 3}})
    assert bytes_per_row(model, several) == 3 * bytes_per_row(model, config)


def test_less_memory_or_more_ranks_make_smaller_batches(model, distributed, monkeypatch):
    """Ranks on one machine that each count on all of its memory run out of it together."""
    row = bytes_per_row(model, model.config)

    class Memory:
        available = 40 * row

    monkeypatch.setattr(batch_size, "virtual_memory", Memory)
    assert choose_batch_size(model, model.config, distributed)[0] == 20
    assert batch_size.free_memory(rank_of(4)) == 10 * row
    Memory.available = 1
    assert choose_batch_size(model, model.config, distributed)[0] == 1
    Memory.available = 10**15
    assert choose_batch_size(model, model.config, distributed)[0] == 64


@pytest.mark.parametrize(
    ("change", "words"), [({"load_bit": "bf16"}, "bfloat16"), ({"fidelity": "released_code"}, "padding")]
)
def test_where_replies_depend_on_it_memory_does_not_choose(model, distributed, monkeypatch, change, words):
    """The same command would give other replies on a machine with more memory."""
    monkeypatch.setattr(batch_size, "free_memory", lambda *_: pytest.fail("memory was asked"))
    size, sentence = choose_batch_size(model, model.config.replaced({"model": change}), distributed)
    assert size == FIXED
    assert words in sentence


def test_the_chosen_size_is_said_and_kept_with_the_results(run_copy, distributed, monkeypatch, capsys):
    """A result whose batch size nobody knows cannot be made again."""
    monkeypatch.setattr(decode, "choose_batch_size", lambda *_: (5, "why"))
    decode_runs([run_copy], distributed)
    assert "automatic choice: batch size 5: why (--batch_size sets it)" in capsys.readouterr().out
    third = (run_copy / TEXT).read_text(encoding="utf-8").splitlines()[2]
    assert json.loads(third.removeprefix("decoding: "))["batch_size"] == 5
    decode_runs([run_copy], distributed, DecodeOptions(batch_size=3, skip_exists=False))
    assert "automatic choice: batch" not in capsys.readouterr().out


def test_too_little_memory_halves_the_batches_and_loses_no_example(
    run_copy, distributed, monkeypatch, capsys
):
    """Hours of decoding that end with an error of the device; or a result that lacks the failed batch."""
    generate = decode.generate_replies

    def fails(model, batch, *rest):
        if len(batch.indices) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(model, batch, *rest)

    decode_runs([run_copy], distributed, DecodeOptions(batch_size=4))
    expected = json_rows(run_copy / ROWS)
    monkeypatch.setattr(decode, "generate_replies", fails)
    monkeypatch.setattr(decode, "choose_batch_size", lambda *_: (14, "why"))
    decode_runs([run_copy], distributed, DecodeOptions(skip_exists=False))
    said = capsys.readouterr().out
    assert said.count("out of memory with 14 examples at once; going on with 7") == 1
    assert said.count("out of memory with 7 examples at once; going on with 4") == 1
    found = json_rows(run_copy / ROWS)
    assert [row["raw_prediction"] for row in found] == [row["raw_prediction"] for row in expected]
    with pytest.raises(UserError, match="too small for 8 examples at once; ask for fewer with --batch_size"):
        decode_runs([run_copy], distributed, DecodeOptions(batch_size=8, skip_exists=False))


def test_one_example_that_is_too_large_is_an_error():
    """Halving one example would go on for ever."""

    def fails(batch):
        raise torch.OutOfMemoryError

    with pytest.raises(UserError, match="too small for 1 examples at once$"):
        list(within_memory([[0, 1]], fails, may_halve=True))


@pytest.mark.parametrize(
    ("words", "size"), [([], None), (["--batch_size=auto"], None), (["--batch_size=7"], 7)]
)
def test_the_flag(words, size):
    """A size that is given must be taken, and `auto` is a word of the help text."""
    assert decode_parser().parse_args(["--model_path=x", *words]).batch_size == size
