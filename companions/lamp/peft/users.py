"""Which users a process takes, and the folder of each."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from companions.lamp.json_stream import read_array
from companions.lamp.peft.settings import UserSettings
from companions.lamp.questions import Question
from utils.distributed import DistributedContext
from utils.errors import UserError, shown

_FOLDER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


def user_of(question: Question) -> str:
    """Whose question it is.

    Raises:
        UserError: the file does not say.
    """
    if question.user is None:
        raise question.error("field 'user_id' is missing, which only files of the time-based separation have")
    return question.user


def chosen_users(found: Iterable[str], settings: UserSettings, path: str | Path) -> list[str]:
    """The users of a configuration's shard, in the order of its list of users, or else of the file.

    Args:
        found: the users of the file, each once.
        settings: list and shard.
        path: the file, for messages.

    Raises:
        UserError: a user of the list is not in the file, or a name that cannot be that of a folder.
    """
    users = list(found)
    if settings.user_ids is not None:
        there, users = set(users), _listed(settings.user_ids)
        if unknown := [user for user in users if user not in there]:
            raise UserError(
                f"{settings.user_ids}: {len(unknown)} user(s) have no question in {path}, such as '{unknown[0]}'"
            )
    for user in users:
        if not _FOLDER_NAME.fullmatch(user):
            raise UserError(
                f"{path}: user {shown(user)}: no name for a folder; letters, digits, '-', '_' and '.' make one"
            )
    return shard(users, settings.num_shards, settings.shard_id)


def shard(users: Sequence[str], num_shards: int, shard_id: int) -> list[str]:
    """Users that follow one another; each shard but the last ones has one more than an equal share, rounded down."""
    size = len(users) // num_shards + 1 if num_shards > 1 else len(users)
    return list(users[shard_id * size : (shard_id + 1) * size])


def is_empty_shard(
    users: Sequence[str], settings: UserSettings, path: str | Path, distributed: DistributedContext
) -> bool:
    """Whether there is nothing to do, which is said: with few users the last of many shards have none.

    Args:
        users: of the shard.
        settings: list and shard.
        path: the file, for messages.
        distributed: the processes.

    Raises:
        UserError: there is no user in any shard.
    """
    if users:
        return False
    if settings.num_shards == 1:
        raise UserError(f"{settings.user_ids or path}: no user")
    distributed.say(
        f"{path}: shard {settings.shard_id} of {settings.num_shards} has no user; nothing is done"
    )
    return True


def _listed(path: str) -> list[str]:
    users = []
    for value in read_array(path, "list of users"):
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise UserError(f"{path}: expected ids of users, found {shown(value)}")
        users.append(str(value))
    return list(dict.fromkeys(users))
