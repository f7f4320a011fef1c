"""The steps of the whole chain, from its configuration."""

from collections.abc import Iterator, Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import Any

from companions.lamp.pipeline.settings import ModelSettings, PipelineConfig
from companions.lamp.pipeline.steps import Command, Step
from companions.lamp.ropg.arguments import FOLDER as CONFIGS
from companions.lamp.tasks import task_of
from utils.config.schema import Section
from utils.files import to_json

SPLITS = ("train", "dev")
STRATEGIES = ("none", "recency", "bm25", "contriever", "ropg-kd", "ropg-rl")
"""those that RSPG chooses among, in its order"""
TABLE = "table"
NOTE = "All lines are answers of one LM; it sees the question alone for the first one"
NOTE_TRAINED = f"{NOTE}, though it was trained with what BM25 finds"
_RETRIEVERS = ("ropg-kd", "ropg-rl")
_COMMANDS = "companions.lamp"


def steps_of(config: PipelineConfig) -> list[Step]:
    """All steps, each after those that it needs."""
    return list(_Plan(config).steps())


def names_of_models(models: ModelSettings) -> dict[str, str]:
    """The models that are read from outside, by their keys; the scorer, which is read last, among them."""
    names = {} if models.tiny else {key: getattr(models, key) for key in ("lm", "encoder", "scorer")}
    return {key: name for key, name in names.items() if name not in _RETRIEVERS}


