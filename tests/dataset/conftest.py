"""A dialogue file with a folder for what is kept of it."""

from functools import partial

import pytest
from transformers import AutoTokenizer

from dataset import encoded_cache, encoding_processes
from dataset.encoded_cache import ExampleFile, encoded_file
from dataset.encoding import ExampleEncoder
from dataset.loading import read_examples


class Case:
    """A dialogue file, how it is encoded, and the folder of what is kept."""

    def __init__(self, data, lm, config, folder):
        self.path = folder / "dialogues.txt"
        self.path.write_text(data["train"].read_text(encoding="utf-8"), encoding="utf-8")
        self.tokenizer = AutoTokenizer.from_pretrained(lm)
        self.config, self.cache = config, folder / "cache"
        self.with_response, self.is_main = True, True
        self.settings = {"ratio": 1.0}
        self.make_encoder = partial(ExampleEncoder, max_tokens=300)

    @property
    def source(self):
        """The file, as it is now."""
        read = partial(read_examples, str(self.path), self.config)
        return ExampleFile(str(self.path), read, self.settings, [read_examples])

    def encoder(self):
        """The encoder, as it is now."""
        return self.make_encoder(self.tokenizer, self.config)

    def open(self):
        """The encoded examples."""
        encoder = self.encoder()
        return encoded_file(
            self.source, encoder, self.tokenizer, self.with_response, str(self.cache), self.is_main
        )

    @property
    def folders(self):
        """All that lies in the folder of what is kept."""
        return sorted(self.cache.glob("*")) + sorted(self.cache.glob(".*"))


@pytest.fixture
def case(data, lm_folder, make_config, tmp_path, monkeypatch):
    """A small file that is kept, in chunks of a few examples."""
    monkeypatch.setattr(encoded_cache, "SMALL", 0)
    monkeypatch.setattr(encoding_processes, "CHUNK", 10)
    return Case(data, lm_folder("opt"), make_config("opt"), tmp_path)


@pytest.fixture
def no_encoding(monkeypatch):
    """Fails when anything is encoded."""

    def refuse(job):
        raise AssertionError("encoded again")

    return lambda: monkeypatch.setattr(encoded_cache, "encoded_chunks", refuse)
