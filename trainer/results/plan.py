"""Which methods are compared, on what, and how their learning rates are chosen: config/results/plan.yml."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, Strict

from utils.config.loading import COMMAND_LINE, parse_assignments, read_layers, validated
from utils.config.schema import Positive, Section, Several
from utils.errors import UserError, existing_file, nearest

Pair = Annotated[tuple[str, str], Strict(False)]
LearningRate = Annotated[float, Field(gt=0)]


class DataSettings(Section):
    """What everything rests on."""

    model_name: str | None = None
    """the base LM: a local folder, or its name on the Hugging Face hub"""
    train: str = "data_file/ConvAI2/train_self_original_no_cands.txt"
    """training dialogues, ConvAI2 text format"""
    valid: str = "data_file/ConvAI2/valid_self_original_no_cands.txt"
    """validation dialogues, which only the final figures are computed on"""
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """share of the training dialogues, the last ones, that nothing trains on: they choose learning rates and epochs"""
    folder: str = "runs_results"
    """where everything is written"""

    def rules(self) -> list[tuple[bool, str]]:
        """The LM has no default: it decides how long everything takes."""
        return [
            (self.model_name is None, "data.model_name is missing: the base LM, by --set data.model_name=..")
        ]


class TuningSettings(Section):
    """The trainings that a learning rate is chosen by."""

    training_ratio: Annotated[float, Field(gt=0, le=1)] = 0.5
    """share of the training dialogues"""
    num_epochs: Positive = 1
    """passes over them"""
    seed: int = 1
    """seed of all of them"""


class MethodSettings(Section):
    """One row of the tables."""

    name: str
    """of its folder"""
    title: str
    """of its row"""
    config: str
    """its configuration"""
    settings: dict[str, Any] = {}
    """what differs from the configuration and from `settings` of the plan, by `section.key`"""
    learning_rates: Several[LearningRate] = ()
    """those that are tried, in rising order; none: nothing is trained"""
    seeds: Several[int] | None = None
    """seeds of its trainings, where they are not those of all methods"""
    start: str | None = None
    """the method whose run of the same seed it starts from"""
    start_as: Literal["warm_start_prompt", "ckpt_path"] = "warm_start_prompt"
    """how: its prompt, for all of K prompts; or all that it trained"""
    router: bool = False
    """whether a router is fitted on the held-out dialogues after the training, and chooses in decoding"""
    report: bool = False
    """whether fit_router says what the ceiling of each run is"""
    tables: Several[Literal["per_example", "in_all", "others", "silence"]] = ("others",)
    """equal virtual tokens per example; equal virtual tokens in all prompts together; neither; of dataset.silence"""
    minutes: Annotated[float, Field(gt=0)] = 5.0
    """what a training takes on one processor core of the machine of docs/results.md"""


class Plan(Section):
    """All of it."""

    data: DataSettings = DataSettings()
    """LM, files, folder"""
    tuning: TuningSettings = TuningSettings()
    """choice of learning rates"""
    seeds: Several[int] = (1, 2, 3)
    """seeds of the trainings"""
    decode_minutes: Annotated[float, Field(gt=0)] = 3.0
    """what a decoding of the validation dialogues takes on one such core"""
    settings: dict[str, Any] = {}
    """what all trainings have, by `section.key`"""
    methods: Several[MethodSettings] = ()
    """in the order of the tables; a method that another one starts from stands before it"""
    compare: Several[Pair] = ()
    """pairs of methods whose difference is tested, the first minus the second"""

    def rules(self) -> list[tuple[bool, str]]:
        """Each method has a name of its own, and starts from one that stands before it and has its seeds."""
        broken: list[tuple[bool, str]] = [(not self.methods, "methods is empty: there is nothing to compare")]
        names: list[str] = []
        for method in self.methods:
            broken.append((method.name in names, f"methods: the name '{method.name}' stands twice"))
            broken.append(
                (
                    method.start is not None and method.start not in names,
                    f"methods: '{method.name}' starts from '{method.start}', which does not stand before it"
                    f"{nearest(method.start or '', names)}",
                )
            )
            names.append(method.name)
        for name in (name for pair in self.compare for name in pair):
            broken.append((name not in names, f"compare: '{name}' is no method{nearest(name, names)}"))
        return broken

    def seeds_of(self, method: MethodSettings) -> tuple[int, ...]:
        """The seeds of its runs; one where nothing is trained."""
        if not method.learning_rates:
            return self.seeds[:1]
        return self.seeds if method.seeds is None else method.seeds


def read_plan(path: str, assignments: Sequence[str] = (), only: Sequence[str] | None = None) -> Plan:
    """The plan of a file, with `section.key=value` of the command line over it.

    Args:
        path: the YAML file.
        assignments: those of `--set`.
        only: names of the methods to keep, with those that they start from; None keeps all.

    Raises:
        UserError: what is wrong with it; a file is missing.
    """
    plan = validated([*read_layers(path), (COMMAND_LINE, parse_assignments(assignments))], Plan, "the plan")
    for file in (plan.data.train, plan.data.valid):
        existing_file(file, "dialogue file")
    for method in plan.methods:
        existing_file(method.config, f"{path}: {method.name}: configuration")
    if only is None:
        return plan
    names = [method.name for method in plan.methods]
    for name in only:
        if name not in names:
            raise UserError(f"--methods: '{name}'{nearest(name, names)}")
    wanted = set(only)
    for method in reversed(plan.methods):
        if method.name in wanted and method.start is not None:
            wanted.add(method.start)
    kept = [method for method in plan.methods if method.name in wanted]
    pairs = [pair for pair in plan.compare if {method.name for method in kept}.issuperset(pair)]
    return plan.model_copy(update={"methods": tuple(kept), "compare": tuple(pairs)})
