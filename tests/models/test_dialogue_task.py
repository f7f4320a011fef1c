"""What the task of dialogues says of its files."""

import pytest

from models.dialogue_task import silence_note


@pytest.fixture
def data_of(tmp_path, make_config):
    """data_of(training text, validation text, silence): the section `dataset` of these files."""

    def make(train, valid, silence="keep"):
        files = {"train": tmp_path / "train.txt", "valid": tmp_path / "valid.txt"}
        for name, text in (("train", train), ("valid", valid)):
            files[name].write_text(text)
        paths = {name: str(path) for name, path in files.items()}
        return make_config(dataset={**paths, "silence": silence}).dataset

    return make


SILENT, USUAL = "1 __SILENCE__\thi\n", "1 hi\tyo\n"


def test_silence_in_the_training_file_alone_is_said(data_of, tmp_path):
    """Every first reply is trained on a mark that validation never shows."""
    note = silence_note(data_of(SILENT, USUAL))
    assert note is not None
    assert "train.txt, which" in note
    for said in ((SILENT, SILENT), (USUAL, USUAL), (USUAL, SILENT), (SILENT, USUAL, "drop"), ("", "")):
        assert silence_note(data_of(*said)) is None
    missing = data_of(SILENT, USUAL).replaced({"train": str(tmp_path)})
    assert silence_note(missing) is None
