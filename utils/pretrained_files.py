"""What is checked of a model in the Hugging Face format before the library reads it.

The library runs no code of such a folder where it is told so (trust_remote_code=False). What is left is checked here:
a name in a file that leads out of the folder, and a small file that asks for much memory.
"""

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from utils.errors import existing_file, shown
from utils.untrusted import check_header, check_link, is_zip

LARGEST_FILE = 1 << 28  # bytes of a file that is read whole: a tokenizer's largest has 35 million
LARGEST_SETTINGS = 1 << 22  # bytes of a config.json
MOST_LAYERS = 4096  # layers, experts or labels
SLACK = 1 << 28  # numbers that a model may have beyond those that its files can hold, such as masks
_READ = (".json", ".safetensors", ".bin", ".model", ".txt", ".jinja", ".tiktoken")
_WEIGHTS = (".safetensors", ".bin")
_TEMPLATES = "_templates"  # how a folder ends from which the library reads further texts
# integers under such keys become as many objects
_COUNTED = ("layer", "expert", "label", "block", "attention_types")


def check_pretrained(source: str | Path, local_files_only: bool) -> None:
    """Refuse a model or tokenizer whose files lead elsewhere, or would fill the memory before weights are read.

    Args:
        source: its folder, or its name on the hub; what is checked is fetched.
        local_files_only: whether the hub is not asked.

    Raises:
        ValueError, UserError: it is refused; the message names the file.
        Exception: whatever the library raises where there is no such model.
    """
    if os.path.isdir(source):
        _check_folder(Path(source))
    _check_config(_settings(source, "config.json", local_files_only))
    tokenizer = _settings(source, "tokenizer_config.json", local_files_only)
    names = tokenizer.get("fast_tokenizer_files") or []
    for name in names if isinstance(names, list) else [names]:
        _check_name(name, "tokenizer_config.json")
    if _found(source, "adapter_config.json", local_files_only):
        raise ValueError(
            "adapter_config.json: it holds an adapter, which names another model, and no model alone"
        )


def weight_files(source: str | Path, local_files_only: bool) -> list[Path]:
    """The weight files that the library reads, in the order of their names; none where there are none.

    Raises:
        ValueError, UserError: an index names a file outside of the folder or no weight file, or a file cannot be read
            safely.
        Exception: as `check_pretrained`.
    """
    for single, ending in (("model.safetensors", ".safetensors"), ("pytorch_model.bin", ".bin")):
        names = [single]
        if not _found(source, single, local_files_only):
            index = f"{single}.index.json"
            shards = _settings(source, index, local_files_only, LARGEST_FILE).get("weight_map")
            if not isinstance(shards, dict):
                continue
            names = sorted({_check_name(name, index, ending) for name in shards.values()})
        paths = [path for name in names if (path := _found(source, name, local_files_only))]
        for path in paths:
            _check_weights(path)
        return paths
    return []


def check_sizes(make: Callable[[Any], Any], config: Any, weights: list[Path]) -> None:
    """Refuse a configuration that asks for more numbers than its weight files can hold.

    Args:
        make: makes the model of a configuration.
        config: of the model; it stays as it is.
        weights: the files.

    Raises:
        ValueError: it does.
    """
    import torch  # takes seconds

    with torch.device("meta"):  # shapes alone
        model = make(deepcopy(config))
    asked = sum(tensor.numel() for tensors in (model.parameters(), model.buffers()) for tensor in tensors)
    held = sum(path.stat().st_size for path in weights)
    if asked > 2 * held + SLACK:  # the smallest kind of number has 4 bits
        raise ValueError(f"config.json asks for {asked} numbers, and the weight files have {held} bytes")


def _check_folder(folder: Path) -> None:
    blobs = folder.resolve().parent.parent / "blobs"  # the hub's cache keeps links to these
    for path in _files(folder):
        check_link(path, folder, blobs)
        if path.is_dir() or not path.name.endswith(_READ):
            continue
        if not path.is_file():
            raise ValueError(f"{path.name} is no plain file")
        if not path.name.endswith(_WEIGHTS) and path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"{path.name} has more than {LARGEST_FILE} bytes")


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        yield path
        if path.name.endswith(_TEMPLATES) and path.is_dir():
            yield from sorted(path.iterdir())


def _found(source: str | Path, name: str, local_files_only: bool) -> Path | None:
    from transformers.utils import cached_file  # takes seconds

    path = cached_file(
        str(source), name, local_files_only=local_files_only, _raise_exceptions_for_missing_entries=False
    )
    return None if path is None else Path(path)


def _settings(
    source: str | Path, name: str, local_files_only: bool, largest: int = LARGEST_SETTINGS
) -> dict[str, Any]:
    """What a file of settings holds; nothing where there is none."""
    path = _found(source, name, local_files_only)
    if path is None:
        return {}
    if existing_file(path, "file").stat().st_size > largest:
        raise ValueError(f"{name} has more than {largest} bytes")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{name} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{name} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{name} is no JSON object")
    return content


def _check_config(value: Any, key: str = "") -> None:
    """Refuse what config.json may not ask for; `key` is the nearest one above the value."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_config(inner, name)
    elif isinstance(value, list):
        for inner in value:
            _check_config(inner, key)
    elif isinstance(value, int) and value > MOST_LAYERS and any(part in key for part in _COUNTED):
        raise ValueError(f"config.json: {shown(key)} = {shown(value)}, more than {MOST_LAYERS}")
    elif isinstance(value, str) and "_implementation" in key and "/" in value:
        raise ValueError(f"config.json: {shown(key)} = {shown(value)} would run code of the hub")
    elif key == "quant_method" and value is not None:
        # for some of them the library fetches kernels from the hub
        raise ValueError(f"config.json: weights quantised by {shown(value)} are not supported")
    elif key == "transformers_weights" and value is not None:
        raise ValueError(f"config.json: 'transformers_weights' = {shown(value)} is not supported")


def _check_name(name: Any, where: str, ending: str = "") -> str:
    plain = isinstance(name, str) and os.path.basename(name) == name and name.isprintable()
    if not plain or not name.endswith(ending) or "\\" in name:
        raise ValueError(f"{where} names {shown(name)}, which is no {ending or 'file'} of its own folder")
    return name


def _check_weights(path: Path) -> None:
    if path.suffix == ".safetensors":
        check_header(path)
    elif is_zip(path):
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError(f"{path.name} is compressed, which a file of torch never is")
