"""The validation loss: the same weights give the same figures, however the file is cut."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from sacrebleu.metrics import BLEU

from dataset.loading import Ranks
from dataset.similarity import fixed_pairs
from models.reading import make_loader
from models.trainable import StepOutput
from tests.helpers import BareEngine, logged, model_of, train
from trainer.logs import Tally
from trainer.validation import FileOutputs, validate
from utils.distributed import DistributedContext

SETTINGS = {"selective_loss_weight": 0.3, "contrastive_weight": 0.6, "tau_gold": 0.05, "tau_sim": 0.1}
CUTS = [{"batch_size": 1}, {"batch_size": 3}, {"batch_size": 28}, {"batch_size": 5, "rows": "dialogue"}]


class _ThreadContext(DistributedContext):
    """A rank that is a thread: sums meet at a barrier."""

    barrier, parts = threading.Barrier(2), [None, None]

    def sum(self, tensor):
        self.parts[self.rank] = tensor
        self.barrier.wait()
        total = self.parts[0] + self.parts[1]
        self.barrier.wait()
        return total

    def gather(self, value):
        self.parts[self.rank] = value
        self.barrier.wait()
        values = list(self.parts)
        self.barrier.wait()
        return values


@pytest.fixture(scope="module")
def models():
    """The weights, made once, by model type."""
    return {}


@pytest.fixture
def row_of(make_config, models, distributed):
    """row_of(ranks, model_type, batch_size=.., rows=..): what validation gives, with the same weights each time."""

    def run(ranks=1, model_type="selective_pt", **training):
        settings = SETTINGS if model_type == "selective_pt" else {}
        config = make_config("opt", model={"model_type": model_type}, training=settings | training)
        torch.manual_seed(5)
        model = model_of(config)

        def one(rank):
            loader = make_loader(
                config.dataset.valid, model.tokenizer, config, False, Ranks(rank, ranks), max_tokens=380
            )
            here = _ThreadContext(rank, rank, 2, distributed.device) if ranks == 2 else distributed
            return validate(BareEngine(model), loader, here)

        with ThreadPoolExecutor(ranks) as pool:
            rows = list(pool.map(one, range(ranks)))
        assert all(row == rows[0] for row in rows)
        return rows[0]

    return run


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_batches_ranks_and_rows_change_nothing(row_of, cut, ranks):
    """Means of batches' means said 8.31 to 8.72 of the same weights: no two runs could be compared."""
    row, wanted = row_of(ranks, **cut), row_of(batch_size=4)
    assert row.keys() == wanted.keys()
    assert {"total", "llm", "selection", "fusion", "contrastive"} < row.keys()
    for name, value in wanted.items():
        assert row[name] == pytest.approx(value, rel=1e-5, abs=1e-7), name


def test_a_model_without_choice_is_weighted_by_tokens_too(row_of):
    """The baselines that SPT is compared with would be measured by another mean."""
    wanted = row_of(model_type="prompt_tuning", batch_size=4)
    assert row_of(2, "prompt_tuning", batch_size=3) == pytest.approx(wanted, rel=1e-5)


def test_the_figures_are_those_of_the_whole_file_as_one_batch(row_of, make_config, distributed):
    """Equal in every cut, and still wrong: a mean over examples where the loss is one over tokens."""
    row = row_of(batch_size=4)
    config = make_config("opt", training=SETTINGS | {"batch_size": 28})
    torch.manual_seed(5)
    model = model_of(config)
    (batch,) = make_loader(config.dataset.valid, model.tokenizer, config, False, max_tokens=380)
    whole = model(batch)
    assert "contrastive" not in whole.losses
    for name, loss in whole.losses.items():
        assert row[name] == pytest.approx(loss.item(), rel=1e-5, abs=1e-7)
    total = row["llm"] + 0.3 * row["selection"] + row["fusion"] + 0.6 * row["contrastive"]
    assert row["total"] == pytest.approx(total, rel=1e-6)


