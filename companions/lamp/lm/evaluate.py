"""An LM's outputs for a file of questions: predictions in the benchmark's form, and their metrics."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from companions.lamp.lm.examples import Example, PromptReader
from companions.lamp.lm.generate import Advance, Answer, Answerer
from companions.lamp.lm.load import LM, load_lm
from companions.lamp.lm.settings import AnsweringConfig, EvaluationConfig, GenerationSettings
from companions.lamp.metrics import OutputError, training_metrics
from companions.lamp.questions import Question, read_questions, write_outputs
from companions.lamp.tasks import Task, task_of
from utils.distributed import DistributedContext
from utils.errors import UserError, existing_file
from utils.files import check_writable, to_json, write_whole
from utils.liveness import together
from utils.precision import decide_precision

RESULTS, PREDICTIONS = "results_output.json", "predictions.json"

Ask = Callable[[Iterator[Question], Advance], Iterator[tuple[Example, Answer]]]
"""gives the answer to each of some questions, in their order, and tells of those that are done"""


@dataclass(frozen=True)
class _Output:
    """What is kept of a question."""

    id: str
    text: str
    gold: str | None
    loss: float
    """summed over its target's tokens"""
    target_tokens: int
    is_cut: bool


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
        return answerer.stream(reader.examples(mine), advance=advance)

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
    with together(distributed):
        mine = _outputs(questions, ask, distributed)
    shares = distributed.gather(mine)
    count = sum(len(share) for share in shares)
    outputs = [shares[number % distributed.size][number // distributed.size] for number in range(count)]
    if not outputs:
        raise UserError(f"{path}: no question")
    results = _results(reader.task, outputs, path, prefix, released)
    if distributed.is_main:
        write_outputs(folder / PREDICTIONS, reader.task, ((output.id, output.text) for output in outputs))
        if results:
            write_whole(folder / RESULTS, to_json(results, indent=4) + "\n")
    cut = sum(output.is_cut for output in outputs)
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
    return Answerer(lm, search, generation.batch_size * reader.data.max_length)


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


def _outputs(questions: Iterable[Question], ask: Ask, distributed: DistributedContext) -> list[_Output]:
    """Those of this rank's share of the questions: every n-th."""
    share = islice(questions, distributed.rank, None, distributed.size)
    outputs = []
    bar = tqdm(desc="questions", unit="q", disable=not distributed.is_main, mininterval=0.5)
    with bar:
        for example, answer in ask(share, lambda count: bar.update(count * distributed.size)):
            outputs.append(
                _Output(
                    example.question,
                    answer.text,
                    example.gold,
                    answer.loss * answer.target_tokens,
                    answer.target_tokens,
                    example.is_cut,
                )
            )
    return outputs


def _results(
    task: Task, outputs: Sequence[_Output], path: str | Path, prefix: str, released: bool
) -> dict[str, float]:
    """Loss per target token and metrics; none without golds."""
    lacking = Counter(output.gold is None for output in outputs)
    if lacking[True] == len(outputs):
        return {}
    if lacking[True]:
        first = next(output.id for output in outputs if output.gold is None)
        raise UserError(
            f"{path}: {lacking[True]} of {len(outputs)} questions have no output, such as '{first}'"
        )
    golds = [output.gold or "" for output in outputs]
    try:
        metrics = training_metrics(task, [output.text for output in outputs], golds, released)
    except OutputError as error:
        raise UserError(f"{path}: question '{outputs[error.index].id}': {error}") from None
    tokens = sum(output.target_tokens for output in outputs)
    figures = {"loss": sum(output.loss for output in outputs) / max(1, tokens), **metrics}
    return {f"{prefix}_{name}": value for name, value in figures.items()}
