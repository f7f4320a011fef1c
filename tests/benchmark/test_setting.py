"""The sizes that are measured are those of the LMs that they are named after."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from models.configuration import build_config
from tests.benchmark.setting import SAMPLE, SIZES, lm_config_of_size, lm_section


class Tokenizer:
    """What a configuration asks of one."""

    pad_token_id, bos_token_id, eos_token_id = range(3)

    def __len__(self):
        return 8000


PARAMETERS = {
    "opt-125m": 125_239_296,
    "opt-1.3b": 1_315_758_080,
    "opt-2.7b": 2_651_596_800,
    "llama2-7b": 6_738_415_616,
    "llama2-13b": 13_015_864_320,
}


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_a_size_has_the_parameters_of_its_lm(name, parameters):
    """A table of a 7B LM that was measured on another one."""
    size = SIZES[name]
    data = {"dataset": {"train": str(SAMPLE)}}
    init = build_config([("test", lm_section(size)), ("test", data)]).model.init
    with torch.device("meta"):
        lm = AutoModelForCausalLM.from_config(lm_config_of_size(size, init, Tokenizer()))
    assert sum(parameter.numel() for parameter in lm.parameters()) == parameters
