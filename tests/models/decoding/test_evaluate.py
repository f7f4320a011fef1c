"""The report over run folders: what it reads, what it refuses, and what it writes."""

import csv
import json
import sys
from pathlib import Path

import pytest

from models.decoding.evaluate import evaluate_runs, read_examples
from tests.helpers import launch
from utils.errors import UserError
from utils.metrics import meteor

OFFLINE = ["ppl", "f1", "bleu", "dist_1"]  # need neither data nor a model
EXAMPLE = {
    "persona": ["i like to ski."],
    "context": ["hello"],
    "prediction": "a b",
    "raw_prediction": "a b Q: ...",
    "target": "a c",
    "prompt": 1,
    "scores": [0.1, 0.2],
    "turn": 1,
    "dialogue": 0,
    "nll": 0.0,
    "nll_tokens": 3,
}


def write_run(folder, *changes, name="evaluation_result.jsonl"):
    """A run folder with one example per dict of changes, or one unchanged example."""
    folder.mkdir(exist_ok=True)
    lines = [json.dumps(EXAMPLE | change) + "\n" for change in changes or ({},)]
    (folder / name).write_text("".join(lines), encoding="utf-8")
    return folder / name


@pytest.fixture
def nothing_installed(monkeypatch, tmp_path_factory):
    """No WordNet and no Hugging Face cache, whatever this computer has."""
    import nltk
    from huggingface_hub import constants

    empty = str(tmp_path_factory.mktemp("empty"))
    monkeypatch.setattr(nltk.data, "path", [empty])
    monkeypatch.setattr(meteor, "SYSTEM_WORDNET", Path(empty))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", empty)


def test_report_over_several_runs(tmp_path, capsys):
    """Runs, noisy twins and a run folder given as the main path must each have their row, in order."""
    write_run(tmp_path / "b", {}, {"prediction": "a c"})
    write_run(tmp_path / "a", name="evaluation_result_selection_noise=0.1.jsonl")
    write_run(tmp_path, {"prediction": "x"})
    evaluate_runs(tmp_path, OFFLINE)
    rows = (tmp_path / "results.csv").read_text().splitlines()
    assert rows == [
        "run,file,ppl,f1,bleu,dist_1,examples",
        "a,evaluation_result_selection_noise=0.1.jsonl,1.0,50.0,0.0,100.0,1",
        "b,evaluation_result.jsonl,1.0,75.0,0.0,75.0,2",
        f"{tmp_path.name},evaluation_result.jsonl,1.0,0.0,0.0,100.0,1",
    ]
    assert {path.name for path in tmp_path.iterdir()} == {
        *("a", "b", "evaluation_result.jsonl", "results.csv", "results.txt")
    }
    report = (tmp_path / "results.txt").read_text()
    assert "f1        higher  50.00   75.00 (25.00)  0.00" in report
    assert "ppl: exp(summed cross-entropy in nats / tokens)" in report
    assert "f1: SPT's F1" in report
    printed = capsys.readouterr()
    assert printed.out.startswith(report.split("\n\nSignatures")[0])
    assert printed.err == ""


def test_header_of_all_metrics_and_empty_cells(tmp_path, capsys, nothing_installed):
    """What cannot be computed must be an empty cell and one line that says what to do, never a zero."""
    write_run(tmp_path / "a")
    write_run(tmp_path / "b")
    evaluate_runs(tmp_path)
    with (tmp_path / "results.csv").open() as file:
        header, *rows = csv.reader(file)
    assert ",".join(header) == (
        "run,file,ppl,f1,f1_parlai,bleu,bleu_1,bleu_2,bleu_3,bleu_4,rouge1,rouge2,rougeL,"
        "bert_f1,bert_p,bert_r,dist_1,dist_2,meteor,examples"
    )
    for row in rows:
        assert [name for name, cell in zip(header, row, strict=True) if cell == ""] == [
            *("bert_f1", "bert_p", "bert_r", "meteor")
        ]
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 2
    assert notes[0].startswith("note: no bert_f1, bert_p, bert_r: ")
    assert notes[1] == (
        "note: no meteor: WordNet is not installed; run: python -m nltk.downloader wordnet, "
        "or on Debian: apt-get install wordnet-base"
    )
    assert "meteor: not available: WordNet is not installed" in (tmp_path / "results.txt").read_text()


def test_a_metric_missing_in_one_file_names_that_file(tmp_path, capsys):
    """An empty ppl cell of a run that was decoded without losses must say which run to decode again."""
    write_run(tmp_path / "old", {"nll": None, "nll_tokens": None})
    write_run(tmp_path / "new")
    evaluate_runs(tmp_path, ["ppl", "examples"])
    assert (tmp_path / "results.csv").read_text().splitlines() == [
        "run,file,ppl,examples",
        "new,evaluation_result.jsonl,1.0,1",
        "old,evaluation_result.jsonl,,1",
    ]
    assert capsys.readouterr().err == (
        "note: no ppl for old/evaluation_result.jsonl: nll is missing in 1 of 1 examples; "
        "decode again with test.py\n"
    )