class _Plan:
    """Names of files and folders, and the commands that make them."""

    def __init__(self, config: PipelineConfig) -> None:
        self.config, self.task = config, task_of(config.data.task)
        self.folder = Path(config.data.folder)
        models = config.models
        tiny = {name: str(self.folder / "models" / name) for name in ("lm", "encoder", "scorer")}
        self.names = tiny if models.tiny else {name: getattr(models, name) for name in tiny}
        self.scorer_step = "models"
        if models.scorer in _RETRIEVERS:
            self.scorer_step = f"{models.scorer}-training"
            self.names["scorer"] = self.run(self.scorer_step)
        self.lm = self.run("lm") if models.train_lm else self.names["lm"]
        self.lm_step = "lm" if models.train_lm else "models"

    def steps(self) -> Iterator[Step]:
        """See `steps_of`."""
        if self.config.models.tiny:
            yield self.models()
        for name in ("recency", "bm25", "contriever"):
            yield self.ranking(name)
        if self.config.models.train_lm:
            yield self.lm_training()
        yield self.item_feedback()
        for method in ("kd", "rl"):
            yield self.ropg(method)
            yield self.ranking(f"ropg-{method}")
        for name in STRATEGIES:
            yield self.feedback(name)
        yield self.rspg_data()
        for kind in ("Pre", "Post"):
            yield self.rspg(kind)
        yield self.table()

    def path(self, *parts: str) -> str:
        """Below the folder of the chain."""
        return str(self.folder.joinpath(*parts))

    def run(self, step: str) -> str:
        """The run folder of a training step, whose name has the time in it."""
        return str(Path(escape(str(self.folder))) / step / f"{step}_*")

    def merged(self, name: str, split: str) -> str:
        """The merged file of a strategy; the LM sees no profile under "none", so that any will do."""
        return self.path("bm25" if name == "none" else name, f"{split}.json")

    def data(self, split: str, what: str) -> str:
        """The file of the benchmark."""
        return str(getattr(self.config.data, f"{split}_{what}"))

    def step(
        self,
        name: str,
        title: str,
        commands: Sequence[Command],
        after: Sequence[str] = (),
        files: Sequence[str] = (),
        resumes: bool = False,
        run: str = "",
    ) -> Step:
        """A step. Of what it may read, names of the hub are no files, and what a step makes is none from outside."""
        needs = [one for one in after if one != "models" or self.config.models.tiny]
        outside = [path for path in files if not Path(path).is_relative_to(self.folder)]
        there = [path for path in outside if Path(path).exists()]
        return Step(name, title, tuple(commands), tuple(needs), tuple(there), resumes, run)

    def models(self) -> Step:
        """Small models in the place of pretrained ones."""
        words = _words(
            task=self.task.option, questions=self.data("train", "questions"), out=self.path("models")
        )
        command = _command("pipeline.tiny_models", words)
        files = [self.data("train", "questions")]
        return self.step("models", "Tiny models without any training", [command], files=files)

    def ranking(self, name: str) -> Step:
        """Ranks and merges both splits."""
        dense = name not in ("recency", "bm25")
        encoder = self.names["encoder"] if name == "contriever" else self.run(name + "-training")
        commands, files = [], []
        for split in SPLITS:
            questions, outputs = self.data(split, "questions"), self.data(split, "outputs")
            ranking = self.path(name, f"{split}-ranking.json")
            words = _words(
                input_data_addr=questions,
                output_ranking_addr=ranking,
                task=self.task.option,
                ranker="contriever" if dense else name,
            )
            if dense:
                words += _words(contriever_checkpoint=encoder)
                words += ["--use_date"] if self.config.retrieval.use_date else []
            commands.append(_command("rank_profiles", words))
            merge = _words(
                lamp_questions_addr=questions,
                lamp_output_addr=outputs,
                profile_ranking_addr=ranking,
                merged_output_addr=self.merged(name, split),
            )
            commands.append(_command("merge_with_rank", merge))
            files += [questions, outputs]
        trained = [f"{name}-training"] if dense and name != "contriever" else []
        after = ["models"] if name == "contriever" else trained
        files += [encoder] if name == "contriever" else []
        return self.step(name, f"Profiles ranked by {name}", commands, after, files)

    def lm_training(self) -> Step:
        """Trains the LM with what BM25 finds."""
        words = [
            *_words(train_data=self.merged("bm25", "train"), validation_data=self.merged("bm25", "dev")),
            *_words(model_name=self.names["lm"], output_dir=self.path("lm"), name="lm"),
            *self.prompts("bm25"),
            *_assignments("training", self.config.lm),
            *_assignments("generation", self.config.generation),
        ]
        files = [self.names["lm"]]
        title = "The LM is trained with the items that BM25 finds"
        command = _command("train_llm", words)
        return self.step("lm", title, [command], ["models", "bm25"], files, run=self.run("lm"))

    def prompts(self, name: str) -> list[str]:
        """What stands in the LM's prompts under a strategy."""
        retrieval = self.config.retrieval
        words = _words(task=self.task.option, max_length=retrieval.max_length)
        if name != "none":
            words += ["--use_profile", "--is_ranked", *_words(num_retrieved=retrieval.num_retrieved)]
        return words

    def asked(self) -> list[str]:
        """What is asked how."""
        return [*_words(model_name=self.lm), *_assignments("generation", self.config.generation)]

    def item_feedback(self) -> Step:
        """Scores the items that ROPG learns from."""
        retrieval = self.config.retrieval
        commands = [
            _command(
                "profile_item_utilization_scorer",
                [
                    *_words(
                        train_data=self.merged("contriever", split), output_dir=self.path("items", split)
                    ),
                    *_words(task=self.task.option, max_length=retrieval.max_length),
                    *_words(profile_size=retrieval.ctx_size),
                    *self.asked(),
                ],
            )
            for split in SPLITS
        ]
        title = "The LM's feedback on single items"
        after = [self.lm_step, "contriever"]
        return self.step("items", title, commands, after, [self.lm], resumes=True)

    def ropg(self, method: str) -> Step:
        """Trains the retriever."""
        name = f"ropg-{method}-training"
        retrieval, training = self.config.retrieval, getattr(self.config, f"ropg_{method}")
        words = [
            *_words(task=self.task.option, name=name, checkpoint_dir=self.path(name)),
            *_words(model_path=self.names["encoder"], ctx_size=retrieval.ctx_size),
            *_words(train_data=self.merged("contriever", "train"), scores_path=self.path("items", "train")),
            *_words(validation_data=self.merged("contriever", "dev")),
            *_words(validation_scores_path=self.path("items", "dev")),
            *_assignments("dataset", {"use_date": retrieval.use_date}),
            *_assignments("training", training),
        ]
        files = [str(CONFIGS / f"ropg-{method}.yml"), str(CONFIGS / "ropg-kd.yml")]
        files += [self.names["encoder"]]
        title = f"The retriever learns from the feedback: ROPG-{method.upper()}"
        after = ["models", "contriever", "items"]
        command = _command(f"ropg.train_{method}", words)
        return self.step(name, title, [command], after, files, run=self.run(name))

    def feedback(self, name: str) -> Step:
        """Answers all questions under a strategy."""
        commands = [
            _command(
                "retriever_utilization_scorer",
                [
                    *_words(data_addr=self.merged(name, split)),
                    *_words(output_dir=self.path(f"{name}-answers", split)),
                    *self.prompts(name),
                    *self.asked(),
                ],
            )
            for split in SPLITS
        ]
        title = "The LM's outputs without a profile" if name == "none" else f"The LM's outputs with {name}"
        after = [self.lm_step, "bm25" if name == "none" else name]
        return self.step(f"{name}-answers", title, commands, after, [self.lm], resumes=True)

    def rspg_data(self) -> Step:
        """Puts the feedback on all strategies together."""
        commands = [
            _command(
                "rspg.create_data",
                [
                    *("--retrivers_data_addr", *(self.path(f"{name}-answers", split) for name in STRATEGIES)),
                    *("--names", *STRATEGIES),
                    *_words(task_inputs_addr=self.data(split, "questions")),
                    *_words(task_outputs_addr=self.data(split, "outputs")),
                    *_words(output_dataset_addr=self.path("rspg-data", f"{split}.json")),
                    *_words(metric=self.task.scoring.best),
                ],
            )
            for split in SPLITS
        ]
        after = [f"{name}-answers" for name in STRATEGIES]
        return self.step("rspg-data", "The data of RSPG", commands, after, self.all_data())

    def all_data(self) -> list[str]:
        """The files of the benchmark."""
        return [self.data(split, what) for split in SPLITS for what in ("questions", "outputs")]

    def rspg(self, kind: str) -> Step:
        """Trains a scorer of strategies, and predicts with it."""
        name = f"rspg-{kind.lower()}"
        words = [
            *_words(rspg_type=kind, task=self.task.option, name=name, checkpoint_dir=self.path(name)),
            *("--do_train", "--do_validation"),
            *_words(train_data=self.path("rspg-data", "train.json")),
            *_words(val_data=self.path("rspg-data", "dev.json")),
            *_words(val_lamp_golds=self.data("dev", "outputs"), model_path=self.names["scorer"]),
            *_words(max_length_input=self.config.retrieval.max_length_input),
            *_assignments("training", self.config.rspg),
        ]
        files = [self.data("dev", "outputs"), str(CONFIGS / "rspg.yml")]
        files += [self.names["scorer"]] if self.scorer_step == "models" else []
        title = f"A scorer learns which strategy serves a question: RSPG-{kind}"
        after = [self.scorer_step, "rspg-data"]
        return self.step(name, title, [_command("rspg.rspg", words)], after, files, run=self.run(name))

    def table(self) -> Step:
        """Compares everything."""
        words = [
            *_words(task=self.task.option, rspg_data=self.path("rspg-data", "dev.json")),
            *_words(golds=self.data("dev", "outputs"), out=self.path(TABLE)),
            *_words(note=NOTE_TRAINED if self.config.models.train_lm else NOTE),
            "--systems",
            *(f"{name}={self.run(name)}/predictions/final_preds.json" for name in ("rspg-pre", "rspg-post")),
        ]
        command = _command("pipeline.table", words)
        after = ["rspg-data", "rspg-pre", "rspg-post"]
        return self.step(TABLE, "The table", [command], after, [self.data("dev", "outputs")])


def _command(module: str, words: Sequence[str]) -> Command:
    return Command(f"{_COMMANDS}.{module}", tuple(words))


def _words(**flags: Any) -> list[str]:
    """Flags with their values."""
    return [word for name, value in flags.items() for word in (f"--{name}", str(value))]


def _assignments(name: str, values: Section | Mapping[str, Any]) -> list[str]:
    """`--set` for whatever a section of the configuration states; the rest is as the command has it."""
    stated = values.model_dump(exclude_unset=True) if isinstance(values, Section) else values
    return [f"--set={name}.{key}={to_json(value)}" for key, value in stated.items()]
