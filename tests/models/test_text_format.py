"""Another system's texts through training, decoding and the chat: what lies below must take nothing of SPT's.

Its dialogues are lines `NUMBER<TAB>UTTERANCE`, of which each is modelled, the first one too; its ids are built without
a template; replies are shouted, and a colon is a word like any other.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from dataset.batch import Collator
from dataset.dialogue import Example
from dataset.encoding import EncodedExample
from dataset.text import STOP_CHARACTERS, cut_response
from models.baselines.full_finetuning import build_full_finetuning
from models.decoding import chat as chat_module
from models.decoding import decode as decode_module
from models.decoding.chat import Conversation
from models.decoding.decode import DecodeOptions, decode_examples, decode_runs
from models.decoding.generation import Reply
from models.model_type import ModelType
from models.reading import make_collator, make_loader, texts_of
from models.registry import MODEL_TYPES, build_tokenizer
from models.settings import PlainConfig
from models.text_format import TextFormat
from tests.helpers import json_rows, logged, model_of, train
from utils.errors import UserError

TURNS = {"train": ["hi", "hello there", "do you ski ?", "i do : a lot ."], "valid": ["hey", "hey you", "bye"]}


def read_tabs(path, config, ratio=1.0, only_longest=False):
    """An example per line; `ratio` and `only_longest` as in the other formats."""
    dialogues: dict[str, list[str]] = {}
    for line in Path(path).read_text("utf-8").splitlines():
        number, _, text = line.partition("\t")
        dialogues.setdefault(number, []).append(text)
    kept = list(dialogues.values())[: max(1, round(len(dialogues) * ratio))]
    return [
        Example((), tuple(turns[:turn]), turns[turn], number, turn, f"{path}: dialogue {number}")
        for number, turns in enumerate(kept)
        for turn in (range(len(turns)) if not only_longest else [len(turns) - 1])
    ]


class TurnEncoder:
    """bos, then each turn and eos."""

    drops_turns = True

    def __init__(self, tokenizer, config, max_tokens, response_only):
        self.tokenizer, self.bos, self.eos = tokenizer, tokenizer.bos_token_id, tokenizer.eos_token_id
        self.pad, self.max_tokens = self.eos, max_tokens or config.dataset.max_token_length

    def encode(self, examples, with_response):
        """Nothing is cut."""
        return [self._encoded(index, example, with_response) for index, example in enumerate(examples)]

    def _encoded(self, index, example, with_response):
        ids = [self.bos]
        for turn in example.context:
            ids += [*self.tokenizer(turn, add_special_tokens=False).input_ids, self.eos]
        start = len(ids)
        if with_response:
            ids += [*self.tokenizer(example.response, add_special_tokens=False).input_ids, self.eos]
        targets = ((start, len(ids)),) if with_response else ()
        return EncodedExample(np.array(ids, dtype=np.int32), start, targets, "", example.dialogue, index)


def turn_collator(encoder, config, decoding, pair_labels):
    """Rows are always shared in training."""
    return Collator(pad_id=encoder.pad, share_rows=not decoding)


MODEL_TYPE = ModelType(
    config=PlainConfig,
    build=build_full_finetuning,
    texts=TextFormat(
        read_examples=read_tabs,
        make_encoder=TurnEncoder,
        make_collator=turn_collator,
        cut=str.upper,
        stop_characters=(),
    ),
)


@pytest.fixture
def config(make_config, monkeypatch, tmp_path):
    """The configuration of the other system, on a tiny LM."""
    monkeypatch.setitem(MODEL_TYPES, "turns", __name__)
    files = {}
    for name, turns in TURNS.items():
        lines = [f"{number}\t{turn} {number}\n" for number in range(4) for turn in turns]
        files[name] = str(tmp_path / f"{name}.tsv")
        Path(files[name]).write_text("".join(lines), encoding="utf-8")
    return make_config(model={"model_type": "turns"}, dataset=files)


def test_spts_texts_are_the_default(make_config):
    """A type that says nothing about its texts would be decoded with the cut or the file format of another."""
    for name in ("selective_pt", "textual"):
        texts = texts_of(make_config(model={"model_type": name}))
        assert texts == TextFormat()
        assert (texts.cut, texts.stop_characters) == (cut_response, STOP_CHARACTERS)


def test_batches_are_those_of_the_type(config):
    """SPT's reader or template in one of the steps would train on texts that the system never sees again."""
    tokenizer = build_tokenizer(config)
    config = config.replaced({"training": {"batch_size": 8, "shuffle_train": False, "training_ratio": 0.5}})
    batches = list(make_loader(config.dataset.train, tokenizer, config, train=True))
    assert sum(batch.num_examples for batch in batches) == 8  # two of four dialogues, four turns each
    assert sum(len(batch.input_ids) for batch in batches) == 2  # rows are shared
    texts = [tokenizer.decode(row, skip_special_tokens=True) for batch in batches for row in batch.input_ids]
    assert sorted(texts) == [
        "".join(f"{turn} {number}" for turn in TURNS["train"]).strip() for number in range(2)
    ]
    longest = config.replaced({"training": {"only_longest": True}})
    (batch,) = make_loader(config.dataset.valid, tokenizer, longest, train=False)
    assert batch.num_examples == 4


