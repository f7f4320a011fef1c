"""Both stages on files: what is read, trained, validated, said and kept."""

import pytest
import torch
from transformers import AutoTokenizer

from companions.personagpt import register_personagpt
from companions.personagpt.task import persona_task
from companions.personagpt.tokens import ADDED, make_tokenizer
from dataset import encoded_cache
from dataset.encoded import EncodedTable
from models.configuration import build_config
from models.decoding.batch_size import depends_on_batch_size
from models.lm.language_model import base_lm_folder, load_language_model
from models.registry import build_model
from tests.companions.personagpt.golden import GOLDEN
from tests.helpers import logged
from trainer.training import train
from utils.distributed import DistributedContext
from utils.errors import UserError

DATA = GOLDEN / "preprocess"
FILES = {
    "train": str(DATA / "dialogues.txt"),
    "valid": str(DATA / "edge.txt"),
    "actions": str(DATA / "active_learning_data.csv"),
    "max_utterances": 6,
}


@pytest.fixture
def make(lm_folder, tmp_path):
    """make(model={...}, training={...}, dataset={...}): a configuration on a tiny LM."""
    register_personagpt()

    def build(family="gpt2", **sections):
        base = {
            "model": {"model_type": "personagpt", "model_name": str(lm_folder(family))},
            "training": {"log_dir": str(tmp_path / "runs"), "batch_size": 16, "log_every": 1},
            "dataset": {**FILES, "max_token_length": 384},
        }
        return build_config([("base", base), ("test", sections)])

    return build


class _OneOfTwo(DistributedContext):
    """A rank whose other one says what it says."""

    def gather(self, value):
        """The same of both."""
        return [value] * self.size


@pytest.fixture
def lines(capsys):
    """lines(): what was printed since."""
    return lambda: capsys.readouterr().out.splitlines()


@pytest.mark.slow
def test_pretrain_leaves_an_lm_that_a_later_run_takes(make, distributed, lines):
    """A run that keeps its LM in a form of its own cannot be trained further, nor talked to."""
    config = make()
    run = train(persona_task(config), distributed, "pretrain")
    said = lines()
    assert any("6 rows added to the token table" in line for line in said)
    assert any("dialogues.txt: 12 dialogues (0 discarded)" in line for line in said)
    assert any("duplicates" in line for line in said)
    assert any(line.endswith("rows: dialogue") for line in said)
    [row] = logged(run, "valid_epoch")
    names = {"phase", "step", "epoch", "examples", "total", "pretrain_loss", "token_perplexity"}
    assert row.keys() == names
    later = make(model={"model_name": str(run)})
    tokenizer = make_tokenizer(later.model)
    lm = load_language_model(later.model).model
    assert len(tokenizer) == lm.get_input_embeddings().weight.shape[0]
    with torch.no_grad():
        model = build_model(later, tokenizer).eval()
        rows = [
            [model(batch).total.item() * batch.num_examples, batch.num_examples]
            for batch in persona_task(later).prepare(distributed).valid
        ]
    assert sum(count for _, count in rows) == row["examples"]
    assert sum(loss for loss, _ in rows) / row["examples"] == pytest.approx(row["total"], rel=1e-5)
    kept = AutoTokenizer.from_pretrained(base_lm_folder(run))
    assert kept("<|p1|>hi<|sep|>").input_ids[0] == tokenizer.get_vocab()[ADDED[3]]
    assert not (run / "trained.safetensors").exists()


@pytest.mark.slow
def test_control_trains_on_both_and_validates_each_example_once(make, distributed, lines):
    """A figure of one stream alone would choose the checkpoint that forgot the other."""
    valid = {"valid_actions": FILES["actions"]}
    config = make(training={"stage": "control"}, dataset=valid)
    run = train(persona_task(config), distributed, "control")
    assert any("active_learning_data.csv: 32 examples beside" in line for line in lines())
    [row], [epoch] = logged(run, "valid_epoch"), logged(run, "train_epoch")
    prepared = persona_task(config).prepare(distributed)
    examples = [number for batch in prepared.valid for number in batch.indices.tolist()]
    assert sorted(examples) == list(range(len(prepared.valid.dataset)))
    assert row["examples"] == len(examples)
    assert row["total"] == pytest.approx(row["persona_loss"] + row["ctrl_loss"])
    assert {"persona_perplexity", "ctrl_perplexity"} <= row.keys()
    assert epoch["examples"] == len(prepared.train.dataset)
    assert len(logged(run, "train")[0]["lr"]) == 4
    [alone] = logged(
        train(persona_task(make(training={"stage": "control"})), distributed, "x"), "valid_epoch"
    )
    assert "ctrl_loss" not in alone
    assert alone["examples"] == row["examples"] - 32


