"""A decoding that ended early goes on where it stopped, and its result is that of one that never did."""

import errno
import fcntl
import json
import os
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from dataset import row_files
from models.decoding import decode
from models.decoding.decode import DecodeOptions, decode_runs
from tests.conftest import head_of
from tests.helpers import json_rows
from tests.kills import Moment, run_job, run_killed
from tests.ranks import on_ranks
from utils.errors import UserError, run_main

TEXT, ROWS, PART = "evaluation_result.txt", "evaluation_result.jsonl", "evaluation_result.part"
GENERATE, KEEP = "models.decoding.decode:generate_replies", "dataset.row_files:Appender.add"
OPTIONS = DecodeOptions(batch_size=4)  # seven batches
SAMPLING = DecodeOptions(batch_size=3, selection_noise=0.5, flags={"decoding": {"do_sample": True}})


def _results(run: Path) -> dict[str, bytes]:
    """The result files; and nothing else may begin with their name."""
    return {path.name: path.read_bytes() for path in sorted(run.glob("*evaluation_result*"))}


def _decode(run, distributed, options=OPTIONS):
    return partial(decode_runs, [run], distributed, options)


@pytest.fixture(scope="module")
def whole(trained_run, tmp_path_factory, distributed):
    """The results of decodings that nobody interrupted, by options."""
    made = {}

    def of(options=OPTIONS):
        key = options.batch_size, options.selection_noise
        if key not in made:
            run = shutil.copytree(trained_run, tmp_path_factory.mktemp("whole") / "run")
            decode_runs([run], distributed, options)
            made[key] = _results(run)
        return made[key]

    return of


def _number_done(run: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in (run / PART).glob("rows.*.jsonl"))


@pytest.mark.parametrize(
    "moment", [Moment(GENERATE, 3), Moment(KEEP, 5, after=True)], ids=["before", "after"]
)
def test_a_killed_decoding_goes_on_where_it_was(run_copy, distributed, whole, survived, monkeypatch, moment):
    """Hours of decoding that begin again; or a result that lacks, doubles or changes a row, which nobody sees."""
    ending = run_killed(_decode(run_copy, distributed), moment)
    assert ending.killed, ending.printed
    assert not (run_copy / TEXT).exists()
    batches = moment.call if moment.after else moment.call - 1
    assert _number_done(run_copy) == 4 * batches
    calls, generate = [], decode.generate_replies
    monkeypatch.setattr(
        decode, "generate_replies", lambda *arguments: calls.append(1) or generate(*arguments)
    )
    _decode(run_copy, distributed)()
    assert len(calls) == 7 - batches
    assert _results(run_copy) == whole()
    survived("kills")


@pytest.mark.long
@pytest.mark.parametrize("options", [OPTIONS, SAMPLING], ids=["greedy", "sampling"])
def test_a_decoding_survives_kills_at_any_moment(run_copy, distributed, whole, survived, options):
    """The same with draws, and killed again and again: what the kills before left is what the next one finds."""
    once = [
        Moment("utils.files:write_together"),  # the settings
        Moment(KEEP),
        Moment(KEEP, after=True),
        Moment(KEEP, 2, after=True),
        Moment(GENERATE, 2),
        Moment("models.decoding.decode:write_together"),
        Moment("os:replace", after=True),  # the rows are in place, the text is not
        Moment("utils.folders:shutil.rmtree"),
    ]
    for moment in once:
        ending = run_killed(_decode(run_copy, distributed, options), moment)
        assert ending.killed, (moment, ending.printed)
        survived("kills")
    run_job(_decode(run_copy, distributed, options))
    assert _results(run_copy) == whole(options)  # and no folder of rows


def test_a_row_that_was_cut_is_made_again(run_copy, distributed, whole):
    """A crash of the machine leaves half of a line: half of a row, or none that can be read ever again."""
    run_killed(_decode(run_copy, distributed), Moment(GENERATE, 3))
    path = run_copy / PART / "rows.0.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    _decode(run_copy, distributed)()
    assert _results(run_copy) == whole()


def test_other_settings_begin_anew_and_say_so(run_copy, distributed, whole, capsys):
    """Replies of two settings in one result, under the name of one."""
    run_killed(_decode(run_copy, distributed, DecodeOptions(batch_size=4, seed=5)), Moment(GENERATE, 3))
    _decode(run_copy, distributed)()
    assert f"{run_copy / PART} is of other settings (seed differ): it begins anew" in capsys.readouterr().out
    assert _results(run_copy) == whole()


def test_another_trained_part_begins_anew(run_copy, distributed, capsys):
    """Training goes on in the same folder: half of the replies would be those of the model before."""
    run_killed(_decode(run_copy, distributed), Moment(GENERATE, 3))
    path = run_copy / "trained.safetensors"
    save_file({name: 1.01 * tensor for name, tensor in load_file(path).items()}, path)
    _decode(run_copy, distributed)()
    assert "(trained differ): it begins anew" in capsys.readouterr().out