def test_many_files_are_split_into_tables(tmp_path):
    """Files beyond one table's columns must not fall out of the report."""
    for i in range(7):
        write_run(tmp_path / f"run{i}")
    evaluate_runs(tmp_path, ["f1"])
    report = (tmp_path / "results.txt").read_text()
    assert [line.split() for line in report.splitlines() if line.startswith("metric")] == [
        ["metric", "better", "[1]", "[2]", "[3]", "[4]", "[5]"],
        ["metric", "better", "[6]", "[7]"],
    ]
    assert "[7] run6/evaluation_result.jsonl" in report


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"prediction": "a"', "not JSON: Expecting ',' delimiter at character 19"),
        (b"", "not JSON: Expecting value"),
        (b'{"prediction": "\xff"}', "not UTF-8: invalid start byte at byte 16"),
        (b'["a"]', "not a JSON object"),
        (b'{"prediction": "a"}', "the key 'target' is missing"),
        (b'{"prediction": null, "target": "a"}', "'prediction' must be a string, not null"),
        (b'{"prediction": "a", "target": "b", "nll": 1.5}', "the key 'nll_tokens' is missing"),
        (b'{"prediction": "a", "target": "b", "nll": "1"}', "the key 'nll_tokens' is missing"),
        (
            b'{"prediction": "a", "target": "b", "nll": NaN, "nll_tokens": 2}',
            "'nll' must be a number or null, not nan; the decoding went wrong",
        ),
        (
            b'{"prediction": "a", "target": "b", "nll": 1e999, "nll_tokens": 2}',
            "'nll' must be a number or null, not inf",
        ),
        (b"[" * 100_000, "not JSON that can be read: maximum recursion depth exceeded"),
        (b'{"turn": ' + b"9" * 5000 + b"}", "not JSON that can be read: Exceeds the limit"),
        (
            b'{"prediction": "a", "target": "b", "nll": "1", "nll_tokens": 2}',
            "'nll' must be a number or null",
        ),
        (b'{"prediction": "a", "target": "b", "nll_tokens": 2.5}', "'nll_tokens' must be an integer or null"),
        (
            b'{"prediction": "a", "target": "b", "nll_tokens": true}',
            "'nll_tokens' must be an integer or null",
        ),
        (
            b'{"prediction": "a", "target": "b", "nll": -1.5, "nll_tokens": 2}',
            "'nll' must be 0 or more, not -1.5",
        ),
        (b'{"prediction": "a", "target": "b", "nll": 1, "nll_tokens": -2}', "'nll_tokens' must be 0 or more"),
        (
            b'{"prediction": "a", "target": "b", "nll_tokens": 2, "nll": ' + b"9" * 400 + b"}",
            "'nll' is too large: a number of more than 60 digits",
        ),
        (
            b'{"prediction": "a", "target": "b", "nll_tokens": ' + b"9" * 400 + b"}",
            "'nll_tokens' is too large: a number of more than 60 digits",
        ),
    ],
)
def test_bad_line_names_file_and_line(tmp_path, line, message):
    """A file cut off by a full disk must not be scored as if it were whole, nor be searched by hand."""
    path = write_run(tmp_path / "a", {}, {})
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(UserError) as error:
        read_examples(path)
    assert str(error.value).startswith(f"{path}, line 3: {message}")


def test_only_a_newline_ends_a_line(tmp_path):
    """A line separator inside a text (U+2028 is legal in JSON) must not split an example in two."""
    path = tmp_path / "evaluation_result.jsonl"
    path.write_text('{"prediction": "a\u2028b", "target": "c"}\n', encoding="utf-8")
    assert read_examples(path) == [{"prediction": "a\u2028b", "target": "c"}]


def test_earlier_report_survives_an_error(tmp_path):
    """A bad file among good ones must not cost the report of yesterday, nor leave parts behind."""
    write_run(tmp_path / "a")
    evaluate_runs(tmp_path, OFFLINE)
    before = {name: (tmp_path / name).read_bytes() for name in ("results.csv", "results.txt")}
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "evaluation_result.jsonl").write_text("")
    with pytest.raises(UserError, match="result file is empty"):
        evaluate_runs(tmp_path, OFFLINE)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert {path.name for path in tmp_path.iterdir()} == {"a", "z", *before}


