"""Decodings that go on where they stopped: what their rows rest on, and where they lie until all are there."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataset.row_files import KeptRows, RowFolder, remove_unused
from models.decoding.results import ROW_KEYS
from models.settings import Config
from utils.distributed import DistributedContext
from utils.files import file_sha256, file_stats
from utils.runs import CHECKPOINTS, WHOLE_MODEL, library_versions, trained_file

_RESUME = "decoding it again with the same settings"
_UNIMPORTANT = {"train", "valid", "cache_dir"}  # of `dataset`: names of files, whose content counts
_MOST = 256  # examples in a batch; the record may be anybody's


def rows_folder(rows_path: Path) -> Path:
    """Where the rows of a result file lie while it is made: RUN/evaluation_result.part."""
    return rows_path.with_suffix(".part")


def row_settings(
    run: Path, config: Config, decoding: Mapping[str, Any], distributed: DistributedContext
) -> dict[str, Any]:
    """All that the rows of a decoding depend on; not how many processes share it.

    Args:
        run: the run folder.
        config: that it is decoded with.
        decoding: `DecodeOptions.described`.
        distributed: says which kind of device.
    """
    sections = config.model_dump()
    sections["dataset"] = {
        key: value for key, value in sections["dataset"].items() if key not in _UNIMPORTANT
    }
    keys = {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}
    return {
        **keys,
        **{key: value for key, value in decoding.items() if key != "valid"},
        "trained": _fingerprint(run),
        "lm": file_stats(Path(lm)) if (lm := config.model.base_lm) and os.path.isdir(lm) else None,
        "device": distributed.device.type,
        **library_versions(),
    }


def recorded_batch_size(folder: Path, settings: Mapping[str, Any]) -> int | None:
    """The batch size of the rows that are there, where they are of these settings otherwise.

    In batches of another size the last digits of scores and losses may be others.
    """
    files = RowFolder(folder)
    there = files.settings() or {}
    size = there.get("batch_size")
    if type(size) is not int or not 1 <= size <= _MOST or files.differing({**settings, "batch_size": size}):
        return None
    return size


def kept_rows(
    folder: Path, settings: Mapping[str, Any], distributed: DistributedContext, count: int
) -> KeptRows:
    """The rows of a decoding of so many examples, with those that are there; all processes call it."""
    return KeptRows(folder, settings, distributed, count, ROW_KEYS, _RESUME)


def remove_rows(folder: Path, decoding: Mapping[str, Any]) -> None:
    """Remove rows that were left beside their own result: whoever wrote it was killed just then.

    Args:
        folder: of the rows.
        decoding: of the result, see `DecodeOptions.described`.
    """
    there = RowFolder(folder).settings()
    if there is not None and all(there.get(key, value) == value for key, value in decoding.items()):
        remove_unused(folder)


def _fingerprint(run: Path) -> Any:
    """Of the trained part its hash; of a whole model, which may be large, sizes and times of its files."""
    trained = trained_file(run)
    if trained is not None:
        return file_sha256(trained)
    return file_stats(run / (WHOLE_MODEL if (run / WHOLE_MODEL).is_dir() else CHECKPOINTS))
