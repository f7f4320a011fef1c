"""A large dialogue file on its way to batches: encoded once for all ranks, and the batches are those from memory."""

import json
import threading
import warnings
from dataclasses import dataclass, field

import pytest
import torch

from dataset import encoded_cache
from dataset.encoded import EncodedTable
from models.decoding.decode import DecodeOptions, decode_runs
from models.reading import make_loader
from models.registry import build_tokenizer
from tests.conftest import config_for
from tests.run_commands import Command, run_commands
from utils.errors import UserError
from utils.liveness import main_first


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("train", [True, False])
def test_batches_are_those_of_examples_in_memory(make_config, tmp_path, monkeypatch, train, workers):
    """A run whose batches came from a kept file must give the losses of one that encoded in memory."""
    config = make_config("opt", training={"num_workers": workers, "rows": "dialogue"})
    tokenizer = build_tokenizer(config)
    direct = make_loader(config.dataset.train, tokenizer, config, train=train, max_tokens=300)
    monkeypatch.setattr(encoded_cache, "SMALL", 0)
    config = config.replaced({"dataset": {"cache_dir": str(tmp_path / "cache")}})
    kept = make_loader(config.dataset.train, tokenizer, config, train=train, max_tokens=300)
    assert isinstance(kept.dataset.examples, EncodedTable)
    assert len(kept) == len(direct) > 3
    for one, other in zip(direct, kept, strict=True):
        assert one.indices.tolist() == other.indices.tolist()
        for name in ("input_ids", "target_ids", "target_positions", "target_rows", "pair_labels"):
            assert torch.equal(getattr(one, name), getattr(other, name))


@pytest.fixture
def no_warnings():
    """Warnings are errors, also those that torch gives once for each process."""
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    torch.set_warn_always(always)


def test_decoding_reads_kept_texts_and_targets(run_copy, distributed, tmp_path, monkeypatch, no_warnings):
    """Replies and losses must be those of texts in memory, and a second decoding encodes nothing.

    A warning about mapped memory would stand between the lines of every decoding.
    """
    keep = DecodeOptions(
        batch_size=4, skip_exists=False, assignments=(f"dataset.cache_dir={tmp_path / 'cache'}",)
    )
    results = []
    for small in (1 << 20, 0, 0):
        monkeypatch.setattr(encoded_cache, "SMALL", small)
        decode_runs([run_copy], distributed, keep)
        results.append((run_copy / "evaluation_result.jsonl").read_text(encoding="utf-8"))
        if not small:
            assert len(list((tmp_path / "cache").iterdir())) == 2
            monkeypatch.setattr(encoded_cache, "encoded_chunks", lambda job: pytest.fail("encoded again"))
    assert results[0] == results[1] == results[2]


def test_null_keeps_nothing(make_config, tmp_path, monkeypatch):
    """Where no folder may be written to, the key that says so must be obeyed."""
    monkeypatch.setattr(encoded_cache, "SMALL", 0)
    monkeypatch.setenv("HOME", str(tmp_path))
    config = make_config("opt", dataset={"cache_dir": None})
    loader = make_loader(config.dataset.train, build_tokenizer(config), config, train=True)
    assert isinstance(loader.dataset.examples, list)
    assert not (tmp_path / ".cache").exists()


@dataclass
class _Ranks:
    """What ranks that are threads exchange."""

    size: int
    said: list = field(default_factory=list)

    def __post_init__(self):
        self.barrier = threading.Barrier(self.size, timeout=60)
        self.values = [None] * self.size

    def context(self, rank, local_rank):
        """A distributed context of one of the threads."""
        ranks = self

        class Context:
            size, is_main = ranks.size, rank == 0

            def gather(self, value):
                ranks.values[rank] = value
                ranks.barrier.wait()
                values = list(ranks.values)
                ranks.barrier.wait()
                return values

        context = Context()
        context.local_rank = local_rank
        return context


def _in_turns(make, places, **how):
    """Calls main_first on threads that stand for ranks at (rank, local rank); what each gave, or its error."""
    ranks, given = _Ranks(len(places)), {}

    def run(rank, local_rank):
        try:
            given[rank] = main_first(ranks.context(rank, local_rank), lambda: make(rank), **how)
        except UserError as error:
            given[rank] = error

    threads = [threading.Thread(target=run, args=place) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return given


def test_first_the_main_process_then_one_of_each_node_then_all():
    """Ranks that come at once would all encode; those of another node may not see the main process's disk."""
    order = []

    def make(rank):
        order.append(rank)
        return rank * 10

    given = _in_turns(make, [(0, 0), (1, 1), (2, 0), (3, 1)])
    assert given == {0: 0, 1: 10, 2: 20, 3: 30}
    assert order[:2] == [0, 2]
    assert sorted(order[2:]) == [1, 3]


def test_ranks_that_leave_no_file_do_not_wait():
    """With `dataset.cache_dir: null` each encodes for itself; one after the other would take as often as long."""
    all_here = threading.Barrier(3, timeout=60)
    places = [(0, 0), (1, 1), (2, 0)]
    assert len(_in_turns(lambda rank: all_here.wait(), places, in_turns=False)) == 3


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_rank_that_fails_ends_the_turns_of_all(failing):
    """The others would wait for its turn to end for ever."""

    def make(rank):
        if rank == failing:
            raise UserError("no luck")
        return rank

    given = _in_turns(make, [(0, 0), (1, 1), (2, 0)])
    assert [str(error) for error in given.values()] == [f"rank {failing}: no luck"] * 3


@pytest.fixture(scope="module")
def shared(data, lm_folder, tmp_path_factory):
    """By the rank that fails, or -1: what two ranks that share an encoded file printed, and their folder."""
    jobs = {failing: tmp_path_factory.mktemp("sharing") for failing in (-1, 0)}
    for failing, folder in jobs.items():
        config = config_for(
            data, lm_folder("opt"), folder / "runs", {"dataset": {"cache_dir": str(folder / "cache")}}
        )
        job = {"sections": config.model_dump(mode="json"), "failing": failing}
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    calls = [Command(["-m", "tests.sharing_ranks", str(folder)], ranks=2) for folder in jobs.values()]
    ended = run_commands(calls, tmp_path_factory.mktemp("printed"))
    return dict(zip(jobs, zip(ended, jobs.values(), strict=True), strict=True))


@pytest.mark.slow
def test_two_ranks_share_one_file(shared):
    """Encoding on every rank takes the time, and the memory, as often as there are ranks."""
    done, folder = shared[-1]
    assert done.status == 0, done.output
    first, second = (json.loads((folder / f"{rank}.json").read_text()) for rank in range(2))
    assert (first["made"], second["made"]) == (2, 0)  # a training and a validation file
    seen = sorted(number for batch in first["batches"] + second["batches"] for number in batch)
    assert len(set(seen)) == max(seen) + 1
    assert "encoding" in done.outputs[0]
    assert "encoding" not in done.outputs[1]


@pytest.mark.slow
def test_a_rank_that_fails_to_encode_ends_both(shared):
    """The other would wait for its file for ever."""
    done, _ = shared[0]
    assert done.statuses == [1, 1], done.output
    assert all("rank 0: no luck in encoding" in text for text in done.outputs)
