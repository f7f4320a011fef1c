"""Kept encodings where something is wrong: nothing half made is kept, and the reason is one line."""

import errno
import os
import signal
import tracemalloc
from functools import partial

import pytest

from dataset import encoded_cache, encoding_processes
from dataset.encoded_cache import ExampleFile, encoded_file
from dataset.encoding import ExampleEncoder
from dataset.loading import read_examples
from tests.conftest import head_of
from utils.errors import UserError


def test_an_example_that_does_not_fit_is_told_by_its_line(case):
    """The error of a process that encodes must reach the user as one line, and leave nothing behind."""
    case.make_encoder = partial(ExampleEncoder, max_tokens=20)
    with pytest.raises(UserError, match=r"dialogues.txt:\d+: persona and last turn alone"):
        case.open()
    assert case.folders == []


def test_a_malformed_file_is_told_by_its_line(case):
    """The same for what the reader finds."""
    case.path.write_text(case.path.read_text() + "no number\n")
    with pytest.raises(UserError, match=r"dialogues.txt:\d+: a line starts with its number"):
        case.open()
    assert case.folders == []


class _Killed(ExampleEncoder):
    def encode(self, examples, with_response):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_ends_the_launch(case):
    """The system kills what takes too much memory; waiting for its answer would take for ever."""
    case.make_encoder = _Killed
    with pytest.raises(UserError, match="ended from outside"):
        case.open()
    assert case.folders == []


def test_a_file_that_changes_meanwhile_is_not_kept(case, monkeypatch):
    """Half of the old file and half of the new one, kept under the hash of either, would never be found out."""
    chunks = encoded_cache.encoded_chunks

    def changing(job):
        yield from chunks(job)
        case.path.write_text(head_of(case.path, 3), encoding="utf-8")

    monkeypatch.setattr(encoded_cache, "encoded_chunks", changing)
    with pytest.raises(UserError, match="was changed while it was read"):
        case.open()
    assert case.folders == []


def test_what_was_read_before_the_file_changed_is_not_kept(case):
    """Old examples under the new file's hash would be given to every later run."""
    digest, examples = encoded_cache.file_sha256(case.path), case.source.read()
    case.path.write_text(head_of(case.path, 3), encoding="utf-8")
    source = ExampleFile(str(case.path), lambda: examples, {}, [read_examples], digest)
    with pytest.raises(UserError, match="was changed while it was read"):
        encoded_file(source, case.encoder(), case.tokenizer, True, str(case.cache))
    assert case.folders == []


def test_a_folder_that_another_run_made_meanwhile_stays(case, monkeypatch):
    """That run may be about to open it: between two renames it would find none, and end."""
    chunks = encoded_cache.encoded_chunks
    made = []

    def meanwhile(job):
        yield from chunks(job)
        if not made:
            made.append(None)
            case.open()
            made[0] = next(case.cache.glob("encoded-*")).stat().st_ino

    monkeypatch.setattr(encoded_cache, "encoded_chunks", meanwhile)
    case.open()
    (folder,) = case.folders
    assert folder.stat().st_ino == made[0]


def test_a_folder_that_may_not_be_written_is_named(case):
    """The user must know which folder it is, and which key gives another."""
    case.cache.write_text("a file is in the way")
    with pytest.raises(UserError, match=r"cannot write .*cache.*dataset\.cache_dir"):
        case.open()


def test_a_full_disk_names_the_key(case, monkeypatch):
    """Found out in the midst of the work; and nothing of it may lie about and fill the disk."""

    def full(job):
        raise OSError(errno.ENOSPC, "No space left on device")
        yield

    monkeypatch.setattr(encoded_cache, "encoded_chunks", full)
    with pytest.raises(UserError, match=r"cannot write .*cache.*No space left.*dataset\.cache_dir"):
        case.open()
    assert case.folders == []


def test_without_a_home_the_key_is_named(case, monkeypatch):
    """A service or container may have none; the default folder lies there."""
    case.cache = "~nobody-has-this-name/cache"
    with pytest.raises(UserError, match=r"dataset\.cache_dir = '~nobody.*give a folder"):
        case.open()


class _Plain:
    """An encoder that does not say what it uses."""

    pad, max_tokens, drops_turns = 0, 100, True

    def __init__(self, tokenizer, config):
        self.encoder = ExampleEncoder(tokenizer, config)

    def encode(self, examples, with_response):
        return self.encoder.encode(examples, with_response)

    def fits(self, example):
        return True


def test_small_files_and_encoders_without_a_key_stay_in_memory(case, monkeypatch):
    """An encoder whose settings nobody knows might be given ids of other settings; tests and demos need no files."""
    case.make_encoder = _Plain
    assert isinstance(case.open(), list)
    case.make_encoder = ExampleEncoder
    monkeypatch.setattr(encoded_cache, "SMALL", 1 << 20)
    assert isinstance(case.open(), list)
    assert not case.cache.exists()


def test_memory_does_not_grow_with_the_file(case, monkeypatch):
    """All examples as objects took 3 GiB on ConvAI2's full size, on every rank."""
    case.open()  # imports what it needs
    # its blocks of 1 MiB are more than the examples of this file
    monkeypatch.setattr(encoded_cache, "file_sha256", lambda path: "the same")
    case.path.write_text(case.path.read_text(encoding="utf-8") * 40, encoding="utf-8")
    monkeypatch.setattr(encoding_processes, "CHUNK", 50)
    tracemalloc.start()
    try:
        kept = case.open()
        peak = tracemalloc.get_traced_memory()[1]
        before = tracemalloc.get_traced_memory()[0]
        direct = case.encoder().encode(case.source.read(), True)
        in_memory = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(kept) == len(direct) > 2000
    assert peak < in_memory / 4
