"""What test.py makes of a run that has a result already, and what it finds out before it decodes."""

import errno
import os
import shutil

import pytest

from models.decoding import decode
from models.decoding.decode import DecodeOptions, decode_runs
from tests.helpers import json_rows
from utils.errors import UserError

TEXT, ROWS = "evaluation_result.txt", "evaluation_result.jsonl"


@pytest.fixture(scope="module")
def decoded(trained_run, tmp_path_factory, distributed):
    """A decoded copy of the trained run."""
    run = shutil.copytree(trained_run, tmp_path_factory.mktemp("decoded_again") / "run")
    decode_runs([run], distributed)
    return run


@pytest.fixture
def again(decoded, tmp_path):
    """A copy of it that a test may change."""
    return shutil.copytree(decoded, tmp_path / "again")


@pytest.mark.parametrize(
    ("options", "differing"),
    [
        (lambda data: DecodeOptions(valid_path=str(data["train"])), "valid_sha256"),
        (lambda data: DecodeOptions(seed=5), "seed"),
        (lambda data: DecodeOptions(assignments=("model.load_bit=bf16",)), "load_bit, batch_size"),
    ],
)
def test_a_result_of_another_decoding_is_not_taken_for_this_one(again, data, distributed, options, differing):
    """Three replies to another file would be reported as the run's score on its own."""
    before = (again / TEXT).read_bytes()
    with pytest.raises(
        UserError, match=rf"another decoding \({differing} differ\); --skip_exists=no replaces it"
    ):
        decode_runs([again], distributed, options(data))
    assert (again / TEXT).read_bytes() == before


@pytest.mark.parametrize("third", ["", "decoding: {broken", "decoding: []", 'decoding: {"other": 1}'])
def test_results_that_do_not_say_how_they_came_about_are_left(again, distributed, capsys, third):
    """Results from before that line, and the authors' own, would be decoded again, or end in a traceback."""
    (again / TEXT).write_text(f"bleu: 1\nselected prompts: {{}}\n{third}\n", encoding="utf-8")
    decode_runs([again], distributed)
    assert "exists, skipped" in capsys.readouterr().out


def test_the_same_decoding_at_another_batch_size_is_skipped(again, distributed, capsys, tmp_path, data):
    """The replies are the same, and so they are for the same file under another name."""
    other = shutil.copy(data["valid"], tmp_path / "copy.txt")
    decode_runs([again], distributed, DecodeOptions(batch_size=3, valid_path=str(other)))
    assert "exists, skipped" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_found_out_before_decoding(run_copy, distributed, monkeypatch):
    """Hours of decoding would be thrown away at their end."""

    def refuse(path, flags, *mode):
        if flags & os.O_CREAT and str(run_copy) in str(path):
            raise OSError(errno.EROFS, "Read-only file system")
        return open_before(path, flags, *mode)

    open_before = os.open
    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(decode, "decode_examples", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(UserError, match="Read-only file system"):
        decode_runs([run_copy], distributed)


def test_a_moved_run_finds_its_lm_beside_it(trained_run, lm_folder, tmp_path, distributed):
    """Runs are passed on together with their LM; the path of the old machine is in the configuration."""
    run = shutil.copytree(trained_run, tmp_path / "elsewhere" / "run")
    shutil.copytree(lm_folder("opt"), run.parent / "my-lm")
    config = (run / "config.yml").read_text(encoding="utf-8")
    (run / "config.yml").write_text(config.replace(str(lm_folder("opt")), "my-lm"), encoding="utf-8")
    decode_runs([run], distributed)
    assert len(json_rows(run / ROWS)) == 28


def test_the_batch_size_matters_where_rounding_does(run_copy, distributed):
    """In bf16 another batch size may give other words: a result of one would pass for a result of the other."""
    narrow = {"skip_exists": True, "assignments": ("model.load_bit=bf16",)}
    decode_runs([run_copy], distributed, DecodeOptions(batch_size=4, **narrow))
    decode_runs([run_copy], distributed, DecodeOptions(batch_size=4, **narrow))
    with pytest.raises(UserError, match="another decoding .batch_size differ"):
        decode_runs([run_copy], distributed, DecodeOptions(batch_size=8, **narrow))
