"""Decoding on several ranks: a run that fails on one of them fails on all, and no row of it is written."""

import shutil
from dataclasses import replace

import pytest

from models.decoding import decode
from models.decoding.decode import decode_runs
from models.decoding.results import Share, rows_of
from tests.helpers import assert_same_results, json_rows
from tests.run_commands import Command, run_commands
from utils.errors import UserError
from utils.liveness import together

RUNS = ("a_generating-1", "b_fine", "c_loading-0", "d_fine")
ROWS, TEXT = "evaluation_result.jsonl", "evaluation_result.txt"


@pytest.fixture(scope="module")
def decoded(trained_run, tmp_path_factory):
    """The folder of four runs after two ranks decoded them, and what each rank printed."""
    out = tmp_path_factory.mktemp("ranks")
    for name in RUNS:
        shutil.copytree(trained_run, out / "runs" / name)
    # other replies in each run: rows of the failed one would be found in the next
    for number, name in enumerate(RUNS):
        config = out / "runs" / name / "config.yml"
        text = config.read_text(encoding="utf-8")
        config.write_text(
            text.replace("max_context_turns: -1", f"max_context_turns: {1 + 2 * number}"), "utf-8"
        )
    (done,) = run_commands(
        [Command(["-m", "tests.failing_ranks", str(out / "runs")], ranks=2)], out / "printed"
    )
    assert done.status == 0, done.output
    return out / "runs", done.outputs


@pytest.mark.slow
def test_a_run_that_failed_on_one_rank_leaves_no_result(decoded):
    """Half of the rows, with a normal BLEU above them, would be kept for ever by --skip_exists."""
    runs, _ = decoded
    for name in RUNS:
        written = {path.name for path in (runs / name).glob("*evaluation_result*") if path.is_file()}
        assert written == (set() if "fine" not in name else {ROWS, TEXT}), name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["b_fine", "d_fine"])
def test_the_next_run_holds_its_own_rows_only(decoded, name, distributed, tmp_path):
    """The rank that had failed went on to the next run and sent its rows into the gathering of the last."""
    runs, _ = decoded
    alone = shutil.copytree(runs / name, tmp_path / "alone", ignore=shutil.ignore_patterns("evaluation*"))
    decode_runs([alone], distributed, decode.DecodeOptions(batch_size=4))
    assert_same_results(json_rows(runs / name / ROWS), json_rows(alone / ROWS))


@pytest.mark.slow
def test_the_failed_rank_and_its_reason_are_named(decoded):
    """On 16 ranks, a reason without its rank is searched for in 16 logs."""
    runs, (main, other) = decoded
    failed = [
        f"{runs / 'a_generating-1'}: rank 1: KeyError: 'lost'",
        f"{runs / 'c_loading-0'}: rank 0: no luck in loading",
    ]
    assert [line for line in main.splitlines() if line.startswith("failed: ")] == [
        f"failed: {line}" for line in failed
    ]
    end = "at the end: 2 of 4 runs failed:\n  " + "\n  ".join(failed)
    assert main.rstrip().endswith(end)
    assert other.rstrip().endswith(end)
    assert "Traceback" not in main  # a defect shows where it is, on the rank that has it
    assert other.count("Traceback") == 1


class _Obedient:
    """A context of two ranks whose main process shares the values that it was made with."""

    def __init__(self, distributed, *answers):
        self.distributed, self.answers = distributed, list(answers)

    def __getattr__(self, name):
        return getattr(self.distributed, name)

    def share(self, value):
        return self.answers.pop(0) if self.answers else value


def test_the_main_process_decides_what_is_decoded(run_copy, distributed):
    """A rank that already sees the result file would skip the run, while the others wait for its rows."""
    decode.decode_run(run_copy, _Obedient(distributed, True), decode.DecodeOptions())
    assert not (run_copy / ROWS).exists()
    (run_copy / TEXT).write_text("seen here only", encoding="utf-8")
    decode.decode_run(run_copy, _Obedient(distributed, False), decode.DecodeOptions())
    assert len(json_rows(run_copy / ROWS)) == 28


FIRST, SECOND = Share("run", 3, {}, {0: {"n": 0}, 2: {"n": 2}}), Share("run", 3, {}, {1: {"n": 1}})


def test_rows_come_in_the_order_of_the_file(tmp_path):
    """Rows in the order of the ranks belong to other examples."""
    assert [row["n"] for row in rows_of([FIRST, SECOND], "run")] == [0, 1, 2]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (replace(SECOND, run="other"), "rank 1 sent rows of other"),
        (replace(SECOND, num_examples=4), "the validation file of rank 1 is not that of rank 0"),
        (replace(SECOND, rows={}), "the ranks sent 2 rows that are not the file's examples"),
        (replace(SECOND, rows={1: {}, 2: {}}), "the ranks sent 4 rows"),
        (replace(SECOND, rows={3: {}}), "the ranks sent 3 rows"),
    ],
    ids=["other run", "other file", "lost", "twice", "beyond"],
)
def test_rows_that_are_not_the_runs_are_refused(second, message):
    """A row lost, doubled or of another run changes every score a little, and nobody would see it."""
    with pytest.raises(UserError, match=message):
        rows_of([FIRST, second], "run")


def test_alone_an_exception_stays_as_it_is(distributed):
    """A defect keeps its traceback, and a mistake its own words."""
    with pytest.raises(KeyError, match="speed"), together(distributed):
        raise KeyError("speed")