def test_report_that_cannot_be_written_leaves_the_earlier_one(tmp_path):
    """A blocked results.csv must not leave a new results.txt beside an old table, nor parts behind."""
    write_run(tmp_path / "a")
    (tmp_path / "results.txt").write_text("yesterday")
    (tmp_path / "results.csv").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*results\.csv: a folder has its name"):
        evaluate_runs(tmp_path, OFFLINE)
    assert (tmp_path / "results.txt").read_text() == "yesterday"
    assert {path.name for path in tmp_path.iterdir()} == {"a", "results.csv", "results.txt"}


def test_nothing_to_score(tmp_path):
    """An empty table would hide that decoding has not been run, or ran in a version without the twin."""
    with pytest.raises(UserError, match="run test.py first"):
        evaluate_runs(tmp_path)
    with pytest.raises(UserError, match=r"missing is not a folder of runs.* test\.py first"):
        evaluate_runs(tmp_path / "missing")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "evaluation_result.txt").write_text("BLEU 1.0\n")
    with pytest.raises(UserError, match=r"a/evaluation_result\.txt has no \.jsonl twin"):
        evaluate_runs(tmp_path)


@pytest.mark.parametrize(
    ("stem", "flags"),
    [
        ("evaluation_result", "--skip_exists=no"),
        ("evaluation_result_selection_noise=0.5", "--skip_exists=no --selection_noise=0.5"),
    ],
)
def test_hint_names_the_command_that_writes_the_file(tmp_path, stem, flags):
    """A plain test.py skips a run whose files exist, or writes another file: the hint would lead nowhere."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / f"{stem}.txt").write_text("BLEU 1.0\n")
    command = f"python test.py --model_path={tmp_path / 'a'} {flags}"
    with pytest.raises(UserError) as lone:
        evaluate_runs(tmp_path)
    assert str(lone.value).endswith(f"run: {command}")
    (tmp_path / "a" / f"{stem}.jsonl").write_text("")
    with pytest.raises(UserError, match="result file is empty") as empty:
        evaluate_runs(tmp_path)
    assert str(empty.value).endswith(f"run: {command}")


def test_a_main_path_too_long_for_a_name_is_one_line():
    """A pasted text as --main_path must not end in a traceback of the file system's error."""
    with pytest.raises(UserError, match="is not a folder of runs"):
        evaluate_runs("x" * 300)


def test_no_infinite_score_reaches_the_report(tmp_path, capsys):
    """An `inf` among the numbers is averaged or sorted by whoever reads the CSV."""
    write_run(tmp_path / "a", {"nll": 5000.0})
    evaluate_runs(tmp_path, ["ppl"])
    assert (tmp_path / "results.csv").read_text().splitlines()[1] == "a,evaluation_result.jsonl,,1"
    assert "inf" not in (tmp_path / "results.txt").read_text().split("Signatures")[0]
    assert "note: no ppl: the perplexity is too large" in capsys.readouterr().err


def test_txt_without_its_twin_is_said_not_skipped(tmp_path, capsys):
    """A run that silently drops out of a comparison is noticed after the paper."""
    write_run(tmp_path / "a")
    (tmp_path / "a" / "evaluation_result.txt").write_text("with its twin\n")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "evaluation_result.txt").write_text("BLEU 1.0\n")
    evaluate_runs(tmp_path, ["f1"])
    note = f"note: {tmp_path / 'b' / 'evaluation_result.txt'} has no .jsonl twin and is not scored\n"
    assert capsys.readouterr().err == note


def test_the_csv_keeps_four_digits_and_the_table_two(tmp_path):
    """Two runs that differ in the third digit would be a tie for whoever reads the CSV."""
    write_run(tmp_path / "a", {"prediction": "a b c d e f", "target": "a"})  # 2 / 7
    evaluate_runs(tmp_path, ["f1"])
    with (tmp_path / "results.csv").open() as file:
        _, row = csv.reader(file)
    assert row[2] == "28.5714"
    assert "f1        higher  28.57\n" in (tmp_path / "results.txt").read_text()


def test_unknown_metric_is_found_before_any_file_is_read(tmp_path):
    """A typo must not cost minutes of scoring."""
    with pytest.raises(UserError, match="unknown metric 'blue'; did you mean 'bleu'"):
        evaluate_runs(tmp_path / "missing", ["f1", "blue"])


def test_command(tmp_path):
    """The script as a user runs it: arguments reach the metrics, and a mistake is one line and status 1."""
    write_run(tmp_path / "a")
    command = [sys.executable, "evaluate_runs_results.py", "--main_path", str(tmp_path), "--metrics"]
    done = launch(*command, "f1, dist_1")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "results.csv").read_text().splitlines() == [
        "run,file,f1,dist_1,examples",
        "a,evaluation_result.jsonl,50.0,100.0,1",
    ]
    failed = launch(*command, "rouge_2")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == "error: unknown metric 'rouge_2'; did you mean 'rouge2'?\n"
