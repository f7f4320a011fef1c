"""Kept encodings: made once, found again for the same texts only, never read when they are not whole."""

import json
from functools import partial

import numpy as np
import pytest
from datasets import Dataset

from dataset import encoded_cache
from dataset.encoded import EncodedTable
from dataset.encoding import ExampleEncoder
from tests.conftest import head_of


def _fields(example):
    return (
        example.ids.tolist(),
        example.query_end,
        example.targets,
        example.persona,
        example.dialogue,
        example.index,
    )


@pytest.mark.parametrize("with_response", [True, False])
def test_kept_examples_are_those_that_the_encoder_gives(case, with_response):
    """Ids, borders and places from several processes must be those of one, or runs would not repeat."""
    case.with_response = with_response
    kept = case.open()
    direct = case.encoder().encode(case.source.read(), with_response)
    assert isinstance(kept, EncodedTable)
    assert len(kept.batches) > 2
    assert list(map(_fields, kept)) == list(map(_fields, direct))
    assert kept[0].ids.dtype == np.int32


def test_a_second_opening_encodes_nothing(case, no_encoding, capfd):
    """Encoding on every launch is what the kept files are there to save; nothing is said of it, and no bar shown."""
    first = list(map(_fields, case.open()))
    assert "encoding" in capfd.readouterr().err
    no_encoding()
    assert list(map(_fields, case.open())) == first
    assert capfd.readouterr() == ("", "")


def test_only_the_main_process_shows_progress(case, capfd):
    """Eight bars on one screen overwrite one another."""
    case.is_main = False
    case.open()
    assert capfd.readouterr() == ("", "")


def test_what_is_kept_is_data_that_the_datasets_library_reads(case):
    """Other tools read the same file; a pickle in the folder could run somebody's code."""
    kept = case.open()
    (folder,) = case.folders
    assert sorted(path.name for path in folder.iterdir()) == ["examples.arrow", "key.json"]
    rows = Dataset.from_file(str(folder / "examples.arrow"))
    assert [row["ids"] for row in rows] == [example.ids.tolist() for example in kept]


class _Lower(ExampleEncoder):
    """Another encoder, with a setting of its own."""

    def __init__(self, *arguments, lower=False, **named):
        super().__init__(*arguments, **named)
        self.lower = lower


def _other_file(case, monkeypatch):
    case.path.write_text(head_of(case.path, 11), encoding="utf-8")


def _other_reading(case, monkeypatch):
    case.settings = {"ratio": 0.5}


def _other_length(case, monkeypatch):
    case.make_encoder = partial(ExampleEncoder, max_tokens=301)


def _other_targets(case, monkeypatch):
    case.make_encoder = partial(ExampleEncoder, max_tokens=300, response_only=False)
    case.config = case.config.replaced({"training": {"freeze_context": False}})


def _other_class(case, monkeypatch):
    case.make_encoder = partial(_Lower, max_tokens=300)


def _other_side(case, monkeypatch):
    case.with_response = False


def _other_tokenizer(case, monkeypatch):
    case.tokenizer.add_tokens(["the"])


def _other_release(case, monkeypatch):
    monkeypatch.setattr("tokenizers.__version__", "0.0.1")


def _other_code(case, monkeypatch):
    hash_of = encoded_cache.file_sha256
    changed = lambda path: "changed" if str(path).endswith("text.py") else hash_of(path)  # noqa: E731
    monkeypatch.setattr(encoded_cache, "file_sha256", changed)


@pytest.mark.parametrize(
    "change",
    [
        _other_file,
        _other_reading,
        _other_length,
        _other_targets,
        _other_class,
        _other_side,
        _other_tokenizer,
        _other_release,
        _other_code,
    ],
)
def test_whatever_changes_the_ids_is_encoded_anew(case, change, monkeypatch):
    """A run on the ids of another setting trains on texts that its configuration does not name."""
    case.open()
    change(case, monkeypatch)
    changed = case.open()
    assert len(case.folders) == 2
    direct = case.encoder().encode(case.source.read(), case.with_response)
    assert list(map(_fields, changed)) == list(map(_fields, direct))


def test_a_setting_of_a_subclass_belongs_to_the_key(case):
    """An encoder of somebody's own whose setting is not asked for would be given the ids of another setting."""
    keys = []
    for lower in (False, True):
        case.make_encoder = partial(_Lower, max_tokens=300, lower=lower)
        keys.append(encoded_cache.key_of(case.source, case.encoder(), case.tokenizer, True))
    assert keys[0] != keys[1]


def test_what_an_earlier_call_set_in_the_tokenizer_is_not_part_of_the_key(case, no_encoding):
    """Padding that a library switched on for a text of its own would make every launch encode."""
    case.open()
    no_encoding()
    case.tokenizer(["a", "b c"], padding=True, truncation=True, max_length=5)
    case.open()


def _without_key(folder):
    (folder / "key.json").unlink()


def _with_half_a_key(folder):
    text = (folder / "key.json").read_text()
    (folder / "key.json").write_text(text[: len(text) // 2])


def _with_another_key(folder):
    content = json.loads((folder / "key.json").read_text())
    content["key"]["file_sha256"] = "0" * 64
    (folder / "key.json").write_text(json.dumps(content))


def _with_a_list(folder):
    (folder / "key.json").write_text("[" * 50000)


def _with_half_the_rows(folder):
    rows = (folder / "examples.arrow").read_bytes()
    (folder / "examples.arrow").write_bytes(rows[: len(rows) // 2])


def _with_another_byte(folder):
    rows = bytearray((folder / "examples.arrow").read_bytes())
    rows[len(rows) // 2] ^= 1
    (folder / "examples.arrow").write_bytes(rows)


def _without_rows(folder):
    (folder / "examples.arrow").unlink()


def _with_another_count(folder):
    content = json.loads((folder / "key.json").read_text())
    content["num_examples"] += 1
    (folder / "key.json").write_text(json.dumps(content))


def _empty(folder):
    _without_key(folder)
    _without_rows(folder)


def _with_a_foreign_id(folder):
    """As somebody would who knows how the files are made."""
    rows = (folder / "examples.arrow").read_bytes()
    ids = EncodedTable(folder / "examples.arrow", 10**6)[0].ids[1:4].tobytes()
    (folder / "examples.arrow").write_bytes(rows.replace(ids, np.array([1, 10**9, 1], np.int32).tobytes()))
    content = json.loads((folder / "key.json").read_text())
    content["sha256"] = encoded_cache.file_sha256(folder / "examples.arrow")
    (folder / "key.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "damage",
    [
        _without_key,
        _with_half_a_key,
        _with_another_key,
        _with_a_list,
        _with_half_the_rows,
        _with_another_byte,
        _without_rows,
        _with_another_count,
        _empty,
        _with_a_foreign_id,
    ],
)
def test_what_is_not_as_it_was_written_is_made_again(case, damage, capfd):
    """A half-written file would train on half the data, or end the run; it is said that it was made again."""
    whole = list(map(_fields, case.open()))
    (folder,) = case.folders
    damage(folder)
    capfd.readouterr()
    assert list(map(_fields, case.open())) == whole
    said = capfd.readouterr().out
    assert str(folder) in said
    assert "encoded again" in said
    assert case.folders == [folder]
