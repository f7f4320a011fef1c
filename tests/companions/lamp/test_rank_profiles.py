"""The command as its user types it: on one process and on two, with the original's flags, and with mistakes."""

import sys
from pathlib import Path

import pytest

from companions.lamp import rank_profiles
from companions.lamp.rank_profiles import parser
from companions.lamp.rankings import read_rankings
from tests.companions.lamp.conftest import ENCODER
from tests.companions.lamp.golden import GOLDEN, load
from tests.helpers import launch
from tests.run_commands import Command, run_commands
from utils.errors import UserError

QUESTIONS = GOLDEN / "data" / "LaMP-4" / "questions.json"
NEEDED = ["--input_data_addr=q.json", "--output_ranking_addr=r.json", "--task=LaMP_4", "--ranker=bm25"]


def test_the_flags_are_the_benchmarks():
    """A script written for the release's command would have to be written anew."""
    args = parser().parse_args(NEEDED)
    assert (args.batch_size, args.use_date, args.contriever_checkpoint) == (16, False, "facebook/contriever")
    assert (args.input_data_addr, args.output_ranking_addr) == (Path("q.json"), Path("r.json"))
    assert (args.task.name, args.ranker) == ("LaMP_4", "bm25")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (NEEDED[:-1], "the following arguments are required: --ranker"),
        ([*NEEDED, "--batch_size=0"], "'0': a whole number of at least 1 is needed"),
        ([*NEEDED, "--contriever=x"], "unknown argument --contriever"),
        ([*NEEDED[:2], "--task=LaMP-8", "--ranker=bm25"], "unknown task 'LaMP-8'"),
    ],
)
def test_a_mistake_in_the_flags_is_one_line(flags, message):
    """A traceback, or a default in its place, after minutes of loading."""
    with pytest.raises(UserError, match=message):
        parser().parse_args(flags)


def test_importing_the_command_loads_no_torch():
    """--help and a misspelt flag would take as long as a ranking begins."""
    source = f"import sys, {rank_profiles.__name__}; sys.exit('torch' in sys.modules)"
    assert launch(sys.executable, "-c", source).returncode == 0


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
    """What the command printed, and its file, by the number of ranks."""
    folder = tmp_path_factory.mktemp("ranked")
    words = f"""-m companions.lamp.rank_profiles --input_data_addr={QUESTIONS} --task=LaMP-4 --ranker=contriever
    --use_date --contriever_checkpoint={ENCODER}""".split()
    files = {ranks: folder / f"ranking{ranks}.json" for ranks in (1, 2)}
    calls = [Command([*words, f"--output_ranking_addr={file}"], ranks=n) for n, file in files.items()]
    return dict(zip(files, zip(run_commands(calls, folder), files.values(), strict=True), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_the_command_ranks(ranked, ranks):
    """The processes of a launcher would each write the file, or wait for each other for ever."""
    done, output = ranked[ranks]
    assert done.status == 0, done.output
    count = len(load("data/LaMP-4/questions.json"))
    assert done.output.count(f"{output}: {count} questions ranked by contriever") == 1
    groups = load("1_ranking/LaMP-4.contriever.date.json")["tie_groups"]
    for question, order in read_rankings(output):
        places = iter(order)
        assert [{next(places) for _ in group} for group in groups[question]] == list(
            map(set, groups[question])
        )
