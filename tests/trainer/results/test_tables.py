"""Figures and tables of `make results`: of the runs that there are, and the same on the page."""

import json
from pathlib import Path

import numpy as np
import pytest

from trainer.results.figures import figures_of
from trainer.results.jobs import REPORT, RESULT, Layout, decoding_job, report_job, training_job, tuning_job
from trainer.results.plan import MethodSettings, Plan
from trainer.results.tables import tables_of, update_page, with_tables
from utils.errors import UserError
from utils.metrics import score

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs/results.md"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Two methods of two seeds, and one of one seed that is not done."""
    methods = [
        MethodSettings(
            name="a", title="A", config="a.yml", learning_rates=(0.1, 0.2), tables=("per_example",)
        ),
        MethodSettings(
            name="b",
            title="B",
            config="b.yml",
            report=True,
            learning_rates=(0.1,),
            tables=("per_example", "in_all"),
        ),
        MethodSettings(name="c", title="C", config="c.yml"),
    ]
    plan = Plan(
        data={"folder": str(tmp_path)}, seeds=(1, 2), methods=tuple(methods), compare=(("a", "b"), ("a", "c"))
    )
    layout = Layout(plan)
    for number, method in enumerate(methods[:2]):
        for seed in plan.seeds_of(method):
            put_run(layout, training_job(method.name, seed), 10 * seed + number, 0.2 if number == 0 else 0.1)
            put_record(layout, decoding_job(method.name, seed))
    kinds = ("best fixed prompt", "own choice", "turn", "linear", "random choice", "oracle")
    choice = {"perplexity": 20.0, "change": -1.5, "low": -2.0, "high": 0.25, "shares": [0.75, 0.25]}
    report = {"preferred": "turn", "choices": dict.fromkeys(kinds, choice)}
    (layout.run_of(training_job("b", 2)) / REPORT).write_text(json.dumps(report))
    put_record(layout, report_job("b", 2))  # that of seed 1 is not done
    for rate, loss in ((0.1, 3.0), (0.2, 2.0)):
        put_run(layout, tuning_job(methods[0], rate), 0, rate, loss)
    return layout


def put_run(layout: Layout, job: str, seed: int, rate: float, loss: float | None = None) -> None:
    """A run folder with a result file, as the commands leave it."""
    run = layout.root / job / "run_2026-01-01-0000"
    (run / "ds_ckpt").mkdir(parents=True)
    (run / "config.yml").write_text(f"training:\n  learning_rate: {rate}\n")
    generator = np.random.default_rng(seed)
    rows = [
        {
            "dialogue": number // 3,
            "prediction": " ".join(generator.choice(["a", "b", "c", "d"], 5)),
            "target": "a b c d a",
            "nll": float(generator.gamma(9.0)) if loss is None else loss,
            "nll_tokens": 4 if loss is None else 1,
        }
        for number in range(12)
    ]
    (run / RESULT).write_text("".join(json.dumps(row) + "\n" for row in rows))
    put_record(layout, job)


def put_record(layout: Layout, job: str) -> None:
    """That a job is done."""
    folder = layout.root / job
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.json").write_text(json.dumps({"seconds": 60.0, "processor_seconds": 30.0}))


def test_figures_are_the_means_of_the_runs(layout: Layout) -> None:
    """A figure of another run, of one seed, or of a method that is not done would stand in the table as if it were."""
    figures = figures_of(layout)
    assert list(figures["methods"]) == ["a", "b"]
    runs = [layout.run_of(training_job("b", seed)) / RESULT for seed in (1, 2)]
    wanted = [
        score([json.loads(line) for line in run.read_text().splitlines()], ["f1"])["f1"].value for run in runs
    ]
    found = figures["methods"]["b"]["metrics"]["f1"]
    assert found["seeds"] == pytest.approx(wanted)
    assert found["value"] == pytest.approx(np.mean(wanted))
    assert found["low"] < found["value"] < found["high"]
    assert figures["methods"]["a"]["learning_rate"] == 0.2
    assert figures["methods"]["a"]["tuning"] == {"0.1": 3.0, "0.2": 2.0}
    (pair,) = figures["differences"]
    assert (pair["first"], pair["second"]) == ("a", "b")
    ppl = [figures["methods"][name]["metrics"]["ppl"] for name in ("a", "b")]
    found = pair["metrics"]["ppl"]
    assert found["value"] == pytest.approx(ppl[0]["value"] - ppl[1]["value"])
    by_seed = np.subtract(ppl[0]["seeds"], ppl[1]["seeds"])
    assert found["seeds"] == pytest.approx(by_seed.tolist())
    assert found["spread"] == pytest.approx(by_seed.std(ddof=1))
    assert f" ({found['spread']:.2f}), p" in tables_of(figures)["differences"]


def test_a_run_of_a_learning_rate_that_was_not_chosen_is_named(layout: Layout) -> None:
    """With more learning rates tried, the runs of the earlier choice would pass for those of the best one."""
    path = layout.run_of(training_job("a", 2)) / "config.yml"
    path.write_text("training:\n  learning_rate: 0.1\n")
    with pytest.raises(UserError, match=r"a/seed=2/.*trained at learning rate 0.1; 0.2 has a lower loss now"):
        figures_of(layout)


def test_tables_have_a_row_for_each_method_of_their_kind(layout: Layout) -> None:
    """A method in the table of others' equal budgets would be compared with what it is not comparable to."""
    tables = tables_of(figures_of(layout))
    assert tables["per_example"].count("\n| ") == 3
    assert "| A |" not in tables["in_all"]
    assert "| B |" in tables["in_all"]
    assert "| A − B |" in tables["differences"]
    changes = " | ".join(["−1.50 (−2.00 to +0.25)"] * 5)
    assert tables["choices"].splitlines()[2:] == [f"| B, seed 2 | 20.00 | {changes} | 75 25 |"]
    assert "| A | 0.1: 3.0000, 0.2: 2.0000 | 0.2 |" in tables["learning_rates"]
    assert "| B | 1.0 | 0.5 | 1.0 | 0.5 |" in tables["time"]


def test_a_page_gets_the_tables_that_it_names(tmp_path: Path) -> None:
    """An unknown name would leave an old table in the page, in silence."""
    page = tmp_path / "page.md"
    page.write_text("text\n<!-- table: one -->\nold\n<!-- end -->\nmore\n")
    update_page(page, {"one": "| new |\n"})
    text = "text\n<!-- table: one -->\n\n| new |\n\n<!-- end -->\nmore\n"
    assert page.read_text() == text
    assert with_tables(text, {"one": "| new |\n"}) == text
    with pytest.raises(UserError, match="table: one -->: there is no such table; they are two"):
        update_page(page, {"two": ""})


def test_the_page_of_results_has_the_figures_beside_it() -> None:
    """Figures typed by hand are wrong sooner or later; those of the page are of docs/results.json."""
    figures = json.loads(PAGE.with_suffix(".json").read_text(encoding="utf-8"))
    text = PAGE.read_text(encoding="utf-8")
    assert with_tables(text, tables_of(figures)) == text
    assert text.count("<!-- table: ") == text.count("<!-- end -->") > 0
