"""Encoded dialogue files are kept: made once, for all ranks and for later runs with the same texts.

A folder `encoded-HASH` holds `examples.arrow` and `key.json`, which names all that the examples depend on. It is
written aside and takes its name when it is whole. What is not as its `key.json` says is made again.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import tokenizers
import transformers
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from dataset.dialogue import Example
from dataset.encoded import SCHEMA, DamagedError, EncodedTable
from dataset.encoding import EncodedExample, Encoder, KeyedEncoder
from dataset.encoding_processes import EncodingJob, encoded_chunks
from utils.errors import UserError
from utils.files import check_writable, file_sha256, to_json, unique_keys, write_errors
from utils.folders import write_folder

SMALL = 1 << 20  # bytes of a dialogue file that is encoded about as fast as kept examples are checked
_ROWS, _KEY = "examples.arrow", "key.json"
_LONGEST_KEY = 1 << 16  # bytes of a key.json


@dataclass(frozen=True)
class ExampleFile:
    """A dialogue file and how it is read."""

    path: str
    read: Callable[[], list[Example]]
    """gives its examples"""
    settings: Mapping[str, Any]
    """all that decides which examples it gives, as JSON values"""
    code: Sequence[Any]
    """the functions that `read` consists of, beside this package's"""
    sha256: str | None = None
    """hash of the file before its examples were read, where `read` has them already"""


def encoded_file(
    source: ExampleFile,
    encoder: Encoder,
    tokenizer: PreTrainedTokenizerBase,
    with_response: bool,
    cache_dir: str | None,
    is_main: bool = True,
) -> Sequence[EncodedExample]:
    """The encoded examples of a file, from memory-mapped files that are made where they are not there yet.

    A small file, one for an encoder without a key, and any file without `cache_dir` are encoded in memory.

    Args:
        source: the file.
        encoder: makes its ids.
        tokenizer: that the encoder stands on.
        with_response: False gives the inference texts.
        cache_dir: folder of the kept files.
        is_main: whether this process shows progress and says what it does.

    Raises:
        UserError: what is wrong with the file or an example; it was changed since its examples were read; the kept
            files cannot be written.
    """
    key = None
    if cache_dir is not None and os.path.isfile(source.path) and os.path.getsize(source.path) >= SMALL:
        key = key_of(source, encoder, tokenizer, with_response)
    if key is None or cache_dir is None:
        return encoder.encode(source.read(), with_response)
    if source.sha256 not in (None, key["file_sha256"]):
        raise _changed(source)
    digest = hashlib.sha256(to_json(key).encode()).hexdigest()
    folder = _folder(cache_dir) / f"encoded-{digest[:32]}"
    num_ids = 1 + max(tokenizer.get_vocab().values())
    try:
        if os.path.exists(folder):  # Path's own raises where the folder above may not be read
            return _opened(folder, key, num_ids)
    except DamagedError as error:
        if is_main:
            print(f"{folder}: {error}; {source.path} is encoded again", flush=True)
    _make(folder, key, source, EncodingJob(source.read, encoder, with_response), num_ids, is_main)
    try:
        return _opened(folder, key, num_ids)
    except DamagedError as error:
        raise UserError(f"{folder}: {error}, although it was just written") from None


def key_of(
    source: ExampleFile, encoder: Encoder, tokenizer: PreTrainedTokenizerBase, with_response: bool
) -> dict[str, Any] | None:
    """All that the encoded examples depend on, as JSON values; None where the encoder does not say what it uses."""
    if not isinstance(encoder, KeyedEncoder):
        return None
    code = _code_hash([*source.code, *type(encoder).__mro__[:-1]])
    if code is None:
        return None
    backend = tokenizer.backend_tokenizer
    backend.no_padding()  # what an earlier call of the tokenizer has set is not used, and not part of the key
    backend.no_truncation()
    return {
        "file_sha256": file_sha256(source.path),
        "examples": dict(source.settings),
        "with_response": with_response,
        "encoder": {"class": f"{type(encoder).__module__}.{type(encoder).__qualname__}", **encoder.key()},
        "tokenizer_sha256": hashlib.sha256(backend.to_str().encode()).hexdigest(),
        "code_sha256": code,
        "versions": {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__},
    }


