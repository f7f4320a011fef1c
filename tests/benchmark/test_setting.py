"""The sizes that are measured are those of the LMs that they are named after."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

from models.configuration import build_config
from tests.benchmark.setting import SAMPLE, _lm_section, lm_config_of_size

PARAMETERS = {
    "opt-125m": 125_239_296,
    "opt-1.3b": 1_315_758_080,
    "opt-2.7b": 2_651_596_800,
    "llama2-7b": 6_738_415_616,
    "llama2-13b": 13_015_864_320,
}


@pytest.mark.parametrize(("size", "parameters"), PARAMETERS.items())
def test_a_size_has_the_parameters_of_its_lm(size, parameters):
    """A table of a 7B LM that was measured on another one."""
    section = _lm_section(size)
    config = build_config([("test", section), ("test", {"dataset": {"train": str(SAMPLE)}})])
    tokenizer = SimpleNamespace(bos_token_id=1, eos_token_id=2, pad_token_id=0, __len__=lambda self: 8000)
    tokenizer = type("Tokenizer", (), vars(tokenizer))()
    with torch.device("meta"):
        lm = AutoModelForCausalLM.from_config(lm_config_of_size(size, config.model.init, tokenizer))
    assert sum(parameter.numel() for parameter in lm.parameters()) == parameters
