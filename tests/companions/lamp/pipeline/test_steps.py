"""Steps that stand are skipped, and whatever rests on something else by now is made anew."""

import json
import shutil
import threading
from contextlib import nullcontext
from dataclasses import replace
from glob import escape
from pathlib import Path

import pytest
import torch

from companions.lamp.pipeline import steps
from companions.lamp.pipeline.steps import RECORD, Command, Step, run_steps
from tests.companions.lamp.test_rankings import Rank
from trainer.resume import START
from utils.distributed import DistributedContext
from utils.errors import UserError
from utils.runs import CONFIG

ALONE = DistributedContext(rank=0, local_rank=0, size=1, device=torch.device("cpu"))
ORDER = ["first", "second", "third", "other"]


@pytest.fixture
def chain(tmp_path, monkeypatch):
    """chain(**changes): run steps first -> second -> third and `other`, which needs none; the names of those made.

    A change is a step in the place of the one of that name. `chain.calls` has the commands that ran, `chain.failing`
    the one that ends with an error.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.json").write_text("1")

    def step(name, after=(), files=()):
        return Step(name, f"Step {name}", (Command("make", (f"steps/{name}/made", "1")),), after, files)

    steps = {
        "first": step("first", files=("data.json",)),
        "second": step("second", after=("first",)),
        "third": step("third", after=("second",)),
        "other": step("other"),
    }

    def run(command, distributed):
        if command.words == chain.failing:
            raise UserError("broken")
        chain.calls.append(command.words)
        with open(command.words[0], "a", encoding="utf-8") as file:
            file.write(command.words[1])

    def chain(**changes):
        chain.calls.clear()
        return run_steps([{**steps, **changes}[name] for name in ORDER], tmp_path / "steps", ALONE, run)

    chain.calls, chain.failing, chain.steps, chain.folder = [], None, steps, tmp_path
    return chain


def other_words(step, *words):
    """The step with other words in its command."""
    return replace(step, commands=(Command("make", (step.commands[0].words[0], *words)),))


def test_what_stands_is_not_made_again(chain):
    """Hours of training would be done again whenever somebody wants to see the table."""
    assert chain() == ORDER
    assert chain() == []
    assert chain.calls == []


def test_a_changed_setting_makes_its_step_and_those_after_it_anew(chain):
    """A table that mixes results of two settings compares nothing."""
    chain()
    assert chain(second=other_words(chain.steps["second"], "2")) == ["second", "third"]
    assert (chain.folder / "steps/second/made").read_text() == "2", "the old result is not added to"
    assert chain(second=other_words(chain.steps["second"], "2")) == []
    assert chain() == ["second", "third"]


def test_a_changed_file_makes_what_reads_it_anew(chain):
    """New questions in a file of the same name would be given the figures of the old ones."""
    chain()
    (chain.folder / "data.json").write_text("2")
    assert chain() == ["first", "second", "third"]


def test_what_other_versions_have_made_stands_and_is_told(chain, monkeypatch, capsys):
    """A corrected comment costs days of an LM's answers; or after a fix nobody sees which figures are from before."""
    chain()
    assert "other versions" not in capsys.readouterr().out
    monkeypatch.setattr(steps, "code_version", lambda: "another")
    monkeypatch.setattr(steps, "library_versions", lambda: {"torch": "0"})
    assert chain() == []
    said = capsys.readouterr().out
    assert said.count("stands in") == said.count("made with other versions (torch 2.") == len(ORDER)
    assert f"now another); remove {chain.folder / 'steps' / 'first'} to make it anew" in said
    shutil.rmtree(chain.folder / "steps" / "second")
    assert chain() == ["second", "third"]
    assert (
        "other versions" not in capsys.readouterr().out.partition("Step second")[2].partition("Step other")[0]
    )


@pytest.mark.parametrize("damage", ["remove", "cut"])
def test_a_result_that_is_gone_is_made_again_with_all_that_rests_on_it(chain, damage):
    """A training that is done again gives other weights: what was made with the first ones is not theirs."""
    chain()
    made = chain.folder / "steps/second/made"
    if damage == "remove":
        made.unlink()
    else:
        made.write_text("")
    assert chain() == ["second", "third"]


def test_what_rests_on_a_lost_result_is_made_anew_after_an_interruption_too(chain):
    """Interrupted before the third step, the next call would take the old one for one of the new second step."""
    chain()
    (chain.folder / "steps/second/made").unlink()
    chain.failing = chain.steps["second"].commands[0].words
    with pytest.raises(UserError, match="broken"):
        chain()
    chain.failing = None
    assert chain() == ["second", "third"]