def test_a_run_of_another_system(config, distributed):
    """Decoding that reads the file by `dataset.format`, or cuts at SPT's marks, would score other replies."""
    run = train(config, distributed, "turns")
    assert logged(run, "valid_epoch")
    decode_runs([run], distributed)
    rows = json_rows(run / "evaluation_result.jsonl")
    expected = read_tabs(config.dataset.valid, config)
    assert [(row["target"], row["turn"], row["dialogue"]) for row in rows] == [
        (example.response, example.turn, example.dialogue) for example in expected
    ]
    # the first turn of a dialogue has nothing before it
    assert [row["context"] for row in rows[:3]] == [[], ["Q: hey 0"], ["R: hey 0", "Q: hey you 0"]]
    assert all(row["prediction"] == row["raw_prediction"].upper() for row in rows)
    assert "context: \npersona: \n" in (run / "evaluation_result.txt").read_text("utf-8")
    losses = [row["llm"] for row in logged(run, "valid_epoch")]
    tokens = sum(row["nll_tokens"] for row in rows)
    assert sum(row["nll"] for row in rows) / tokens == pytest.approx(min(losses), rel=1e-4)


@pytest.mark.parametrize("name", ["turns", "textual"])
def test_what_stops_a_reply_is_the_types(config, name, distributed, examples, monkeypatch):
    """With SPT's characters a system whose replies hold colons would be cut at the first one."""
    config = config.replaced({"model": {"model_type": name}})
    model, seen = model_of(config), []

    def generate(model, batch, scores, choice, settings, stopping, seed, targets):
        seen.extend(stopping)
        return [Reply("a : b", None, None)] * len(batch.indices)

    monkeypatch.setattr(decode_module, "generate_replies", generate)
    rows = decode_examples(model, config, examples[:2], distributed, DecodeOptions())
    (criterion,) = seen
    every = torch.arange(len(model.tokenizer))[:, None]
    assert bool(criterion(every, None).any()) == (name == "textual")
    assert rows[0]["prediction"] == ("A : B" if name == "turns" else "a ")


def test_the_chat_has_the_texts_of_the_type(config, monkeypatch):
    """A chat that asks in SPT's words speaks to the LM of another system as nobody ever has."""
    model, asked = model_of(config), []

    def generate(model, batch, scores, choice, settings, seed):
        asked.append(model.tokenizer.decode(batch.input_ids[0]))
        return [Reply("a : b", None, None)]

    monkeypatch.setattr(chat_module, "generate_replies", generate)
    chat = Conversation(model, config, list, torch.device("cpu"))
    assert chat.answer("hello") == ["bot> A : B"]
    assert chat.answer("and ?") == ["bot> A : B"]
    assert asked == ["<s>hello</s>", "<s>hello</s>A : B</s>and ?</s>"]


def test_pairs_are_labelled_for_training_alone(make_config):
    """Labels that are made for no loss cost a BLEU per pair of examples, in the validation too."""
    config = make_config()
    encoder = texts_of(config).make_encoder(build_tokenizer(config), config, None, False)
    assert make_collator(encoder, config).pair_labels is not None
    assert make_collator(encoder, config, label_pairs=False).pair_labels is None
    assert make_collator(encoder, config, decoding=True).pair_labels is None


def test_a_file_without_examples_is_told(config, tmp_path, monkeypatch):
    """An empty list used to end in numpy's words about an empty array."""
    texts = TextFormat(read_examples=lambda *arguments: [], make_encoder=TurnEncoder)
    monkeypatch.setitem(globals(), "MODEL_TYPE", ModelType(PlainConfig, build_full_finetuning, texts=texts))
    with pytest.raises(UserError, match=r"valid\.tsv: no example"):
        make_loader(config.dataset.valid, build_tokenizer(config), config, train=False)
