"""Weights that are no run, such as published ones: a folder for what an evaluation writes, which stands as their run.

It holds a configuration, and a link to the weights where a run has its LM. Nothing is written beside the weights.
"""

from collections.abc import Sequence
from pathlib import Path

from companions.personagpt.settings import PersonaConfig
from companions.personagpt.speaking import check_no_other_weights, is_run_folder, read_speaker
from models.lm.language_model import base_lm_folder, lm_source
from utils.config.loading import dump
from utils.distributed import DistributedContext
from utils.errors import UserError
from utils.files import write_errors, write_whole
from utils.liveness import together
from utils.runs import CONFIG


def folder_to_evaluate(
    source: str | None, out: str | None, assignments: Sequence[str], distributed: DistributedContext
) -> Path:
    """The run folder of a run, or one that is made for weights.

    Args:
        source: `--model_path`: a run folder, or a folder of weights in the Hugging Face format; None: `--set
            model.model_name` names the weights.
        out: `--out`: the folder that is made for weights; one that was made for the same weights stays.
        assignments: texts `section.key=value`; they stand in the new folder's configuration.
        distributed: the processes, of which the main one makes the folder.

    Raises:
        UserError: there are no weights, or `out` is missing, not needed, or of something else.
    """
    if source is not None and is_run_folder(source):
        check_no_other_weights(source, assignments)
        if out is not None:
            raise UserError(f"--out {out}: {source} is a run, whose results lie in its own folder")
        return Path(source)
    config = read_speaker(source, assignments)
    weights = Path(lm_source(str(config.model.model_name)))
    if not (weights / "config.json").is_file():
        raise UserError(
            f"{weights}: neither a run folder ({CONFIG}) nor a local folder of weights in the Hugging Face format "
            "(config.json)"
        )
    if out is None:
        raise UserError(f"{weights} is no run: --out=FOLDER says where its results go")
    with together(distributed):
        if distributed.is_main:
            _make(Path(out), weights.resolve(), config)
    return Path(out)


def _make(folder: Path, weights: Path, config: PersonaConfig) -> None:
    link = base_lm_folder(folder)
    with write_errors(link):
        folder.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink() and not link.exists():
            link.symlink_to(weights)
    if link.resolve() != weights:
        raise UserError(f"--out {folder}: its LM is {link.resolve()}, not {weights}; give another folder")
    if not is_run_folder(str(folder)):
        write_whole(folder / CONFIG, dump(config))
