"""Feedback of a frozen LM: how well it answers each question with each item of the profile, or with each retriever.

Rows are collected in JSON-lines files of one folder, a file per process; what is there already is not asked again, so
that an interrupted collection goes on where it was.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from companions.lamp.disk_table import DiskTable
from companions.lamp.json_stream import write_object
from companions.lamp.lm.evaluate import answerer_of, made_folder, ready_lm
from companions.lamp.lm.examples import Example, Pair, PromptReader
from companions.lamp.lm.generate import WINDOW, Answer
from companions.lamp.lm.settings import AnsweringConfig, ItemFeedbackConfig, RetrieverFeedbackConfig
from companions.lamp.metrics import OutputError, metrics_of_each
from companions.lamp.questions import Question, read_questions
from companions.lamp.tasks import Task, task_of
from dataset.row_files import Appender, RowFolder, telling_of_rows
from utils.distributed import DistributedContext
from utils.errors import UserError, existing_file, shown
from utils.files import file_sha256, to_json
from utils.liveness import together

SETTINGS = "feedback.json"
_ROWS = "scores*.jsonl"
_SCORES = "scores.json"  # of retrievers, in the benchmark's own form
_OWN = {"train", "data", "start_index", "end_index", "profile_size"}  # what may differ from call to call

Metrics = Mapping[str, float]


def collect_item_feedback(
    config: ItemFeedbackConfig, folder: str | Path, distributed: DistributedContext
) -> None:
    """Score the first items of every profile, each alone in the prompt.

    Rows `{"question", "item", "metrics"}` go to `scores_<start>_<end>.<rank>.jsonl` of a folder. Where the item does
    not fit into the prompt, the feedback is that of the question alone, and the row says `"without_profile": true`.

    Raises:
        UserError: what is wrong with configuration, LM, file or folder.
    """
    task, data = task_of(config.dataset.task or ""), config.dataset
    path = str(existing_file(data.train or "", "merged file"))
    end = None if data.end_index < 0 else data.end_index
    size = None if data.profile_size < 0 else data.profile_size

    def pairs() -> Iterator[Pair]:
        questions = read_questions(path, task, need_output=True)
        return islice(
            ((question, item) for question in questions for item in question.profile[:size]),
            data.start_index,
            end,
        )

    _collect(
        config,
        path,
        made_folder(folder),
        f"scores_{data.start_index}_{data.end_index}",
        distributed,
        asked=pairs,
        key=lambda pair: _key(pair[0].id, pair[1]["id"]),
        row_key=lambda row: _key(row["question"], row["item"]),
        prompts=lambda reader, wanted: reader.item_examples(wanted),
        row=lambda example, answer, metrics: {
            "question": example.question,
            "item": example.item,
            "metrics": metrics,
            **({"without_profile": True} if example.without_profile else {}),
        },
    )


def collect_retriever_feedback(
    config: RetrieverFeedbackConfig, folder: str | Path, distributed: DistributedContext
) -> None:
    """Score the items that a retriever has found, or the question alone where `use_profile` is off.

    Rows `{"question", "metric", "output", "input"}` go to `scores.<rank>.jsonl` of a folder; at the end all of them
    are in `scores.json`, by question: `{"<id>": {"metric", "output", "input"}}`.

    Raises:
        UserError: what is wrong with configuration, LM, file or folder.
    """
    task, data = task_of(config.dataset.task or ""), config.dataset
    path = str(existing_file(data.data or "", "merged file"))
    folder = made_folder(folder)

    def questions() -> Iterator[Question]:
        return read_questions(path, task if data.use_profile else None, need_output=True)

    _collect(
        config,
        path,
        folder,
        "scores",
        distributed,
        asked=questions,
        key=lambda question: _key(question.id),
        row_key=lambda row: _key(row["question"]),
        prompts=lambda reader, wanted: reader.examples(wanted),
        row=lambda example, answer, metrics: {
            "question": example.question,
            "metric": metrics,
            "output": answer.text,
            "input": example.prompt,
        },
    )
    with together(distributed):
        if distributed.is_main:
            _write_scores(folder, questions())
    distributed.say(f"{folder / _SCORES}: feedback on every question")


def _collect(
    config: AnsweringConfig,
    path: str,
    folder: Path,
    name: str,
    distributed: DistributedContext,
    asked: Callable[[], Iterator[Any]],
    key: Callable[[Any], str],
    row_key: Callable[[Mapping[str, Any]], str],
    prompts: Callable[[PromptReader, Iterable[Any]], Iterator[Example]],
    row: Callable[[Example, Answer, Metrics], Mapping[str, Any]],
) -> None:
    """Ask about everything that the folder has no row of.

    Args:
        config: LM, prompts and generation.
        path: the data.
        folder: where rows are.
        name: of this process's file, before the rank.
        distributed: the processes; all of them call this.
        asked: a stream of all that is to be asked about.
        key: of one of it.
        row_key: of a row.
        prompts: makes their prompts.
        row: what is kept of an answer.
    """
    with together(distributed):
        if distributed.is_main:
            _check_settings(folder, config, path)
            _files(folder).repair()
    with DiskTable() as known:
        with together(distributed):
            there = _read_keys(folder, known, row_key)
            mine = islice(asked(), distributed.rank, None, distributed.size)
            missing = next((one for one in mine if known.get(key(one)) is None), None)
        found = distributed.gather((there, missing is not None))
        distributed.say(f"{folder}: {found[0][0]} row(s) are there already")
        if not any(lacks for _, lacks in found):
            return
        cut = 0
        with together(distributed):
            lm = ready_lm(config, distributed)
            reader = PromptReader(config.dataset, lm, config.model.released)
            mine = islice(asked(), distributed.rank, None, distributed.size)
            wanted = (one for one in mine if known.get(key(one)) is None)
            # a rank without anything to do leaves no file
            file = (
                Appender(folder / f"{name}.{distributed.rank}.jsonl")
                if missing is not None
                else nullcontext()
            )
            bar = tqdm(desc="feedback", unit="prompt", disable=not distributed.is_main, mininterval=0.5)
            with file, bar, telling_of_rows(folder):
                answerer = answerer_of(lm, reader, config.generation)
                examples = prompts(reader, wanted)
                while part := list(islice(examples, WINDOW)):
                    cut += sum(example.is_cut for example in part)
                    for batch in answerer.batches(part):
                        some = [(part[number], answer) for number, answer in batch.items()]
                        metrics = _metrics(reader.task, some, path, config.model.released)
                        assert isinstance(file, Appender)
                        file.add(row(*pair, one) for pair, one in zip(some, metrics, strict=True))
                        bar.update(len(some))
        reader.tell(distributed)
        if cut := sum(distributed.gather(cut)):
            length = config.dataset.max_length
            distributed.say(f"{cut} prompts were cut to {length} tokens: their end, the question, is lost")


def _metrics(
    task: Task, answered: Sequence[tuple[Example, Answer]], path: str, released: bool
) -> list[Metrics]:
    """The loss and the metrics of each answer alone."""
    texts = [answer.text for _, answer in answered]
    try:
        metrics = metrics_of_each(task, texts, [example.gold or "" for example, _ in answered], released)
    except OutputError as error:
        raise UserError(f"{path}: question '{answered[error.index][0].question}': {error}") from None
    return [{"loss": answer.loss, **values} for (_, answer), values in zip(answered, metrics, strict=True)]


def _key(*ids: str) -> str:
    return to_json(ids)


def _read_keys(folder: Path, known: DiskTable, row_key: Callable[[Mapping[str, Any]], str]) -> int:
    """Note what there are rows of; how many."""
    count = 0
    for where, row in _files(folder).read():
        try:
            known.add(row_key(row), "")
        except KeyError as error:
            raise UserError(f"{where}: {error} is missing: not a row of this feedback") from None
        count += 1
    return count


def _files(folder: Path) -> RowFolder:
    return RowFolder(folder, SETTINGS, _ROWS)


def _check_settings(folder: Path, config: AnsweringConfig, path: str) -> None:
    """What the rows of a folder rest on is the same in every call.

    Raises:
        UserError: it is not.
    """
    sections = {
        "model": config.model.model_dump(exclude={"gradient_checkpointing"}),
        "dataset": config.dataset.model_dump(exclude=_OWN),
        "generation": config.generation.model_dump(exclude={"batch_size"}),
    }
    wanted = {
        f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()
    }
    wanted |= {"dataset.task": task_of(config.dataset.task or "").name, "data_sha256": file_sha256(path)}
    files = _files(folder)
    there = files.settings()
    if there is None:
        if files.has_rows():
            raise UserError(f"{folder} has rows of feedback without {SETTINGS}; give another --output_dir")
        files.begin(wanted)
        return
    if differing := files.differing(wanted):
        key = differing[0]
        raise UserError(
            f"{folder} has feedback with {key} = {shown(there.get(key))}, not {shown(wanted.get(key))}; "
            "give another --output_dir"
        )


def _write_scores(folder: Path, questions: Iterator[Question]) -> None:
    """All rows as one object, in the order of the questions."""
    with DiskTable() as rows:
        for _, row in _files(folder).read():
            rows.add(row.pop("question"), to_json(row))
        write_object(folder / _SCORES, ((question.id, _row(rows, question)) for question in questions))


def _row(rows: DiskTable, question: Question) -> Any:
    text = rows.get(question.id)
    if text is None:
        raise question.error("it has no feedback, though all have been asked about; collect it again")
    return json.loads(text)
