"""The LaMP-6 builder against the release's files, and what it refuses."""

import json
import zipfile

import pytest

from companions.lamp.data.archives import find_messages
from companions.lamp.data.building import build
from companions.lamp.questions import read_questions
from tests.companions.lamp.golden import GOLDEN, cases, load
from utils.errors import UserError

AVOCADO = GOLDEN / "8_avocado"
SPLITS = ("train", "dev", "test")
ID_FILES = {split: AVOCADO / "ids" / f"{split}_questions.json" for split in SPLITS}
MAIL = b"From: a@example.org\nSubject: tea\n\nAt five.\n"


@pytest.mark.parametrize("path", cases("8_avocado/expected_*/*.json"))
def test_files_have_the_content_of_the_release(path, tmp_path):
    """Texts that differ from the benchmark's make every score on LaMP-6 incomparable with published ones."""
    build(AVOCADO / "text", ID_FILES, tmp_path, time_based="time" in path.parent.name)
    built = json.loads((tmp_path / path.name).read_text(encoding="utf-8"))
    expected = load(path)
    if path.name == "test_questions.json" and isinstance(expected, dict):  # the release wraps them as golds
        expected = expected["golds"]
    assert built == expected


def test_test_questions_are_read_by_the_other_commands(tmp_path):
    """Questions in the shape of outputs stop ranking on the one split that has no labels."""
    build(AVOCADO / "text", ID_FILES, tmp_path, time_based=True)
    questions = list(read_questions(tmp_path / "test_questions.json", None))
    assert all(question.user for question in questions)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*(f"{split}_questions.json" for split in SPLITS), "train_outputs.json", "dev_outputs.json"]
    )


def test_all_missing_messages_are_named_before_anything_is_written(tmp_path):
    """A builder that stops at the first one is run, for hours, once for each missing message."""
    missing = load("8_avocado/facts.json")["missing_names"]
    question = {"id": "1", "input": missing[0], "profile": [{"id": "11", "text": missing[1]}]}
    file = _questions(tmp_path, question)
    with pytest.raises(UserError) as caught:
        build(AVOCADO / "text", {**ID_FILES, "dev": file}, tmp_path / "out", time_based=False)
    assert all(name in str(caught.value) for name in missing)
    assert not (tmp_path / "out").exists()


def _questions(folder, *questions):
    path = folder / "questions.json"
    path.write_text(json.dumps(questions), encoding="utf-8")
    return path


def _archive(folder, members, method=zipfile.ZIP_DEFLATED):
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "1.zip", "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return folder


@pytest.mark.parametrize("name", ["../1-EM.txt", "/1-EM.txt", "1/../../1-EM.txt", "1\\..\\1-EM.txt"])
def test_a_member_whose_name_leads_out_is_refused(tmp_path, name):
    """An archive that was made to overwrite files elsewhere passes for Avocado's."""
    folder = _archive(tmp_path / "zips", [(name, MAIL)])
    with pytest.raises(UserError, match="refused"):
        find_messages(folder, ["1-EM.txt"])


def test_a_zip_bomb_is_refused_by_its_listing(tmp_path):
    """A few kB in an archive fill the memory when they are read."""
    folder = _archive(tmp_path / "zips", [("1/1-EM.txt", bytes(100 << 20))])
    with pytest.raises(UserError, match="104857600 bytes are no message"):
        find_messages(folder, ["1-EM.txt"])
    # the same where nobody asks for it is none of our business
    with pytest.raises(UserError, match="in no archive: 2-EM.txt"):
        find_messages(folder, ["2-EM.txt"])


def test_a_method_without_a_limit_is_refused(tmp_path):
    """The library decompresses bzip2 whole, whatever size the listing states: a bomb again."""
    folder = _archive(tmp_path / "zips", [("1/1-EM.txt", MAIL)], zipfile.ZIP_BZIP2)
    with pytest.raises(UserError, match="another method"):
        find_messages(folder, ["1-EM.txt"])


def test_a_message_in_two_places_is_an_error(tmp_path):
    """Which of two messages is taken depends on the order of a folder's listing, and so do the data."""
    folder = _archive(tmp_path / "zips", [("1/1-EM.txt", MAIL), ("2/1-EM.txt", b"Subject: other\n\n")])
    with pytest.raises(UserError, match=r"two places: .*1/1-EM.txt and .*2/1-EM.txt"):
        find_messages(folder, ["1-EM.txt"])


def test_only_messages_one_folder_deep_count(tmp_path):
    """A copy in a deeper folder, as in the golden archives, gives another text or a false duplicate."""
    folder = _archive(tmp_path / "zips", [("1-EM.txt", b""), ("1/deep/1-EM.txt", b""), ("1/1-EM.txt", MAIL)])
    assert find_messages(folder, ["1-EM.txt"]) == {folder / "1.zip": ["1/1-EM.txt"]}


@pytest.mark.parametrize(
    ("field", "question"),
    [
        ("user_id", {"id": "1", "input": "1-EM.txt", "profile": []}),
        ("text", {"id": "1", "input": "1-EM.txt", "user_id": "7", "profile": [{"id": "11"}]}),
    ],
)
def test_a_missing_field_is_named(tmp_path, field, question):
    """A traceback about a key says neither which question nor which file lacks it."""
    file = _questions(tmp_path, question)
    with pytest.raises(UserError, match=rf"questions.json: question '1'.*field '{field}' is missing"):
        build(AVOCADO / "text", {"train": file}, tmp_path / "out", time_based=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"no archive", b"PK\x03\x04 cut"])
def test_an_archive_that_is_none_is_named(tmp_path, content):
    """One broken download among hundreds ends in a traceback that does not name it."""
    (tmp_path / "140.zip").write_bytes(content)
    with pytest.raises(UserError, match="140.zip: not a readable zip archive"):
        find_messages(tmp_path, ["1-EM.txt"])