def test_a_step_whose_removal_was_interrupted_is_made(chain, monkeypatch):
    """Removed before the rest, the record would be missing in the next call, which takes the folder for another's."""
    chain()
    made = chain.folder / "steps/second"
    (made / "run").mkdir()
    (made / "run" / "more").write_text("1")

    def interrupt(folder):
        assert (made / RECORD).is_file()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(steps, "remove_folder", interrupt)
        with pytest.raises(KeyboardInterrupt):
            chain()
    assert chain() == ["second", "third"]
    assert sorted(path.name for path in made.iterdir()) == ["made", RECORD]


def test_a_file_that_many_steps_read_is_hashed_once(chain, monkeypatch):
    """An LM of many gigabytes would be read eight times before anything is done."""
    hashed = []
    monkeypatch.setattr(steps, "file_sha256", lambda path: hashed.append(path) or "0")
    steps._sha256_of.cache_clear()
    many = {name: replace(chain.steps[name], files=("data.json",)) for name in ORDER}
    assert chain(**many) == ORDER
    assert [str(path) for path in hashed].count("data.json") == 1


@pytest.mark.parametrize("resumes", [False, True])
def test_an_interrupted_step_resumes_or_begins_anew(chain, resumes):
    """Rows of feedback that were paid for are asked again, or a half-written run folder is taken for a whole one."""
    path = "steps/second/made"
    commands = (Command("make", (path, "1")), Command("make", (path, "2")))
    step = replace(chain.steps["second"], commands=commands, resumes=resumes)
    chain.failing = (path, "2")
    with pytest.raises(UserError, match="broken"):
        chain(second=step)
    assert (chain.folder / path).read_text() == "1"
    chain.failing = None
    assert chain(second=step) == ["second", "third", "other"]
    assert (chain.folder / path).read_text() == ("112" if resumes else "12")


@pytest.fixture
def training(tmp_path):
    """training(folder, *words, begins): call a chain of one training; the words of its command.

    It is interrupted when its run folder has the files that `begins` names.
    """

    def call(folder, *words, begins=()):
        own, given = folder / "lm", []
        step = Step("lm", "LM", (Command("train", (str(own), *words)),), run=f"{escape(str(own))}/lm_*")

        def run(command, distributed):
            given.extend(command.words[1:])
            made = own / f"lm_{words[0]}"
            made.mkdir(exist_ok=True)
            for name in begins:
                (made / name).write_text("{}")
            if begins:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt) if begins else nullcontext():
            run_steps([step], folder, ALONE, run)
        return given

    return call


def test_an_interrupted_training_goes_on_in_its_run_folder(training, tmp_path):
    """Days of training would be done again; or the next step finds two run folders, and the older one is its."""
    begun = (START, CONFIG)
    assert training(tmp_path / "a", "1", begins=begun) == ["1"]
    run = f"--resume={tmp_path / 'a' / 'lm' / 'lm_1'}"
    assert training(tmp_path / "a", "1", begins=begun) == ["1", run]
    assert training(tmp_path / "a", "1") == ["1", run]
    assert training(tmp_path / "a", "1") == []


@pytest.mark.parametrize("change", ["start", "settings", "moved"])
def test_a_training_that_cannot_go_on_begins_anew(training, tmp_path, change):
    """A run without its start, of other settings, or of files that are elsewhere now, ends the chain at each call."""
    folder = tmp_path / "a"
    training(folder, "1", begins=(CONFIG,) if change == "start" else (START, CONFIG))
    if change == "moved":
        folder = folder.rename(tmp_path / "b")
    word = "2" if change == "settings" else "1"
    assert training(folder, word) == [word]
    assert len(list((folder / "lm").glob("lm_*"))) == 1


def test_a_changed_setting_does_not_go_on_from_the_old_one(chain):
    """A step that resumes would mix rows of two LMs in one file."""
    step = replace(chain.steps["second"], resumes=True)
    chain.failing = chain.steps["third"].commands[0].words
    with pytest.raises(UserError):
        chain(second=step)
    chain.failing = None
    chain(second=other_words(step, "2"))
    assert (chain.folder / "steps/second/made").read_text() == "2"