def test_the_batch_size_is_that_of_the_rows(run_copy, distributed, monkeypatch, capsys):
    """Where memory chooses it, another size would change the last digits of scores; an asked one counts."""
    sizes = iter([5, 9, 9])
    monkeypatch.setattr(decode, "choose_batch_size", lambda *_: (next(sizes), "why"))
    run_killed(_decode(run_copy, distributed, DecodeOptions()), Moment(GENERATE, 3))
    _decode(run_copy, distributed, DecodeOptions())()
    printed = capsys.readouterr().out
    assert f"batch size 5: that of the rows in {run_copy / PART}" in printed
    assert "10 of 28 are done already" in printed
    third = (run_copy / TEXT).read_text(encoding="utf-8").splitlines()[2]
    assert json.loads(third.removeprefix("decoding: "))["batch_size"] == 5


@pytest.mark.parametrize(
    ("name", "status", "word"), [("SIGTERM", 143, "terminated"), ("SIGINT", 130, "interrupted")]
)
def test_whoever_ends_a_decoding_is_told_how_it_goes_on(run_copy, distributed, whole, name, status, word):
    """A job that a scheduler ends, or a user, with a traceback, or without a word on what is kept."""
    moment = Moment(GENERATE, 3, signal=signal.Signals[name])
    ending = run_killed(lambda: run_main(_decode(run_copy, distributed)), moment)
    assert ending.status == status
    line = (
        f"{word}: what is done is kept in {run_copy / PART}: "
        "decoding it again with the same settings goes on from there"
    )
    assert ending.printed.splitlines()[-1] == line
    assert "Traceback" not in ending.printed
    _decode(run_copy, distributed)()
    assert _results(run_copy) == whole()


def test_a_full_disk_keeps_the_rows_so_far(run_copy, distributed, whole, monkeypatch):
    """The disk is full after half of a row: a traceback, and a line that no later call can read."""
    calls = []

    class Full:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, content):
            calls.append(1)
            if len(calls) == 1:
                return self.file.write(content[:100])  # which is no error
            if len(calls) == 2:
                return self.file.write(content)
            self.file.write(content[:9])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    init = row_files.Appender.__init__

    def full(self, path):
        init(self, path)
        self.file = Full(self.file)

    with monkeypatch.context() as patch:
        patch.setattr(row_files.Appender, "__init__", full)
        with pytest.raises(UserError, match=r"cannot write .*rows.0.jsonl: No space left on device"):
            _decode(run_copy, distributed)()
    assert (run_copy / PART / "rows.0.jsonl").read_bytes().endswith(b"}\n")
    assert _number_done(run_copy) == 4
    _decode(run_copy, distributed)()
    assert _results(run_copy) == whole()


def test_two_jobs_do_not_write_the_same_rows(run_copy, distributed, tmp_path):
    """Each would take the rows of the other for those of a crash."""
    (run_copy / PART).mkdir()
    with (run_copy / PART / "lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another job is at work there"):
            _decode(run_copy, distributed)()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[]", "expected an object"),
        ('{"number": 99, "row": {}}', "the key 'persona' is missing"),
        ('{"number": 1, "row": {}, "run": "rm"}', "unknown key 'run'"),
        ("{", "not JSON"),
    ],
)
def test_rows_that_are_none_are_told_by_their_place(run_copy, distributed, line, message):
    """A run folder is passed on: what lies in it goes into a result, or ends in a traceback."""
    run_killed(_decode(run_copy, distributed), Moment(GENERATE, 2))
    with (run_copy / PART / "rows.0.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=rf"rows.0.jsonl:5.*{message}"):
        _decode(run_copy, distributed)()


@pytest.mark.parametrize("size", [2, 3])
def test_each_example_is_decoded_once_whatever_the_number_of_ranks(run_copy, whole, survived, size):
    """A rank more or less loses examples or doubles them, or cuts other batches, which change last digits."""
    on_ranks(size, lambda distributed: decode_runs([run_copy], distributed, OPTIONS))
    assert _results(run_copy) == whole()
    survived("ranks and ZeRO")


def test_more_ranks_than_examples(run_copy, data, tmp_path, survived):
    """The ranks without an example wait for ever, or the others for them."""
    valid = tmp_path / "one.txt"
    valid.write_text("".join(head_of(data["valid"], 1).splitlines(keepends=True)[:6]), encoding="utf-8")
    options = DecodeOptions(batch_size=1, valid_path=str(valid))
    on_ranks(3, lambda distributed: decode_runs([run_copy], distributed, options))
    number = len(json_rows(run_copy / ROWS))
    assert 1 <= number < 3
    survived("ranks and ZeRO")


@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 1), (1, 2)])
def test_another_number_of_ranks_goes_on(run_copy, whole, monkeypatch, survived, before, after):
    """Half of a machine is free, or twice as many: the rows of the ranks before are lost, or come twice."""
    calls, generate = [], decode.generate_replies

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise UserError("the machine is needed")
        return generate(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(decode, "generate_replies", failing)
        with pytest.raises(UserError, match="the machine is needed"):
            on_ranks(before, lambda distributed: decode_runs([run_copy], distributed, OPTIONS))
    done = _number_done(run_copy)
    assert done
    calls.clear()
    monkeypatch.setattr(
        decode, "generate_replies", lambda *arguments: calls.append(1) or generate(*arguments)
    )
    on_ranks(after, lambda distributed: decode_runs([run_copy], distributed, OPTIONS))
    assert 4 * len(calls) == 28 - done
    assert _results(run_copy) == whole()
    survived("ranks and ZeRO")
