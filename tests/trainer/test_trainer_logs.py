"""What the trainer sums up and writes: tallies, the rows of its logs, losses that are not numbers."""

import math
from dataclasses import replace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models.feedback import feedback_reducers
from models.trainable import StepOutput
from tests.helpers import json_rows, train
from trainer import loop
from trainer.logs import RunLog, Tally
from trainer.loop import Trainer
from utils.errors import UserError


def _output(loss, tokens, counts, agreements):
    diagnostics = {"usage": torch.tensor(counts), "agreement": torch.tensor([agreements, sum(counts)])}
    loss = torch.tensor(loss)
    return StepOutput(
        loss, {"llm": loss, "fusion": loss}, {"llm": tokens, "fusion": sum(counts)}, diagnostics
    )


def _total(losses):
    return losses["llm"] + 2 * losses["fusion"]


def test_a_tally_weights_each_loss_by_what_it_is_a_mean_over(distributed):
    """Means of means: 10 tokens in 3 examples of loss 2, 30 tokens in one of loss 6; no mean is 4, as of batches."""
    tally = Tally(feedback_reducers("prompt"))
    tally.add(_output(2.0, 10, [2, 1, 0], 1), 3)
    tally.add(_output(6.0, 30, [1, 0, 0], 1), 1)
    row = tally.read(distributed, _total)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert row == {
        "examples": 4,
        "total": 11.0,
        "llm": 5.0,
        "fusion": 3.0,
        "prompt_share": [0.75, 0.25, 0.0],
        "prompt_entropy": pytest.approx(entropy),
        "agreement": 0.5,
    }


def test_a_tally_of_a_model_without_choice(distributed):
    """Prompt tuning has no retriever: its rows have losses and nothing about prompts."""
    tally = Tally()
    tally.add(StepOutput(torch.tensor(1.5), {"llm": torch.tensor(1.5)}, {"llm": 7}), 2)
    assert tally.read(distributed, lambda losses: losses["llm"]) == {"examples": 2, "total": 1.5, "llm": 1.5}


def test_a_batch_that_was_counted_elsewhere_adds_nothing(distributed):
    """A rank that repeats an example, so that it has a batch in every step, would count it twice."""
    tally = Tally(feedback_reducers("prompt"))
    tally.add(_output(2.0, 10, [1, 0], 1), 1)
    alone = tally.read(distributed, _total)
    tally.add(_output(6.0, 30, [0, 1], 1), 0)
    assert tally.read(distributed, _total) == alone


def test_a_loss_without_anything_to_take_a_mean_over(distributed):
    """Batches of one example have no pair: a division of 0 by 0 would end the run as a loss that is no number."""
    tally = Tally()
    tally.add(StepOutput(torch.tensor(0.0), {"contrastive": torch.tensor(0.0)}, {"contrastive": 0}), 1)
    assert tally.read(distributed, lambda losses: losses["contrastive"])["contrastive"] == 0


def test_losses_of_the_file_enter_the_total(distributed):
    """A total without them would choose the best checkpoint by another figure than the one that is logged."""
    tally = Tally()
    tally.add(StepOutput(torch.tensor(1.5), {"llm": torch.tensor(1.5)}, {"llm": 7}), 2)
    row = tally.read(distributed, _total, {"fusion": 0.5})
    assert (row["total"], row["fusion"]) == (2.5, 0.5)


def test_reading_a_tally_twice_gives_the_same(distributed):
    """Sums that are reduced in place would be counted again."""
    tally = Tally(feedback_reducers("prompt"))
    tally.add(_output(2.0, 10, [2, 1], 3), 3)
    assert tally.read(distributed, _total) == tally.read(distributed, _total)


def test_one_prompt_for_everything_has_entropy_zero_and_no_sign(distributed):
    """-0.0 in a log reads like an error."""
    tally = Tally(feedback_reducers("prompt"))
    tally.add(_output(1.0, 10, [0, 4], 0), 4)
    assert math.copysign(1, tally.read(distributed, _total)["prompt_entropy"]) == 1


def test_only_the_main_process_writes_logs(tmp_path, distributed):
    """Two ranks that append to one file garble its lines."""
    other = RunLog(tmp_path, replace(distributed, rank=1))
    other.write("train", 1, {"total": 1.0})
    other.close()
    assert list(tmp_path.iterdir()) == []


def test_the_best_validation_loss_decides_what_is_kept(make_config, distributed, monkeypatch):
    """The last epoch's weights under the name of the best make every later number wrong."""
    kept, losses = [], iter([3.0, 2.0, 2.5, 2.0])
    monkeypatch.setattr(Trainer, "_validate", lambda self, epoch: {"total": next(losses)})
    tags = []

    def save_trained(model, folder, distributed, metadata):
        kept.append(metadata)
        tags.append("trained part")

    monkeypatch.setattr(loop, "save_trained", save_trained)
    monkeypatch.setattr(
        loop, "save_checkpoint", lambda *_: tags.append("best and latest" if _[-1] else "latest")
    )
    train(make_config(training={"training_ratio": 0.1, "num_epochs": 4}), distributed, "best")
    better = ["trained part", "best and latest"]  # what is needed most first, should the disk fill up
    assert tags == [*better, *better, "latest", "latest"]
    assert [(metadata["validation_loss"], metadata["steps"]) for metadata in kept] == [(3.0, 2), (2.0, 4)]
    assert {metadata["best_by"] for metadata in kept} == {"total validation loss"}


def test_a_full_disk_is_one_line(tmp_path, distributed):
    """A training of days would end in a traceback that does not name the disk."""
    log = RunLog(tmp_path, distributed)
    log.file = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115
    with pytest.raises(UserError, match=r"cannot write .*metrics\.jsonl: No space left"):
        log.write("train", 1, {"total": 1.0})
    with pytest.raises(UserError, match="No space left"):
        log.close()


def test_curves_of_a_run_that_was_resumed_have_no_doubles(tmp_path, distributed):
    """TensorBoard would draw the steps between the checkpoint and the kill twice, as a line that runs back."""
    log = RunLog(tmp_path, distributed)
    log.write("train", 1, {"total": 1.0})
    lengths = log.lengths()
    log.write("train", 2, {"total": 2.0})
    log.close()
    for name in (
        f"events.out.tfevents.{number}.host" for number in (1, 9999999999)
    ):  # of stops before any save
        (tmp_path / name).write_bytes(b"x")
    log = RunLog(tmp_path, distributed, lengths)
    log.write("train", 2, {"total": 3.0})
    log.close()
    curves = EventAccumulator(str(tmp_path)).Reload()
    assert [(point.step, point.value) for point in curves.Scalars("Loss-0/train")] == [(1, 1.0), (2, 3.0)]
    assert not list(tmp_path.glob("*.host"))
    assert [row["total"] for row in json_rows(tmp_path / "metrics.jsonl")] == [1.0, 3.0]
