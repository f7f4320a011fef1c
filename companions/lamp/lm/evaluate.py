"""An LM's outputs for a file of questions: predictions in the benchmark's form, and their metrics."""

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from companions.lamp.disk_table import DiskTable
from companions.lamp.lm.examples import Example, PromptReader, without_profile_text
from companions.lamp.lm.generate import WINDOW, Answer, Answered, Answerer
from companions.lamp.lm.load import LM, load_lm
from companions.lamp.lm.room import room_of
from companions.lamp.lm.settings import AnsweringConfig, EvaluationConfig, GenerationSettings
from companions.lamp.metrics import OutputError, TrainingMetrics
from companions.lamp.questions import Question, read_questions, write_outputs
from companions.lamp.tasks import Task, task_of
from dataset.row_files import KeptRows, Row
from utils.distributed import DistributedContext
from utils.errors import UserError, existing_file
from utils.files import check_writable, file_sha256, file_stats, to_json, write_whole
from utils.liveness import together
from utils.precision import decide_precision
from utils.runs import library_versions

RESULTS, PREDICTIONS = "results_output.json", "predictions.json"
ROWS = "predictions.part"  # folder of the predictions until all are there
_KEYS = {
    "id": str,
    "output": str,
    "gold": (str, type(None)),
    "loss": (float, int),
    "target_tokens": int,
    "cut": bool,
    "without_profile": bool,
}  # of a row

Ask = Callable[[Iterator[Question]], Iterator[Answered]]
"""gives the answers to all of some questions batch by batch, by the question's place among them"""


@dataclass
class _Sums:
    """What the results of some questions depend on beside their metrics; it does not grow with them."""

    questions: int = 0
    cut: int = 0
    """prompts that have lost their end"""
    without_profile: int = 0
    """prompts that are the question alone, as no item fits"""
    loss: float = 0.0
    """summed over target tokens"""
    target_tokens: int = 0
    without_gold: int = 0
    lacking: str | None = None
    """one of those without a gold"""

    def add(self, row: Row) -> None:
        """Add a question."""
        self.questions += 1
        self.cut += row["cut"]
        self.without_profile += row["without_profile"]
        self.loss += row["loss"] * row["target_tokens"]
        self.target_tokens += row["target_tokens"]
        if row["gold"] is None:
            self.without_gold += 1
            self.lacking = self.lacking or row["id"]


def evaluate(config: EvaluationConfig, folder: str | Path, distributed: DistributedContext) -> None:
    """Ask the LM of a configuration, and write results and predictions to a folder, which is made if need be.

    Raises:
        UserError: what is wrong with the configuration, the LM or the file.
    """
    task_of(config.dataset.task or "")
    path = existing_file(config.dataset.valid or "", "questions file")
    folder = made_folder(folder)
    lm = ready_lm(config, distributed)
    reader = PromptReader(config.dataset, lm, config.model.released)
    settings = evaluation_settings(config, path)
    evaluate_file(
        lm, reader, path, config.generation, distributed, folder, "eval", config.model.released, settings
    )


def evaluate_file(
    lm: LM,
    reader: PromptReader,
    path: str | Path,
    generation: GenerationSettings,
    distributed: DistributedContext,
    folder: Path,
    prefix: str,
    released: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Ask about every question of a file; each rank takes its share, and the main process writes.

    Answers lie in `predictions.part` of the folder until all are there: an evaluation that ended early goes on from
    them. In float32 its outputs are those of one that never stopped; losses may differ in their last digits, as
    prompts are asked beside others.

    Args:
        lm: on its device.
        reader: makes its prompts.
        path: questions or merged file.
        generation: beams and limits.
        distributed: the processes; all of them call this.
        folder: gets `predictions.json` and, where the file has outputs, `results_output.json`.
        prefix: stands before the names of the metrics, with an underscore.
        released: metrics of the benchmark's code, bug for bug.
        settings: what the answers rest on; None: nobody can say, and none of an earlier call are taken.

    Returns:
        The results as they are written.
    """
    questions = read_questions(path, reader.task if reader.data.use_profile else None)
    answerer = answerer_of(lm, reader, generation)

    def ask(mine: Iterator[Question]) -> Iterator[Answered]:
        return answerer.stream(reader.examples(mine), WINDOW)

    return evaluate_questions(questions, ask, reader, path, distributed, folder, prefix, released, settings)


def evaluate_questions(
    questions: Iterable[Question],
    ask: Ask,
    reader: PromptReader,
    path: str | Path,
    distributed: DistributedContext,
    folder: Path,
    prefix: str,
    released: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """The same for questions that are asked in some other way.

    Args:
        questions: all of them, on each rank.
        ask: gives the answers to this rank's share of them.
        reader: of the prompts: gives task and length.
        path: where the questions are from, for messages.
        distributed: the processes; all of them call this.
        folder: see `evaluate_file`.
        prefix: see `evaluate_file`.
        released: see `evaluate_file`.
        settings: see `evaluate_file`.

    Returns:
        The results as they are written.
    """
    rests_on = settings or {"once": secrets.token_hex(8)}
    with KeptRows(folder / ROWS, rests_on, distributed, None, _KEYS, in_memory=False) as kept:
        count = 0
        places: list[int] = []  # of this rank's questions in the file

        def wanted() -> Iterator[Question]:
            nonlocal count
            for place, question in enumerate(questions):
                count += 1
                if place not in kept.done:
                    yield question

        def mine() -> Iterator[Question]:
            for question in islice(wanted(), distributed.rank, None, distributed.size):
                places.append(count - 1)
                yield question

        bar = tqdm(
            desc="questions",
            unit="q",
            initial=len(kept.done),
            disable=not distributed.is_main,
            mininterval=0.5,
        )
        with together(distributed), bar:
            for batch in ask(mine()):
                _add_metrics(TrainingMetrics(reader.task, released), _texts(batch.values()), path)
                kept.add({places[number]: _row(*pair) for number, pair in batch.items()})
                bar.update(len(batch) * distributed.size)
        total = _Sums()
        results: dict[str, float] = {}
        with together(distributed):
            if distributed.is_main:
                total, results = _write(kept, count, reader.task, path, folder, prefix, released)
                kept.remove()
        total, results = distributed.share((total, results))
    if total.cut:
        distributed.say(
            f"{total.cut} of {count} prompts were cut to {reader.data.max_length} tokens: their end is lost"
        )
    distributed.say(
        f"{path}: {count} questions" + "".join(f"  {key} {value:.4f}" for key, value in results.items())
    )
    if total.without_profile:
        distributed.say(without_profile_text(total.without_profile, reader.data.max_length))
    distributed.say(f"predictions: {folder / PREDICTIONS}")
    return results


def ready_lm(config: AnsweringConfig, distributed: DistributedContext, flag: str = "--model_name") -> LM:
    """The LM of a configuration on this rank's device, in a precision that it has.

    Raises:
        UserError: it cannot be loaded, or its positions are too few.
    """
    precision, reason = decide_precision(config.model.load_bit, "model.load_bit")
    if reason:
        distributed.say(f"automatic choice: {reason}")
    lm = load_lm(config.model.model_name or "", precision, f"{flag} FOLDER")
    lm.check_lengths(config.dataset.max_length, config.generation.max_length)
    return lm.to(distributed.device)


def answerer_of(lm: LM, reader: PromptReader, generation: GenerationSettings) -> Answerer:
    """What asks an LM with the settings of a configuration."""
    search = lm.search(generation.num_beams, generation.max_length)
    return Answerer(lm, search, room_of(lm, generation, reader.data.max_length))


def made_folder(folder: str | Path) -> Path:
    """A folder that can be written to.

    Raises:
        UserError: it cannot.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}") from None
    check_writable(folder)
    return folder


