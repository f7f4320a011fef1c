"""The command that merges, as its user types it."""

import json
import runpy
import sys

import pytest

from companions.lamp.json_stream import write_object
from companions.lamp.merge_with_rank import parser
from tests.companions.lamp.golden import GOLDEN, load
from tests.helpers import launch
from utils.errors import UserError

DATA = GOLDEN / "data" / "LaMP-5"


def run(monkeypatch, *flags):
    """Exit status of the command."""
    monkeypatch.setattr(sys, "argv", ["merge_with_rank", *map(str, flags)])
    monkeypatch.delitem(sys.modules, "companions.lamp.merge_with_rank", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("companions.lamp.merge_with_rank", run_name="__main__")
    return ended.value.code


def test_the_command_merges(tmp_path, monkeypatch, capsys):
    """With the flags of the benchmark's own command; the line says what of the ranking was not used."""
    ranking = load("1_ranking/LaMP-5.bm25.json")["ranking"]
    write_object(tmp_path / "ranking.json", ranking.items())
    flags = [
        f"--lamp_questions_addr={DATA / 'questions.json'}",
        f"--lamp_output_addr={DATA / 'outputs.json'}",
        f"--profile_ranking_addr={tmp_path / 'ranking.json'}",
        f"--merged_output_addr={tmp_path / 'merged.json'}",
    ]
    assert run(monkeypatch, *flags) == 0
    assert json.loads((tmp_path / "merged.json").read_text("utf-8")) == load("2_merge/LaMP-5.bm25.json")
    said = f"{tmp_path / 'merged.json'}: {len(ranking)} questions; 0 items that the ranking does not name"
    assert capsys.readouterr().out.startswith(said)


def test_questions_without_golds(tmp_path, monkeypatch):
    """The test split: an empty name of the outputs file says so."""
    merged = tmp_path / "merged.json"
    flags = [
        f"--lamp_questions_addr={DATA / 'questions.json'}",
        "--lamp_output_addr=",
        f"--merged_output_addr={merged}",
    ]
    assert run(monkeypatch, *flags) == 0
    assert json.loads(merged.read_text("utf-8")) == load("data/LaMP-5/questions.json")


def test_a_mistake_is_one_line(tmp_path, monkeypatch, capsys):
    """It names the file; the status is that of a failure."""
    flags = [
        "--lamp_questions_addr=none.json",
        "--lamp_output_addr=",
        f"--merged_output_addr={tmp_path / 'm'}",
    ]
    assert run(monkeypatch, *flags) == 1
    assert capsys.readouterr().err == "error: questions file not found: none.json\n"


def test_outputs_are_asked_for():
    """Left out by mistake, the training file would have no outputs."""
    with pytest.raises(UserError, match="required: --lamp_output_addr"):
        parser().parse_args(["--lamp_questions_addr=q", "--merged_output_addr=m"])


def test_merging_loads_no_torch():
    """It takes longer to import than most files take to merge."""
    source = "import sys, companions.lamp.merge; sys.exit('torch' in sys.modules)"
    assert launch(sys.executable, "-c", source).returncode == 0
