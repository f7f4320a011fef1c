"""The figures of a plan's runs: metrics with intervals, paired differences, time, as plain values for JSON."""

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from models.decoding.evaluate import read_examples
from trainer.results.jobs import REPORT, RESULT, Layout, decoding_job, report_job, training_job, tuning_job
from trainer.results.plan import MethodSettings
from trainer.results.running import read_record
from utils.config.strict_yaml import read_yaml
from utils.errors import UserError
from utils.metrics.comparison import Measure, difference, estimate
from utils.metrics.measures import MEASURES, Rows, measures_of
from utils.runs import CONFIG, library_versions


def figures_of(layout: Layout) -> dict[str, Any]:
    """All figures of what is done.

    Args:
        layout: of the plan; methods of which a run is missing are left out.

    Returns:
        `methods`: of each its title, learning rates with their losses, and per metric the mean over its seeds with a
        95 % interval over dialogues, and the standard deviation over seeds; `choices`: of each run that has a report
        of fit_router what that says; `differences`: per metric, of two methods with equally many seeds, with the
        difference of each pair of seeds and their standard deviation; `versions` of the libraries.
    """
    plan = layout.plan
    done = [
        method
        for method in plan.methods
        if all(_is_done(layout, decoding_job(method.name, seed)) for seed in plan.seeds_of(method))
    ]
    rows = {
        method.name: [
            read_examples(layout.run_of(training_job(method.name, seed)) / RESULT)
            for seed in plan.seeds_of(method)
        ]
        for method in done
    }
    measures = {name: _measures(name, rows) for name in MEASURES}
    return {
        "methods": {
            method.name: _of_method(layout, method)
            | {"metrics": {name: _estimated(measures[name][method.name]) for name in MEASURES}}
            for method in done
        },
        "choices": [
            {
                "method": method.name,
                "seed": seed,
                "choices": report["choices"],
                "preferred": report["preferred"],
            }
            for method in done
            for seed in plan.seeds_of(method)
            if (report := _report(layout, method, seed)) is not None
        ],
        "differences": _differences(plan.compare, measures),
        "versions": library_versions(),
    }


def _is_done(layout: Layout, job: str) -> bool:
    return "seconds" in read_record(layout.root / job)


def _report(layout: Layout, method: MethodSettings, seed: int) -> dict[str, Any] | None:
    """What fit_router says of a run on the validation dialogues; None: it was not asked, or not yet."""
    if not method.report or not _is_done(layout, report_job(method.name, seed)):
        return None
    report: dict[str, Any] = json.loads(
        (layout.run_of(training_job(method.name, seed)) / REPORT).read_text(encoding="utf-8")
    )
    return report


def _measures(name: str, rows: Mapping[str, Sequence[Rows]]) -> dict[str, list[Measure]]:
    """A metric of every run, by method: all of them at once, as items have one numbering."""
    flat = iter(
        measures_of(name, [run for runs in rows.values() for run in runs], "dialogue") if rows else []
    )
    return {method: [next(flat) for _ in runs] for method, runs in rows.items()}


def _estimated(runs: Sequence[Measure]) -> dict[str, Any]:
    return dataclasses.asdict(estimate(runs)) | _over_seeds([run.value() for run in runs])


def _over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Values of the seeds and their standard deviation, which intervals and tests over dialogues know nothing of."""
    return {"seeds": list(values), "spread": statistics.stdev(values) if len(values) > 1 else None}


def _differences(
    pairs: Sequence[tuple[str, str]], measures: Mapping[str, Mapping[str, Sequence[Measure]]]
) -> list[dict[str, Any]]:
    found = []
    for first, second in pairs:
        metrics = {
            name: dataclasses.asdict(difference(runs[first], runs[second]))
            | _over_seeds(
                [one.value() - other.value() for one, other in zip(runs[first], runs[second], strict=True)]
            )
            for name, runs in measures.items()
            if first in runs and second in runs and len(runs[first]) == len(runs[second])
        }
        if metrics:
            found.append({"first": first, "second": second, "metrics": metrics})
    return found


def _of_method(layout: Layout, method: MethodSettings) -> dict[str, Any]:
    """What the tables say of a method beside its metrics.

    Raises:
        UserError: a run has another learning rate than the one that is chosen now, with more of them tried.
    """
    seeds = layout.plan.seeds_of(method)
    rate = layout.learning_rate(method) if method.learning_rates else None
    for seed in seeds:
        run = layout.run_of(training_job(method.name, seed))
        trained = read_yaml(run / CONFIG)["training"]["learning_rate"]
        if rate is not None and trained != rate:
            raise UserError(
                f"{run}: trained at learning rate {trained:g}; {rate:g} has a lower loss now: remove {run.parent} and "
                f"{layout.root / decoding_job(method.name, seed)}, and give the command again"
            )
    tuned = len(method.learning_rates) > 1
    training = [read_record(layout.root / training_job(method.name, seed)) for seed in seeds]
    decoding = [read_record(layout.root / decoding_job(method.name, seed)) for seed in seeds]
    return {
        "title": method.title,
        "tables": list(method.tables),
        "learning_rate": rate,
        "tuning": {f"{rate:g}": layout.held_out_loss(method, rate) for rate in method.learning_rates}
        if tuned and all(_is_done(layout, tuning_job(method, rate)) for rate in method.learning_rates)
        else {},
        "seeds": list(seeds),
        **{
            f"{what}_{unit}": statistics.fmean(record[unit] for record in records)
            for what, records in (("training", training), ("decoding", decoding))
            for unit in ("seconds", "processor_seconds")
        },
    }
