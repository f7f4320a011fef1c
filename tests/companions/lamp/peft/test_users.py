"""Which users a process takes."""

import pytest

from companions.lamp.peft.settings import UserSettings
from companions.lamp.peft.users import chosen_users, is_empty_shard, shard
from utils.errors import UserError


@pytest.mark.parametrize("count", [0, 1, 4, 7, 10])
@pytest.mark.parametrize("num_shards", [1, 2, 3, 4])
def test_shards_are_all_users_each_once(count, num_shards):
    """A user in no shard has no adapter, and one in two is trained twice."""
    users = [str(number) for number in range(count)]
    shards = [shard(users, num_shards, shard_id) for shard_id in range(num_shards)]
    assert [user for part in shards for user in part] == users


def test_a_shard_without_users_is_done_at_once(distributed, capsys):
    """Of four processes for three users the last one ends with an error, and with it the script that started it."""
    settings = UserSettings(num_shards=4, shard_id=3)
    users = chosen_users(["a", "b", "c"], settings, "file")
    assert is_empty_shard(users, settings, "file", distributed)
    assert capsys.readouterr().out == "file: shard 3 of 4 has no user; nothing is done\n"
    assert not is_empty_shard(["a"], settings, "file", distributed)
    with pytest.raises(UserError, match="file: no user"):
        is_empty_shard([], UserSettings(), "file", distributed)


def test_shards_have_the_size_of_the_original():
    """Processes that the original started on other machines leave users out, or train them again."""
    assert shard(list("abcdefg"), 3, 0) == ["a", "b", "c"]
    assert shard(list("abcdefg"), 3, 2) == ["g"]


def test_a_list_chooses_users(tmp_path):
    """Ids that JSON has as numbers are not found among those of the file, which are texts."""
    (tmp_path / "ids.json").write_text('["b", 3, "b"]')
    settings = UserSettings(user_ids=str(tmp_path / "ids.json"))
    assert chosen_users(["a", "b", "3"], settings, "file") == ["b", "3"]
    with pytest.raises(UserError, match=r"ids.json: 2 user\(s\) have no question in file, such as 'b'"):
        chosen_users(["a"], settings, "file")


@pytest.mark.parametrize("user", ["../a", "a/b", "", ".", "..", ".part-1", "a\x00", "x" * 300])
def test_a_user_whose_name_is_no_folder_is_refused(user):
    """A user of a downloaded file overwrites whatever its id leads to."""
    with pytest.raises(UserError, match="no name for a folder"):
        chosen_users([user], UserSettings(), "file")


@pytest.mark.parametrize("content", ["[true]", "[[1]]", '{"a": 1}'])
def test_a_list_that_is_none_is_refused(tmp_path, content):
    """A true in the list is looked for as user 'True', and an object gives its keys."""
    (tmp_path / "ids.json").write_text(content)
    with pytest.raises(UserError, match="ids.json"):
        chosen_users(["True", "a"], UserSettings(user_ids=str(tmp_path / "ids.json")), "file")
