"""Where a base LM is, before anything is loaded: a folder, the cache, or the hub. Nothing is downloaded."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from models.lm.language_model import lm_source
from utils.errors import UserError, first_line, shown
from utils.files import unique_keys
from utils.findings import Finding, size
from utils.resources import HUB_TIMEOUT

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
_FOLDER = "give a folder with --set model.model_name=FOLDER"


@dataclass
class BaseLM:
    """Where a base LM is.

    Args:
        name: as the configuration has it; None: it is made from scratch.
    """

    name: str | None
    folder: Path | None = None
    """that holds its files"""
    to_download: int = 0
    """bytes that the hub has of it and this machine has not"""

    def findings(self) -> Iterator[Finding]:
        """Whether it can be loaded; sets `folder` and `to_download`."""
        if self.name is None:
            yield Finding("ok", "base LM", "made from scratch, with a tokenizer of its own")
            return
        folder = self._find()
        if folder is None:
            yield self._on_the_hub()
            return
        faults = folder_faults(folder)
        if faults:
            yield Finding("FAIL", "base LM", f"{folder}: {'; '.join(faults)}; {_FOLDER}")
            return
        self.folder = folder
        weights = sum(path.stat().st_size for path in _weights(folder))
        yield Finding("ok", "base LM", f"{folder}, {size(weights)} of weights")

    def _find(self) -> Path | None:
        source = lm_source(str(self.name))
        if os.path.isdir(source):
            return Path(source)
        try:
            return Path(snapshot_download(source, local_files_only=True))
        except (OSError, ValueError):  # not in the cache, or no name at all
            return None

    def _on_the_hub(self) -> Finding:
        name = shown(self.name)
        try:
            model = HfApi().model_info(str(self.name), timeout=HUB_TIMEOUT, files_metadata=True)
        except GatedRepoError:
            text = f"{name} is on the hub for those who were let in: ask on its page, then `hf auth login`"
            return Finding("FAIL", "base LM", f"{text}; or {_FOLDER}")
        except RepositoryNotFoundError:
            return Finding(
                "FAIL", "base LM", f"{name} is no folder, and the hub has no such model; {_FOLDER}"
            )
        except Exception as error:  # whatever keeps the hub from answering
            reason = f"is no folder, not in the cache, and the hub does not answer ({first_line(error)})"
            fix = f"{_FOLDER}, or set HF_HOME to a cache that holds it"
            return Finding("FAIL", "base LM", f"{name} {reason}; {fix}")
        sizes = {file.rfilename: file.size or 0 for file in model.siblings or ()}
        kinds = [[name for name in sizes if Path(name).match(kind)] for kind in _WEIGHTS]
        weights = next((names for names in kinds if names), [])
        self.to_download = sum(sizes[name] for name in weights)
        return Finding("ok", "base LM", f"{name} is on the hub; {size(self.to_download)} will be downloaded")


def folder_faults(folder: Path) -> list[str]:
    """What a folder lacks to be a base LM, in words; weights and configuration are compared when it is loaded."""
    faults = [] if (folder / "config.json").is_file() else ["config.json is missing"]
    weights = _weights(folder)
    if not weights:
        faults.append("it has no weights (*.safetensors)")
    for path in sorted(folder.glob("*.index.json")):
        try:
            parts = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique_keys)[
                "weight_map"
            ].values()
            missing = sorted({str(part) for part in parts} - {file.name for file in folder.iterdir()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, UserError):
            faults.append(f"{path.name} cannot be read")
            continue
        if missing:
            faults.append(f"{len(missing)} part(s) of the weights are missing, such as {missing[0][:80]}")
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        faults.append("it has no tokenizer")
    return faults


def _weights(folder: Path) -> list[Path]:
    return next((found for kind in _WEIGHTS if (found := sorted(folder.glob(kind)))), [])