def evaluation_settings(config: AnsweringConfig, path: str | Path) -> dict[str, Any]:
    """What the answers to a file of questions rest on."""
    lm = Path(config.model.model_name or "")
    return {
        "model": config.model.model_dump(),
        "dataset": config.dataset.model_dump(),
        "generation": config.generation.model_dump(exclude={"batch_size"}),
        "questions_sha256": file_sha256(path),
        "lm": file_stats(lm) if lm.is_dir() else None,
        **library_versions(),
    }


def _row(example: Example, answer: Answer) -> Row:
    return {
        "id": example.question,
        "output": answer.text,
        "gold": example.gold,
        "loss": answer.loss,
        "target_tokens": answer.target_tokens,
        "cut": example.is_cut,
        "without_profile": example.without_profile,
    }


def _write(
    kept: KeptRows, count: int, task: Task, path: str | Path, folder: Path, prefix: str, released: bool
) -> tuple[_Sums, dict[str, float]]:
    """Write predictions and results from the rows of all ranks, in the order of the questions."""
    total, metrics = _Sums(), TrainingMetrics(task, released)
    with DiskTable() as table:
        for number, row in kept.read():
            table.add(str(number), to_json(row))

        def rows() -> Iterator[Row]:
            for number in range(count):
                text = table.get(str(number))
                if text is None:
                    raise UserError(
                        f"{kept.folder} lacks the answer to question {number + 1} of {path}: all ranks need the same "
                        "folder"
                    )
                yield json.loads(text)

        stream = rows()
        while window := list(islice(stream, WINDOW)):
            for row in window:
                total.add(row)
            _add_metrics(metrics, [(row["id"], row["output"], row["gold"]) for row in window], path)
        results = _results(total, metrics, path, prefix)
        write_outputs(folder / PREDICTIONS, task, ((row["id"], row["output"]) for row in rows()))
        if results:
            write_whole(folder / RESULTS, to_json(results, indent=4) + "\n")
    return total, results


def _texts(answered: Iterable[tuple[Example, Answer]]) -> list[tuple[str, str, str | None]]:
    return [(example.question, answer.text, example.gold) for example, answer in answered]


def _add_metrics(
    metrics: TrainingMetrics, answered: Sequence[tuple[str, str, str | None]], path: str | Path
) -> None:
    """Add the question, output and gold of some that have a gold; errors name `path` and the question."""
    known = [(name, text, gold) for name, text, gold in answered if gold is not None]
    try:
        metrics.add([text for _, text, _ in known], [gold for _, _, gold in known])
    except OutputError as error:
        raise UserError(f"{path}: question '{known[error.index][0]}': {error}") from None


def _results(sums: _Sums, metrics: TrainingMetrics, path: str | Path, prefix: str) -> dict[str, float]:
    """Loss per target token and metrics; none without golds."""
    if not sums.questions:
        raise UserError(f"{path}: no question")
    if sums.without_gold == sums.questions:
        return {}
    if sums.without_gold:
        raise UserError(
            f"{path}: {sums.without_gold} of {sums.questions} questions have no output, such as '{sums.lacking}'"
        )
    figures = {"loss": sums.loss / max(1, sums.target_tokens), **metrics.result()}
    return {f"{prefix}_{name}": value for name, value in figures.items()}
