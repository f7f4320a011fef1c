"""Predictions that call the LM once per question: the scorer (Pre) chooses among the prompts, and one is answered."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from companions.lamp.lm.evaluate import evaluation_settings, made_folder, ready_lm
from companions.lamp.lm.examples import Example, PromptReader, without_profile_text
from companions.lamp.lm.generate import Answer, Answerer
from companions.lamp.lm.load import LM
from companions.lamp.lm.room import room_of
from companions.lamp.questions import read_questions
from companions.lamp.rspg.choosing import choose
from companions.lamp.rspg.inference import PREDICTIONS
from companions.lamp.rspg.model import is_trained, load_scorer, read_metadata, scorer_encoder
from companions.lamp.rspg.settings import AnsweringConfig, RspgConfig
from companions.lamp.rspg.task import input_maker
from companions.lamp.tasks import task_of
from dataset.row_files import KeptRows, Row
from utils.distributed import DistributedContext
from utils.errors import UserError, existing_file
from utils.files import file_sha256, file_stats, to_json, write_whole
from utils.liveness import together

ROWS = "final_preds.part"  # folder of the predictions until all are there
_KEYS = {"id": str, "output": str, "index": int, "cut": bool, "without_profile": bool}  # of a row


@dataclass(frozen=True)
class Prompts:
    """The prompts of one question, one per strategy."""

    examples: tuple[Example, ...]

    @property
    def prompts(self) -> list[str]:
        """Their texts."""
        return [example.prompt for example in self.examples]

    @property
    def outputs(self) -> list[str]:
        """There are none yet."""
        return []


@dataclass(frozen=True)
class Source:
    """Where the prompts of one strategy come from."""

    path: str
    """merged file, ranked; where the strategy has none, that of another one"""
    count: int
    """items in a prompt, at most; 0: the LM sees the question alone"""


def answer(config: AnsweringConfig, folder: Path, distributed: DistributedContext) -> None:
    """Choose a strategy for each question, then ask the LM with that one's prompt.

    Args:
        config: scorer, LM, and a merged file for each strategy.
        folder: gets `final_preds.json` in the benchmark's form, with the strategy's number as `index`. It is made if
            need be. Answers lie in `final_preds.part` of it until all are there; an interrupted call goes on from them.
        distributed: the processes; all of them call this.

    Raises:
        UserError: what is wrong with configuration, scorer, LM or files.
    """
    task = task_of(config.dataset.task or "")
    with together(distributed):
        if distributed.is_main:
            made_folder(folder)
        of_scorer = _scorer_config(config)
        names = read_metadata(Path(of_scorer.model.model_name))["strategies"]
        sources = _sources(config.dataset.strategies or "", names, config.dataset.num_retrieved)
        encoder = scorer_encoder(of_scorer)
        scorer = load_scorer(of_scorer, encoder, names).eval().to(distributed.device)
    lm = ready_lm(config, distributed)
    search = lm.search(config.generation.num_beams, config.generation.max_length)
    room = room_of(lm, config.generation, config.dataset.max_length)
    answerer = Answerer(lm, search, room, with_losses=False)
    settings = _settings(config, sources)
    with KeptRows(folder / ROWS, settings, distributed, None, _KEYS) as kept:
        with together(distributed):
            numbered = ((n, one) for n, one in enumerate(_prompts(config, lm, sources)) if n not in kept.done)
            numbers: list[int] = []  # of this rank's questions; answers and choices come later
            questions = _noted(islice(numbered, distributed.rank, None, distributed.size), numbers)
            maker = input_maker(of_scorer, encoder)
            choices = choose(scorer, maker, questions, config.dataset.scorer_batch_size)
            indices: list[int] = []  # the choices, in the same order

            def chosen() -> Iterator[Example]:
                for question, index in choices:
                    indices.append(index)
                    yield question.examples[index]

            for batch in answerer.stream(chosen()):
                kept.add({numbers[n]: _row(*pair, indices[n]) for n, pair in batch.items()})
        shares = distributed.gather(kept.rows)
        rows = [row for _, row in sorted((number, row) for share in shares for number, row in share.items())]
        with together(distributed):
            if distributed.is_main:
                golds = [{key: row[key] for key in ("id", "output", "index")} for row in rows]
                write_whole(
                    folder / PREDICTIONS, to_json({"task": task.name, "golds": golds}, indent=1) + "\n"
                )
                kept.remove()
    length = config.dataset.max_length
    if count := sum(row["cut"] for row in rows):
        distributed.say(f"{count} of {len(rows)} prompts were cut to {length} tokens: their end is lost")
    if count := sum(row["without_profile"] for row in rows):
        distributed.say(without_profile_text(count, length))
    distributed.say(f"{folder / PREDICTIONS}: {len(rows)} questions, one call of the LM each")


def _settings(config: AnsweringConfig, sources: Sequence[Source]) -> dict[str, Any]:
    """What the answers rest on."""
    return evaluation_settings(config, sources[0].path) | {
        "files_sha256": [file_sha256(source.path) for source in sources],
        "scorer_files": file_stats(Path(config.dataset.scorer or "")),
    }


def _noted(questions: Iterable[tuple[int, Prompts]], numbers: list[int]) -> Iterator[Prompts]:
    for number, question in questions:
        numbers.append(number)
        yield question


def _row(example: Example, answer: Answer, index: int) -> Row:
    return {
        "id": example.question,
        "output": answer.text,
        "index": index,
        "cut": example.is_cut,
        "without_profile": example.without_profile,
    }


def _scorer_config(config: AnsweringConfig) -> RspgConfig:
    """What the scorer was trained with, as a configuration."""
    run = config.dataset.scorer or ""
    if not is_trained(run):
        raise UserError(f"--scorer {run}: not the run folder of a trained scorer")
    found = read_metadata(Path(run))
    if found.get("rspg_type") != "Pre":
        raise UserError(
            f"--scorer {run}: it chooses among outputs (Post), so the LM answers under every strategy: collect its "
            "outputs with retriever_utilization_scorer, and choose with rspg --do_validation"
        )
    return RspgConfig().replaced(
        {
            "model": {"model_name": run, "fidelity": found.get("fidelity"), "load_bit": 32},
            "dataset": {
                "task": config.dataset.task,
                "rspg_type": "Pre",
                "max_length_input": found.get("max_length_input"),
            },
        }
    )


def _sources(strategies: str, names: Sequence[str], count: int) -> list[Source]:
    """The source of each strategy in the scorer's order.

    Args:
        strategies: `none,bm25=FILE,recency=FILE:2`.
        names: what the scorer knows.
        count: items in a prompt, where the strategy does not say.
    """
    given: dict[str, Source | None] = {}
    for part in strategies.split(","):
        name, has_file, value = part.strip().partition("=")
        if name in given:
            raise UserError(f"--strategies: '{name}' is given twice")
        file, _, own = value.rpartition(":")
        if not file or not own.isdecimal():
            file, own = value, str(count)
        given[name] = Source(str(existing_file(file, "merged file")), int(own)) if has_file else None
    if given.keys() != set(names):
        raise UserError(f"--strategies: {', '.join(given)}; the scorer chooses among {', '.join(names)}")
    some = next((source.path for source in given.values() if source is not None), None)
    if some is None:
        raise UserError("--strategies: none of them has a file; the questions are read from one")
    return [given[name] or Source(some, 0) for name in names]


def _reader(config: AnsweringConfig, lm: LM, count: int) -> PromptReader:
    prompts = {"use_profile": count > 0, "is_ranked": True, "num_retrieved": max(1, count)}
    return PromptReader(config.dataset.replaced(prompts), lm, config.model.released)


def _prompts(config: AnsweringConfig, lm: LM, sources: Sequence[Source]) -> Iterator[Prompts]:
    """The prompts of each question, read from all files side by side."""
    task = task_of(config.dataset.task or "")
    streams = [
        _reader(config, lm, source.count).examples(read_questions(source.path, task)) for source in sources
    ]
    while True:
        examples = [next(stream, None) for stream in streams]
        if all(example is None for example in examples):
            return
        first = examples[0]
        for source, example in zip(sources, examples, strict=True):
            if example is None or first is None or example.question != first.question:
                names = [repr(one.question) if one else "the end of the file" for one in (first, example)]
                raise UserError(
                    f"{source.path}: {names[1]} where {sources[0].path} has {names[0]}; the files of the strategies "
                    "need the same questions in one order"
                )
        yield Prompts(tuple(example for example in examples if example is not None))
