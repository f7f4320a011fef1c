"""Asks the LM each user's questions with the user's own adapter."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

from companions.lamp.disk_table import DiskTable
from companions.lamp.lm.evaluate import (
    answerer_of,
    evaluate_questions,
    evaluation_settings,
    made_folder,
    ready_lm,
)
from companions.lamp.lm.examples import PromptReader
from companions.lamp.lm.generate import WINDOW, Answered, Answerer
from companions.lamp.peft.adapters import UserAdapters, adapter_settings
from companions.lamp.peft.settings import UserEvaluationConfig
from companions.lamp.peft.training import ADAPTERS, first_questions
from companions.lamp.peft.users import chosen_users, is_empty_shard, user_of
from companions.lamp.questions import Question, read_outputs, read_questions
from companions.lamp.tasks import Task, task_of
from utils.distributed import DistributedContext
from utils.errors import UserError, existing_file
from utils.files import file_sha256, file_stats


def evaluate_users(
    config: UserEvaluationConfig, folder: str | Path, distributed: DistributedContext
) -> dict[str, float]:
    """Write predictions, and results where there are golds, to a folder; a part of the users to one of its own there.

    A user without an adapter is asked about with the LM as it is.

    Args:
        config: of evaluate_llm.
        folder: is made if need be.
        distributed: the processes; each takes its share of the questions.

    Returns:
        The results as they are written; none where the part has no user.

    Raises:
        UserError: what is wrong with the configuration, the LM, the files or an adapter.
    """
    data, users = config.dataset, config.users
    task, path = task_of(data.task or ""), existing_file(data.test or "", "questions file")
    chosen = chosen_users(map(user_of, first_questions(path, None)), users, path)
    if is_empty_shard(chosen, users, path, distributed):
        return {}
    adapters_folder = _adapters_folder(Path(users.checkpoints or ""))
    with_adapter = [user for user in chosen if (adapters_folder / user).is_dir()]
    if not with_adapter:
        raise UserError(f"{adapters_folder}: none of {len(chosen)} users of {path} has a folder in it")
    settings = adapter_settings(adapters_folder / with_adapter[0])
    folder = Path(folder)
    if users.num_shards > 1:  # whose files would be overwritten by those of the other parts
        folder = folder / f"shard_{users.shard_id}_of_{users.num_shards}"
    folder = made_folder(folder)
    rests_on = evaluation_settings(config, path) | {
        "users": config.users.model_dump(),
        "golds_sha256": file_sha256(data.golds or ""),
        "adapters": [file_stats(adapters_folder / user) for user in with_adapter],
    }
    lm = ready_lm(config, distributed)
    adapters = UserAdapters(lm, settings)
    reader = PromptReader(data, lm, config.model.released)
    ask = partial(
        _ask,
        adapters=adapters,
        folders={user: adapters_folder / user for user in with_adapter},
        reader=reader,
        answerer=answerer_of(lm, reader, config.generation),
    )
    distributed.say(f"{len(chosen)} users, {len(chosen) - len(with_adapter)} of them without an adapter")
    with DiskTable() as golds:
        if data.golds:
            for name, output in read_outputs(data.golds, task):
                golds.add(name, output)
        questions = _questions(path, task if data.use_profile else None, set(chosen))
        if data.golds:
            questions = _with_golds(questions, golds, data.golds)
        return evaluate_questions(
            questions, ask, reader, path, distributed, folder, "eval", config.model.released, rests_on
        )


def _ask(
    questions: Iterator[Question],
    adapters: UserAdapters,
    folders: dict[str, Path],
    reader: PromptReader,
    answerer: Answerer,
) -> Iterator[Answered]:
    """The answers batch by batch; the questions of a user in a window are asked together."""
    before = 0
    while window := list(islice(questions, WINDOW)):
        examples = list(reader.examples(window))
        numbers: dict[str, list[int]] = {}
        for number, question in enumerate(window):
            numbers.setdefault(user_of(question), []).append(number)
        for user, of_user in numbers.items():
            folder = folders.get(user)
            adapters.enable(folder is not None)
            if folder is not None:
                adapters.load(folder)
            for batch in answerer.batches([examples[number] for number in of_user]):
                yield {
                    before + of_user[place]: (examples[of_user[place]], answer)
                    for place, answer in batch.items()
                }
        before += len(window)


def _questions(path: Path, task: Task | None, users: set[str]) -> Iterator[Question]:
    return (question for question in read_questions(path, task) if user_of(question) in users)


def _with_golds(questions: Iterable[Question], golds: DiskTable, path: str) -> Iterator[Question]:
    for question in questions:
        output = golds.get(question.id)
        if output is None:
            raise question.error(f"no output in {path}")
        yield replace(question, output=output)


def _adapters_folder(folder: Path) -> Path:
    """The folder of the users' folders, or the output folder that it lies in."""
    inner = folder / ADAPTERS
    if not folder.is_dir():
        raise UserError(f"folder of adapters not found: {folder}")
    return inner if inner.is_dir() else folder
