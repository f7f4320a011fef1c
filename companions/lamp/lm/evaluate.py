"""An LM's outputs for a file of questions: predictions in the benchmark's form, and their metrics."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile

from tqdm import tqdm

from companions.lamp.lm.examples import Example, PromptReader
from companions.lamp.lm.generate import WINDOW, Advance, Answer, Answerer
from companions.lamp.lm.load import LM, load_lm
from companions.lamp.lm.room import room_of
from companions.lamp.lm.settings import AnsweringConfig, EvaluationConfig, GenerationSettings
from companions.lamp.metrics import OutputError, TrainingMetrics
from companions.lamp.questions import Question, read_questions, write_outputs
from companions.lamp.tasks import task_of
from utils.distributed import DistributedContext
from utils.errors import UserError, existing_file
from utils.files import check_writable, to_json, write_whole
from utils.liveness import together
from utils.precision import decide_precision

RESULTS, PREDICTIONS = "results_output.json", "predictions.json"

Ask = Callable[[Iterator[Question], Advance], Iterator[tuple[Example, Answer]]]
"""gives the answer to each of some questions, in their order, and tells of those that are done"""


@dataclass
class _Sums:
    """What the results of some questions depend on beside their metrics; it does not grow with them."""

    questions: int = 0
    cut: int = 0
    """prompts that have lost their end"""
    loss: float = 0.0
    """summed over target tokens"""
    target_tokens: int = 0
    without_gold: int = 0
    lacking: str | None = None
    """one of those without a gold"""

    def add(self, answered: Sequence[tuple[Example, Answer]]) -> None:
        """Add some answers."""
        for example, answer in answered:
            self.questions += 1
            self.cut += example.is_cut
            self.loss += answer.loss * answer.target_tokens
            self.target_tokens += answer.target_tokens
            if example.gold is None:
                self.without_gold += 1
                self.lacking = self.lacking or example.question

    def add_sums(self, other: "_Sums") -> None:
        """Add those of other questions."""
        self.questions += other.questions
        self.cut += other.cut
        self.loss += other.loss
        self.target_tokens += other.target_tokens
        self.without_gold += other.without_gold
        self.lacking = self.lacking or other.lacking


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
    evaluate_file(lm, reader, path, config.generation, distributed, folder, "eval", config.model.released)


def evaluate_file(
    lm: LM,
    reader: PromptReader,
    path: str | Path,
    generation: GenerationSettings,
    distributed: DistributedContext,
    folder: Path,
    prefix: str,
    released: bool = False,
) -> dict[str, float]:
    """Ask about every question of a file; each rank takes its share, and the main process writes.

    Args:
        lm: on its device.
        reader: makes its prompts.
        path: questions or merged file.
        generation: beams and limits.
        distributed: the processes; all of them call this.
        folder: gets `predictions.json` and, where the file has outputs, `results_output.json`.
        prefix: stands before the names of the metrics, with an underscore.
        released: metrics of the benchmark's code, bug for bug.

    Returns:
        The results as they are written.
    """
    questions = read_questions(path, reader.task if reader.data.use_profile else None)
    answerer = answerer_of(lm, reader, generation)

    def ask(mine: Iterator[Question], advance: Advance) -> Iterator[tuple[Example, Answer]]:
        return answerer.stream(reader.examples(mine), WINDOW, advance)

    return evaluate_questions(questions, ask, reader, path, distributed, folder, prefix, released)


def evaluate_questions(
    questions: Iterable[Question],
    ask: Ask,
    reader: PromptReader,
    path: str | Path,
    distributed: DistributedContext,
    folder: Path,
    prefix: str,
    released: bool = False,
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

    Returns:
        The results as they are written.
    """
    share = islice(questions, distributed.rank, None, distributed.size)
    sums, of_share = _Sums(), TrainingMetrics(reader.task, released)
    bar = tqdm(desc="questions", unit="q", disable=not distributed.is_main, mininterval=0.5)
    with bar, TemporaryFile("w+", encoding="utf-8", dir=folder) as outputs:
        answers = ask(share, lambda count: bar.update(count * distributed.size))
        while True:
            with together(distributed):
                mine = list(islice(answers, WINDOW))
                sums.add(mine)
                _add_metrics(of_share, mine, path)
            pairs = distributed.gather_shares([(example.question, answer.text) for example, answer in mine])
            if not pairs:
                break
            if distributed.is_main:
                outputs.writelines(to_json(pair) + "\n" for pair in pairs)
        total, metrics = _Sums(), TrainingMetrics(reader.task, released)
        # a task is made of functions, which cannot be sent
        for of_metrics, one in distributed.gather((of_share.sums, sums)):
            metrics.add_sums(of_metrics)
            total.add_sums(one)
        results = _results(total, metrics, path, prefix)
        if distributed.is_main:
            outputs.seek(0)
            write_outputs(folder / PREDICTIONS, reader.task, map(json.loads, outputs))
            if results:
                write_whole(folder / RESULTS, to_json(results, indent=4) + "\n")
    count, cut = total.questions, total.cut
    if cut:
        distributed.say(
            f"{cut} of {count} prompts were cut to {reader.data.max_length} tokens: their end is lost"
        )
    distributed.say(
        f"{path}: {count} questions" + "".join(f"  {key} {value:.4f}" for key, value in results.items())
    )
    reader.tell(distributed)
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


def _add_metrics(
    metrics: TrainingMetrics, answered: Sequence[tuple[Example, Answer]], path: str | Path
) -> None:
    """Add some answers, of those that have a gold; errors name `path` and the question."""
    known = [(example, answer.text) for example, answer in answered if example.gold is not None]
    try:
        metrics.add([text for _, text in known], [example.gold or "" for example, _ in known])
    except OutputError as error:
        raise UserError(f"{path}: question '{known[error.index][0].question}': {error}") from None


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
