"""Run folders and configuration files of earlier versions of the project still mean what they meant.

The files and how they were made: tests/golden/run_folders/README.md.
"""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from models.configuration import load_config
from models.decoding.decode import DecodeOptions, decode_runs
from tests.conftest import ROOT

FOLDERS = ROOT / "tests" / "golden" / "run_folders"
DIALOGUES = FOLDERS / "dialogues.txt"
CONFIGS = sorted((ROOT / "tests" / "golden" / "configs_v2").rglob("*.yml"))
BASE_LM = "language_model"  # the run whose LM the other runs of its version are trained on
MODEL_TYPES = {
    "selective_pt": "selective_pt",
    "selective_pt_transformer": "selective_pt",
    "selective_pt_released": "selective_pt",
    "selective_pt_ds_ckpt": "selective_pt",
    BASE_LM: "language_model",
    "prompt_tuning": "prompt_tuning",
    "prefix_tuning": "prefix_tuning",
    "lora": "lora",
    "full_finetuning": "full_finetuning",
    "textual": "textual",
}
PEERS = ("smop", "random-routing", "turn-routing", "gated-concatenation")
NAMES = [f"{version}/{folder}" for version in ("v1", "v2") for folder in MODEL_TYPES]
RESULTS = ("evaluation_result.jsonl", "evaluation_result.txt")
EXACT = ("persona", "context", "prediction", "raw_prediction", "target", "prompt", "turn", "dialogue")
CLOSE = ("scores", "nll", "nll_tokens")


class OldRun(NamedTuple):
    """A run folder as it is stored, and a copy of it at another place, beside a copy of its LM."""

    stored: Path
    moved: Path


@pytest.fixture(params=NAMES)
def run(request, tmp_path):
    """Each stored run in turn; only the copy may be written to."""
    stored = FOLDERS / request.param
    for name in {BASE_LM, stored.name}:
        shutil.copytree(stored.with_name(name), tmp_path / name)
    return OldRun(stored, tmp_path / stored.name)


def rows_of(folder):
    """The rows of a run's result file."""
    return [json.loads(line) for line in (folder / RESULTS[0]).read_text(encoding="utf-8").splitlines()]


def expected_rows(stored):
    """The rows stored with a run, with the target losses that are right today."""
    rows = rows_of(stored)
    if stored == FOLDERS / "v1" / BASE_LM:
        # until v2 the losses of such a run were over its whole texts; now they are over the responses, as in
        # every other run, and `textual` is the same LM
        for row, same_lm in zip(rows, rows_of(stored.with_name("textual")), strict=True):
            row |= {"nll": same_lm["nll"], "nll_tokens": same_lm["nll_tokens"]}
    return rows


def test_an_old_run_decodes_to_the_same_replies(run, distributed):
    """A trained part that is read with another name, scale or default replies otherwise: figures that somebody
    has reported could no longer be reproduced, and nothing would say so."""
    for name in RESULTS:
        (run.moved / name).unlink()
    decode_runs([run.moved], distributed, DecodeOptions(valid_path=str(DIALOGUES)))
    for row, known in zip(rows_of(run.moved), expected_rows(run.stored), strict=True):
        assert {key: row[key] for key in EXACT} == {key: known[key] for key in EXACT}
        for key in CLOSE:
            # a run without a retriever has no scores
            expected = None if known[key] is None else pytest.approx(known[key], abs=1e-4, rel=1e-4)
            assert row[key] == expected, key


def test_an_old_result_counts_as_finished(run, distributed):
    """Results that are taken for those of another decoding make test.py refuse every old folder."""
    decode_runs([run.moved], distributed, DecodeOptions(valid_path=str(DIALOGUES)))
    for name in RESULTS:
        assert (run.moved / name).read_bytes() == (run.stored / name).read_bytes()


def test_the_configuration_of_an_old_run_is_one_for_train_py(run):
    """It holds the keys of every model type: refused as keys of another type, no old run could be trained again."""
    assert load_config(run.moved / "config.yml").model.model_type == MODEL_TYPES[run.stored.name]


def test_every_old_run_is_there_and_holds_what_was_trained():
    """A file that git ignores is missing in a fresh clone, where the tests above would fail without a reason."""
    weights = {
        path.relative_to(FOLDERS).as_posix()
        for path in FOLDERS.rglob("*")
        if path.suffix in (".safetensors", ".pt")
    }
    special = {
        BASE_LM: "model/model.safetensors",
        "selective_pt_ds_ckpt": "ds_ckpt/best/mp_rank_00_model_states.pt",
    }
    assert weights == {f"{name}/{special.get(Path(name).name, 'soft_prompts.safetensors')}" for name in NAMES}


def test_the_trained_part_of_every_old_run_matters():
    """Replies of the untrained LM would also come out of a trained part that is not read at all."""
    for name in NAMES:
        replies, untrained = (
            [row["raw_prediction"] for row in rows_of(folder)]
            for folder in (FOLDERS / name, (FOLDERS / name).with_name("textual"))
        )
        same = sum(reply == other for reply, other in zip(replies, untrained, strict=True))
        if Path(name).name in (BASE_LM, "textual"):
            assert same == len(replies) == 14
        else:
            assert same <= 10, name


def test_the_copied_configurations_are_there():
    """An empty folder would leave no parameters below, and the test would pass unseen."""
    assert len(CONFIGS) == 27


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_copied_configuration_still_loads(path):
    """People build on copies of the shipped files: one that is refused costs them all experiments with it."""
    is_spt_sample = path.stem == "spt"  # its base LM is named on the command line
    config = load_config(path, ["model.model_name=x"] if is_spt_sample else [])
    of_others = {"base-lm": "language_model", "prompt-tuning-kxv": "prompt_tuning"}
    of_others |= {name.replace("_", "-"): name for name in MODEL_TYPES}
    of_others |= dict.fromkeys(PEERS, "routed_prompts")
    assert config.model.model_type == of_others.get(path.stem, "selective_pt")