def test_a_folder_that_was_moved_stands(tmp_path):
    """Days of an LM's answers would be removed, as they lie on another disk, or their folder has its full name."""

    def call(folder):
        own = [str(folder / name / "made") for name in ("first", "second")]
        read = f"from={escape(str(folder))}/first/mad*"
        chain = [
            Step("first", "First", (Command("make", (own[0],)),)),
            Step("second", "Second", (Command("make", (own[1], read)),), after=("first",)),
        ]
        return run_steps(chain, folder, ALONE, lambda command, _: Path(command.words[0]).write_text("1"))

    first, moved = tmp_path / "runs[1]", tmp_path / "k=2"
    assert call(first) == ["first", "second"]
    first.rename(moved)
    assert call(moved) == []


def test_a_folder_that_is_none_of_a_step_is_left_alone(chain):
    """A mistyped folder would cost somebody else's files."""
    other = chain.folder / "steps/second"
    other.mkdir(parents=True)
    (other / "thesis.txt").write_text("years")
    with pytest.raises(UserError, match=r"not the folder of a step: it has no step\.json"):
        chain()
    assert (other / "thesis.txt").read_text() == "years"


def test_the_record_tells_what_a_result_rests_on(chain):
    """Nobody could tell later which commands and which data a figure comes from."""
    chain()
    first, second = (
        json.loads((chain.folder / "steps" / name / RECORD).read_text()) for name in ("first", "second")
    )
    assert first["commands"] == [["make", "steps/first/made", "1"]]
    assert list(first["files"]) == ["data.json"]
    assert first["made"] == {"made": 1}
    assert second["after"] == {"first": first["making"]}


def test_a_star_is_the_newest_run_folder(chain):
    """The next step would be given a name that no folder has, or an older run."""
    for run in ("lm_2026-01-01-0000", "lm_2026-01-02-0000"):
        (chain.folder / "runs" / run).mkdir(parents=True)
    command = Command("make", ("--lm", "runs/lm_*", "name=runs/lm_*", "plain"))
    newest = "runs/lm_2026-01-02-0000"
    assert command.expanded().words == ("--lm", newest, f"name={newest}", "plain")
    assert command.expanded().shown() == f"python -m make --lm {newest} name={newest} plain"
    absolute = Command("make", (f"{chain.folder}/runs/lm_*",))
    assert absolute.expanded().words == (f"{chain.folder}/{newest}",)
    with pytest.raises(UserError, match=r"runs/scorer_\*: nothing there"):
        Command("make", ("runs/scorer_*",)).expanded()


def test_a_star_in_a_folder_with_an_equals_sign(tmp_path, monkeypatch):
    """`runs/k=4` is how people name folders: the chain would end after the LM's training, and not find it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k=4" / "lm" / "lm_2026").mkdir(parents=True)
    for word in ("k=4/lm/lm_*", "lm=k=4/lm/lm_*", f"{tmp_path}/k=4/lm/lm_*", f"lm={tmp_path}/k=4/lm/lm_*"):
        assert Command("make", (word,)).expanded().words == (word.replace("*", "2026"),)


class SharingRank(Rank):
    """A rank in a thread that is told the main rank's values, too."""

    def share(self, value):
        """The main rank's value."""
        return self.gather(value)[0]


def test_all_ranks_run_the_same_commands(tmp_path, monkeypatch):
    """A rank that takes a step for done, as it sees what the main rank has just written, leaves the others waiting."""
    size, ran = 2, []
    monkeypatch.setattr(Rank, "shared", [None] * size, raising=False)
    monkeypatch.setattr(Rank, "meeting", threading.Barrier(size, timeout=60), raising=False)
    chain = [
        Step("first", "First", (Command("make", (str(tmp_path / "first" / "run_1"),)),)),
        Step("second", "Second", (Command("read", (str(tmp_path / "first" / "run_*"),)),), after=("first",)),
    ]

    def run(command, rank):
        if command.module == "make" and rank.is_main:
            (tmp_path / "first" / "run_1").write_text("1")
        ran.append((rank.rank, command.words[0].rpartition("/")[2]))

    def call():
        ran.clear()
        ranks = [SharingRank(rank, rank, size, torch.device("cpu")) for rank in range(size)]
        threads = [threading.Thread(target=run_steps, args=(chain, tmp_path, rank, run)) for rank in ranks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(ran)

    assert call() == [(0, "run_1"), (0, "run_1"), (1, "run_1"), (1, "run_1")]
    assert call() == []