@pytest.mark.parametrize("stage", ["pretrain", "control"])
def test_an_overlap_is_told(make, distributed, stage):
    """Validation on dialogues that were trained on says nothing, and chooses the checkpoint that remembers most."""
    config = make(training={"stage": stage}, dataset={"valid": FILES["train"]})
    assert "stand in" in persona_task(config).prepare(distributed).warnings["overlap"]
    assert not persona_task(make(training={"stage": stage})).prepare(distributed).warnings


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pretrain", "control"])
def test_the_releases_stages_run_on_files(make, distributed, stage):
    """Two eos, its updates and its names: the switch must reach all of them, not the losses alone."""
    training = {"stage": stage, "num_epochs": 2}
    config = make(model={"fidelity": "released_code"}, training=training, dataset={"drop_duplicates": False})
    run = train(persona_task(config), distributed, "released")
    prepared = persona_task(config).prepare(distributed)
    number = prepared.train.batch_sampler
    updates = logged(run, "train")
    assert len(updates) == 2 * len(number)
    left = (lambda batch: batch) if stage == "pretrain" else (lambda batch: batch.old)
    sizes = [left(batch).num_examples for batch in prepared.train]
    assert sizes == [16] * len(sizes)
    prepared.train.batch_sampler.set_epoch(1)
    first = left(next(iter(prepared.train)))
    assert 16 < first.num_examples < 32
    eos = prepared.module.tokenizer.eos_token_id
    assert ((first.input_ids[:, 1:] == eos) & (first.input_ids[:, :-1] == eos)).any()


def test_released_code_is_for_one_rank(make):
    """Two ranks would each leave examples over, which the release never had."""
    config = make(model={"fidelity": "released_code"})
    two = DistributedContext(rank=0, local_rank=0, size=2, device=torch.device("cpu"))
    with pytest.raises(UserError, match="released_code trains on one rank, as the release did; here are 2"):
        persona_task(config).prepare(two)


def test_two_ranks_share_the_new_examples(make):
    """Ranks with the same examples of action codes would see half of them, in the order of the file at that."""
    config = make(training={"stage": "control"})
    seen = []
    for rank in (0, 1):
        context = _OneOfTwo(rank=rank, local_rank=0, size=2, device=torch.device("cpu"))
        loader = persona_task(config).prepare(context).train
        seen.append([int(number) for batch in loader for number in batch.new.indices])
    assert not any(first == second for first, second in zip(*seen, strict=False))
    assert all(part[:16] != sorted(part[:16]) for part in seen)
    first_pass = [number for pair in zip(*seen, strict=False) for number in pair][:32]
    assert len(set(first_pass)) == 32


@pytest.mark.parametrize("fidelity", ["paper", "released_code"])
def test_a_large_file_is_kept_encoded(make, distributed, tmp_path, monkeypatch, fidelity):
    """Batches from a kept file must be those from memory; those of the other fidelity have other targets."""
    texts = {"model": {"fidelity": fidelity}, "dataset": {"cache_dir": str(tmp_path / "kept")}}
    direct = persona_task(make(**texts)).prepare(distributed).train
    monkeypatch.setattr(encoded_cache, "SMALL", 0)
    for other in ("paper", "released_code"):  # what the one has left is there when the other comes
        persona_task(make(**{**texts, "model": {"fidelity": other}})).prepare(distributed)
    kept = persona_task(make(**texts)).prepare(distributed).train
    assert isinstance(kept.dataset.examples, EncodedTable)
    for one, other in zip(direct, kept, strict=True):
        assert torch.equal(one.input_ids, other.input_ids)
        assert torch.equal(one.target_ids, other.target_ids)
        assert torch.equal(one.indices, other.indices)


def test_no_retriever_reads_the_padding(make):
    """Decoding would be held to batches of 16, for a retriever that PersonaGPT has not."""
    assert depends_on_batch_size(make(model={"fidelity": "released_code"})) is None


def test_an_lm_without_room_is_told_by_line(make, distributed):
    """Positions that do not hold facts, turn and answer would be an index error, or a prompt without its facts."""
    with pytest.raises(
        UserError, match=r"dialogues.txt:\d+: facts or action code, newest turn and answer do not"
    ):
        persona_task(make(dataset={"max_token_length": 30})).prepare(distributed)


def test_texts_that_are_cut_are_noted(make, distributed):
    """The LM's positions cut silently what the configuration asks for."""
    prepared = persona_task(make(dataset={"max_token_length": 1024})).prepare(distributed)
    assert "texts are cut to 384 tokens, not 1024: the LM's positions" in prepared.notes


def test_a_checkpoint_to_start_from_is_refused_with_the_right_way(make, distributed, tmp_path):
    """Such a run has no trained part: the message about a missing file would lead nowhere."""
    with pytest.raises(UserError, match=r"--ckpt_path old: .* use --set model.model_name=old"):
        train(persona_task(make()), distributed, "x", ckpt_path="old")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("key", ["train", "valid", "actions", "valid_actions"])
def test_files_are_looked_at_before_anything_is_trained(make, key):
    """The second of two runs would find out hours later."""
    config = make(training={"stage": "control"}, dataset={key: "no/such/file.csv"})
    with pytest.raises(UserError, match="no/such/file.csv"):
        persona_task(config)


def test_the_configuration_needs_actions_for_control(make):
    """A stage without its data would train on dialogues under another name."""
    with pytest.raises(UserError, match="training.stage: control needs dataset.actions"):
        make(training={"stage": "control"}, dataset={"actions": None})


@pytest.mark.slow
def test_rows_give_the_same_training_however_they_are_shared(make, distributed):
    """Sharing that is not exact would be another training, only faster."""
    rows = {}
    for kind in ("example", "dialogue"):
        config = make(training={"rows": kind, "shuffle_train": False, "batch_size": 1000})
        rows[kind] = logged(train(persona_task(config), distributed, kind), "valid_epoch")[0]["total"]
    assert rows["example"] == pytest.approx(rows["dialogue"], rel=1e-5)
