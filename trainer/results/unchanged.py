"""Whether the trainings that are there are those of the plan as it is now."""

from collections.abc import Iterator, Mapping
from typing import Any

from models.arguments import read_train_arguments
from trainer.results.jobs import Layout, plan_words, training_job, tuning_job, tuning_settings
from trainer.results.plan import MethodSettings
from utils.config.strict_yaml import read_yaml
from utils.errors import UserError, shown
from utils.runs import CONFIG

# chosen and checked by itself; paths in the results' own folder, which may be moved
_OWN = {
    "training.learning_rate",
    "training.log_dir",
    "training.warm_start_prompt",
    "dataset.train",
    "dataset.valid",
}


def check_unchanged(layout: Layout) -> None:
    """Every run of an earlier call has the settings that it would get now.

    Raises:
        UserError: one has others: its figures would stand in the tables as if they were of these.
    """
    for method in layout.plan.methods:
        for name, seed, settings in _trainings(layout, method):
            runs = sorted((layout.root / name).glob(f"*/{CONFIG}"))
            if not runs:
                continue
            words = plan_words(layout, method, seed, settings)
            wanted = dict(_flat(read_train_arguments(words)[1].model_dump(mode="json")))
            for path in runs:
                for key, value in _flat(read_yaml(path)):
                    if key not in _OWN and key in wanted and wanted[key] != value:
                        raise UserError(
                            f"{path}: trained with {key}: {shown(value)}, which is {shown(wanted[key])} in the plan "
                            f"now: choose another data.folder, or remove {layout.root / name} and what rests on it"
                        )


def _trainings(layout: Layout, method: MethodSettings) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """Name, seed and settings of every training of a method."""
    plan = layout.plan
    for rate in method.learning_rates:
        yield tuning_job(method, rate), plan.tuning.seed, tuning_settings(plan, rate)
    for seed in plan.seeds_of(method):
        yield training_job(method.name, seed), seed, {}


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
