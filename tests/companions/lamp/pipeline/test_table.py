"""The table of all systems."""

import json

from companions.lamp.pipeline.table import compare, parser, table
from companions.lamp.tasks import TASKS

LM_OUTPUTS = {"q1": ["5", "1", "4"], "q2": ["1", "2", "5"], "q3": ["3", "3", "1"]}
GOLDS = {"q1": "4", "q2": "2", "q3": "3"}


def written(folder):
    """Data of RSPG under three strategies, golds, and predictions of a system; the flags that name them."""
    rows = [
        {
            "id": name,
            "gold": GOLDS[name],
            "inputs": ["p"] * 3,
            "outputs": outputs,
            "labels": [abs(float(output) - float(GOLDS[name])) for output in outputs],
            "strategies": ["none", "bm25", "ropg-kd"],
            "metric": "mae",
        }
        for name, outputs in LM_OUTPUTS.items()
    ]
    (folder / "rspg.json").write_text(json.dumps(rows))
    golds = [{"id": name, "output": gold} for name, gold in GOLDS.items()]
    (folder / "golds.json").write_text(json.dumps({"task": "LaMP_3", "golds": golds}))
    chosen = [{"id": name, "output": LM_OUTPUTS[name][1], "index": 1} for name in GOLDS]
    (folder / "chosen.json").write_text(json.dumps({"task": "LaMP_3", "golds": chosen}))
    (folder / "out").mkdir()
    return parser().parse_args(
        [
            *("--task", "LaMP-3", "--rspg_data", str(folder / "rspg.json")),
            *("--golds", str(folder / "golds.json"), "--out", str(folder / "out")),
            *("--systems", f"rspg-pre={folder / 'chosen.json'}"),
        ]
    )


def test_each_system_has_its_own_figures(tmp_path):
    """Figures beside the wrong name are the one mistake that a reader of the table cannot see."""
    compare(written(tmp_path))
    figures = json.loads((tmp_path / "out" / "table.json").read_text())
    mae = {row["system"]: row["value"] for row in figures if row["metric"] == "MAE"}
    expected = {"none": 2 / 3, "bm25": 1.0, "ropg-kd": 5 / 3, "rspg-pre": 1.0, "oracle": 0.0}
    assert list(mae) == list(expected), "the oracle stands last"
    assert all(abs(mae[name] - value) < 1e-9 for name, value in expected.items())
    lines = (tmp_path / "out" / "table.txt").read_text().splitlines()
    starts = [
        "",
        "no profile",
        "BM25",
        "ROPG-KD",
        "RSPG-Pre",
        "oracle over strategies",
        "LaMP-3, 3 questions",
    ]
    assert len(lines) == len(starts)
    assert all(line.startswith(start) for line, start in zip(lines, starts, strict=True))


def test_predictions_of_strategies_are_written(tmp_path):
    """Nobody could look at what stands behind a line, or test it against another system."""
    compare(written(tmp_path))
    content = json.loads((tmp_path / "out" / "oracle.json").read_text())
    assert content == {
        "task": "LaMP_3",
        "golds": [{"id": name, "output": gold} for name, gold in GOLDS.items()],
    }
    assert (tmp_path / "out" / "bm25.json").is_file()


def test_a_line_says_what_is_significant():
    """An asterisk at the wrong line claims what was not measured."""
    rows = [
        {"system": name, "metric": metric, "value": 0.5, "low": 0.25, "high": 0.75, "p": p}
        for name, p in (("none", None), ("bm25", 0.2), ("ropg-kd", 0.01))
        for metric in ("accuracy", "f1")
    ]
    _, first, second, third, note = table(rows, TASKS["LaMP_2"], 7).splitlines()
    assert "0.500   0.250 .. 0.750" in first
    assert "*" not in first + second
    assert third.count("0.010*") == 2
    assert note == "LaMP-2, 7 questions; higher is better; p against the first line, * below 0.05"