def _code_hash(used: Sequence[Any]) -> str | None:
    """Hash of this package and of the Python files beside each function or class; None where one has no file."""
    here = Path(__file__).parent
    files = set(here.rglob("*.py"))
    for item in used:
        while isinstance(item, partial):
            item = item.func
        file = getattr(sys.modules.get(item.__module__), "__file__", None)
        if file is None:
            return None
        files |= {path for path in Path(file).parent.glob("*.py") if path.is_file()}
    digest = hashlib.sha256()
    for line in sorted(f"{path.name} {file_sha256(path)}\n" for path in files):  # wherever the project lies
        digest.update(line.encode())
    return digest.hexdigest()


def _changed(source: ExampleFile) -> UserError:
    return UserError(f"{source.path} was changed while it was read; start again")


def _folder(cache_dir: str) -> Path:
    try:
        return Path(cache_dir).expanduser()
    except RuntimeError:
        raise UserError(f"dataset.cache_dir = '{cache_dir}': there is no such home; give a folder") from None


def _make(
    folder: Path, key: dict[str, Any], source: ExampleFile, job: EncodingJob, num_ids: int, is_main: bool
) -> None:
    """Encode a file and keep it."""

    def fill(part: Path) -> None:
        # a second, and memory, that kept files do not cost
        from datasets import Features
        from datasets.arrow_writer import ArrowWriter

        count = 0
        features = Features.from_arrow_schema(SCHEMA)
        with (
            tqdm(desc=f"encoding {source.path}", unit="ex", disable=not is_main, mininterval=0.5) as bar,
            (part / _ROWS).open("wb") as stream,
            ArrowWriter(features=features, stream=stream) as writer,
        ):
            for chunk in encoded_chunks(job):
                rows = pa.ipc.read_record_batch(pa.py_buffer(chunk.rows), SCHEMA)
                writer.write_table(pa.Table.from_batches([rows]), writer_batch_size=rows.num_rows)
                bar.total = chunk.num_examples
                bar.update(rows.num_rows)
                count += rows.num_rows
        if file_sha256(source.path) != key["file_sha256"]:
            raise _changed(source)
        kept = {"key": key, "num_examples": count, "sha256": file_sha256(part / _ROWS)}
        (part / _KEY).write_text(to_json(kept, indent=2) + "\n", encoding="utf-8")

    def is_there() -> bool:
        try:
            _opened(folder, key, num_ids)
        except DamagedError:
            return False
        return True

    try:
        with write_errors(folder.parent):
            folder.parent.mkdir(parents=True, exist_ok=True)
        check_writable(folder.parent)  # before minutes of work
        # what another run has made meanwhile may be open already, and must not be away for a moment
        write_folder(folder, fill, unless=is_there)
    except UserError as error:
        if isinstance(error.__cause__, OSError):  # of the folder; not what is wrong with the dialogues
            raise UserError(f"{error}; dataset.cache_dir gives another folder") from None
        raise


def _opened(folder: Path, key: dict[str, Any], num_ids: int) -> EncodedTable:
    """Kept examples that are as their `key.json` says.

    Raises:
        DamagedError: they are not.
    """
    if not os.path.isfile(folder / _KEY):  # opening a pipe that somebody put there would wait for ever
        raise DamagedError(f"{_KEY} is missing")
    try:
        with (folder / _KEY).open("rb") as stream:
            kept = json.loads(stream.read(_LONGEST_KEY), object_pairs_hook=unique_keys)
        digest = file_sha256(folder / _ROWS)
    except (OSError, UserError, ValueError, RecursionError):
        raise DamagedError(f"{_KEY} cannot be read") from None
    if not isinstance(kept, dict) or kept.get("key") != key:
        raise DamagedError(f"{_KEY} is of other examples")
    if digest is None or kept.get("sha256") != digest:
        raise DamagedError(f"{_ROWS} is missing, or is not what was written")
    table = EncodedTable(folder / _ROWS, num_ids)
    if kept.get("num_examples") != len(table):
        raise DamagedError(f"{_ROWS} holds another number of examples than {_KEY} says")
    return table