def test_the_contrastive_loss_is_that_of_the_files_pairs(row_of, make_config):
    """Labels or scores of another pair give a plausible number; here each pair is done by hand."""
    config = make_config("opt", training=SETTINGS | {"batch_size": 28})
    torch.manual_seed(5)
    model = model_of(config)
    loader = make_loader(config.dataset.valid, model.tokenizer, config, False, max_tokens=380)
    examples, bleu, losses, labels = loader.dataset.examples, BLEU(effective_order=True), [], set()
    (batch,) = loader
    scores = model.scores(batch.query).detach()[:, batch.indices.argsort()]  # [K, n] in the order of the file
    for first, second in fixed_pairs(28).T:
        cosine = torch.cosine_similarity(scores[:, first], scores[:, second], dim=0).item()
        texts = examples[first].persona, [examples[second].persona]
        same = bleu.sentence_score(*texts).score > config.training.contrastive_threshold
        labels.add(same)
        losses.append(1 - cosine if same else max(0.0, cosine))
    assert labels == {True, False}
    assert row_of(batch_size=4)["contrastive"] == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_switches_of_the_contrastive_loss_reach_validation(row_of):
    """An ablation whose best checkpoint is still chosen by the loss that it leaves out."""
    for off in ({"only_nll": True}, {"contrastive": False}, {"contrastive_metric": None}):
        assert "contrastive" not in row_of(**off)


@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_fixed_pairs(size):
    """A pair of an example with itself is always similar, and pairs that change make the loss jump."""
    pairs = fixed_pairs(size)
    assert pairs.shape == (2, 2 * size - 1 if size > 1 else 0)
    assert (pairs[0] < pairs[1]).all()
    assert set(pairs.flatten().tolist()) == (set(range(size)) if size > 1 else set())
    assert (pairs == fixed_pairs(size)).all()
    if size == 50:
        assert pairs[:, 49:52].tolist() == [[0, 1, 2], [45, 49, 3]]  # the same draw for ever


@pytest.mark.parametrize("indices", [[0, 1], [0, 1, 1], [0, 2, 2]])
def test_an_example_that_is_lost_or_doubled_is_not_passed_over(distributed, indices):
    """A row of zeros in the place of a lost example would be read as its scores."""
    outputs = FileOutputs(3)
    outputs.add(torch.tensor(indices), torch.ones(len(indices), 2))
    with pytest.raises(RuntimeError, match="came twice, or never"):
        outputs.read(distributed)


def test_validation_is_in_evaluation_mode_and_training_is_not(make_config, distributed):
    """Noise or dropout in the validation loss chooses the best checkpoint by luck; without them in training."""
    settings = {"training_ratio": 0.2, "num_epochs": 2, "learning_rate": 1e-12, "shuffle_train": False}
    rows = {}
    for noise in (0.5, None):
        run = train(make_config(training=settings | {"adding_noise": noise}), distributed, f"noise{noise}")
        for phase in ("train_epoch", "valid_epoch"):
            rows[noise, phase] = [row["selection"] for row in logged(run, phase)]
    quiet = rows[None, "valid_epoch"][0]
    assert rows[0.5, "valid_epoch"] == pytest.approx([quiet, quiet], rel=1e-5)
    for noisy, plain in zip(rows[0.5, "train_epoch"], rows[None, "train_epoch"], strict=True):
        assert abs(noisy - plain) > 1e-3


def test_ranks_agree_on_what_they_sum_up(distributed):
    """One rank had nothing to say about a loss: the sums were mixed up, or the ranks' collective broke."""

    def read(rank):
        tally = Tally({"seen": lambda total, count: {"seen": total.tolist()}})
        mine = {"llm": torch.tensor(1.0), ("first", "second")[rank]: torch.tensor(5.0 + rank)}
        diagnostics = {"seen": torch.ones(2)} if rank else {}
        tally.add(StepOutput(torch.tensor(0.0), mine, dict.fromkeys(mine, 4), diagnostics), 4)
        return tally.read(_ThreadContext(rank, rank, 2, distributed.device), lambda losses: losses["llm"])

    with ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(read, range(2)))
    wanted = {"examples": 8, "total": 1.0, "first": 5.0, "llm": 1.0, "second": 6.0, "seen": [1.0, 1.0]}
    assert rows == [wanted, wanted]
