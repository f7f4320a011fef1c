"""`model.retriever.query_whiten`: whose statistics, kept with the run, used by every reader of it."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from dataset.loading import Ranks, read_examples
from models.decoding.runs import load_run, read_run_config
from models.reading import make_loader
from models.spt import query_whitening
from models.spt.model import SelectivePromptTuning
from models.spt.query_whitening import QueryWhitening, whitening_of_training
from models.whitening import Whitening
from tests.helpers import encoded, inference_batch, model_of, train
from tests.ranks import on_ranks
from utils.errors import UserError

WHITEN = {"retriever": {"query_whiten": True, "query": "last_turn"}}
SETTINGS = {"learning_rate": 1e-6, "training_ratio": 0.5, "batch_size": 4}


def last_turns(model, examples):
    """[n, D] mean embeddings of the last turn of each example, one by one."""
    ids = [torch.tensor(one.ids[one.last_turn : one.query_end]) for one in encoded(model, examples, False)]
    return torch.stack([model.lm.embed(turn).mean(dim=0) for turn in ids]).detach()


def by_hand(queries, shrinkage=0.1):
    """Mean [D] and inverse square root [D, D] of the shrunk covariance, float64."""
    queries = queries.double()
    width = queries.shape[1]
    covariance = torch.cov(queries.T, correction=0)
    shrunk = (1 - shrinkage) * covariance + shrinkage * covariance.trace() / width * torch.eye(width).double()
    values, directions = torch.linalg.eigh(shrunk)
    return queries.mean(dim=0), directions @ torch.diag(values**-0.5) @ directions.T


@pytest.fixture
def measured(make_config, monkeypatch):
    """measured(size): the whitening that each of so many ranks finds, and the queries of the training by themselves."""
    monkeypatch.setattr(query_whitening, "QUERIES_PER_DIRECTION", 1000)
    config = make_config(model=WHITEN, training=SETTINGS)
    model = model_of(config)

    def find(size=1):
        def job(distributed):
            ranks = Ranks(distributed.rank, distributed.size)
            loader = make_loader(config.dataset.train, model.tokenizer, config, train=True, ranks=ranks)

            def queries_of(batch):
                return model.retriever.queries(*model._query_states(batch.query)).detach()

            return whitening_of_training(loader, queries_of, model.lm.width, distributed)

        return on_ranks(size, job)

    return find, last_turns(model, read_examples(config.dataset.train, config, 0.5))


def test_queries_are_whitened_by_the_training(measured):
    """Statistics of another text, of one batch or of padding leave the common direction in every score."""
    find, queries = measured
    mean, matrix = by_hand(queries)
    (found,) = find()
    torch.testing.assert_close(found.mean, mean, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.matrix, matrix, atol=1e-4, rtol=1e-3)


def test_ranks_share_the_work_and_find_the_same(measured):
    """Ranks with statistics of their own train two retrievers, and the saved one is neither.

    Where one batch is left for the last step of ten ranks, some repeat an example that must not count twice.
    """
    find, queries = measured
    mean, matrix = by_hand(queries)
    for size in (2, math.ceil(len(queries) / 4) - 1):
        found = find(size)
        assert all(torch.equal(other.matrix, found[0].matrix) for other in found)
        torch.testing.assert_close(found[0].mean, mean, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(found[0].matrix, matrix, atol=1e-4, rtol=1e-3)


def test_a_part_of_a_large_training_is_enough(distributed, monkeypatch):
    """All texts of a large file through the LM, once more, are hours before the first step."""
    monkeypatch.setattr(query_whitening, "QUERIES_PER_DIRECTION", 2)

    class Batches:
        dataset, batch_sampler = range(100), SimpleNamespace(last_is_repeat=False)
        read = 0

        def __len__(self):
            return 25

        def __iter__(self):
            for number in range(25):
                self.read += 1
                batch = torch.randn(4, 8, generator=torch.Generator().manual_seed(number))
                yield batch

    batches = Batches()
    found = whitening_of_training(batches, lambda batch: batch, 8, distributed)
    assert batches.read == 4  # 16 queries
    assert torch.isfinite(found.matrix).all()
    monkeypatch.setattr(Batches, "__iter__", lambda self: itertools.repeat(torch.ones(4, 8), 25))
    with pytest.raises(
        UserError, match=r"query_whiten: of the training's queries, 16 vectors that are all equal"
    ):
        whitening_of_training(batches, lambda batch: batch, 8, distributed)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_leaves_the_statistics_alone(dtype):
    """The strongest and weakest entries of a matrix are orders apart: 3 digits of it are another matrix."""
    module = QueryWhitening(3)
    queries = torch.tensor([[1.0, 2.0, 3.0]])
    assert torch.equal(module(queries), queries)
    mean, matrix = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([[1.001, 0, 2], [0, 3, 0], [0, 0, 70.003]])
    module.start(Whitening(mean.double(), matrix.double()))
    torch.testing.assert_close(module(queries), (queries - mean) @ matrix.T)
    half = torch.nn.Sequential(module).to(dtype)
    assert torch.equal(half[0].matrix, matrix)
    assert torch.equal(half[0].mean, mean)
    assert half(queries.to(dtype)).dtype == torch.float32


def test_a_run_keeps_its_statistics(make_config, distributed, monkeypatch):
    """Scores of a retriever whose statistics were left behind, or measured anew on other texts, choose at random."""
    config = make_config(model=WHITEN, training={**SETTINGS, "training_ratio": 0.2})
    run = train(config, distributed, "whitened")
    state = load_file(run / "trained.safetensors")
    model = load_run(run, read_run_config(run))
    mean, matrix = by_hand(last_turns(model, read_examples(config.dataset.train, config, 0.2)))
    torch.testing.assert_close(state["retriever.whitening.mean"], mean.float(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(state["retriever.whitening.matrix"], matrix.float(), atol=1e-3, rtol=1e-3)
    examples = read_examples(config.dataset.valid, config)[:5]
    whitened = (last_turns(model, examples) - mean.float()) @ matrix.float()
    prompts = model.soft_prompts.weight.mean(dim=1)
    cosine = torch.cosine_similarity(
        model.retriever.linear(prompts)[:, None], model.retriever.linear(whitened)[None], dim=-1
    )
    expected = torch.nn.functional.softplus(cosine, beta=10, threshold=1)
    found = model.score_prompts(inference_batch(model, examples).query)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    # a training that starts from the run takes over what its retriever has learnt with
    monkeypatch.setattr(SelectivePromptTuning, "measure", None)
    further = train(
        config.replaced({"training": {"training_ratio": 0.1}}), distributed, "further", ckpt_path=str(run)
    )
    assert torch.equal(
        load_file(further / "trained.safetensors")["retriever.whitening.matrix"],
        state["retriever.whitening.matrix"],
    )


def test_without_it_nothing_is_kept(make_config):
    """A tensor more in the trained part makes every earlier run one of another configuration."""
    plain = model_of(make_config())
    assert not [name for name in plain.trained_state() if "whitening" in name]
    assert plain.statistics == {}
    none = model_of(make_config(model=WHITEN, training={"skip_retrieval": True}))
    none.measure(None, None)
    assert none.statistics == {}
