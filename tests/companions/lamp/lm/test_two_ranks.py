"""train_llm on two ranks, as a user types it."""

import json
import re
from pathlib import Path

import pytest

from tests.companions.lamp.lm.made_lms import made, prompts
from tests.helpers import logged
from tests.run_commands import Command, run_commands

# so that DeepSpeed does not keep parameters as small as these whole
_SHARDED = {
    f"stage3_{name}": 0
    for name in ("param_persistence_threshold", "max_live_parameters", "max_reuse_distance")
}


@pytest.mark.slow
@pytest.mark.long
def test_outputs_of_other_lengths_do_not_part_the_ranks(tmp_path):
    """At stage 3 a rank whose outputs end early leaves the others waiting for its weights for ever."""
    lm = made("t5")
    lm.save(tmp_path / "start", dict(lm.model.named_parameters()))
    texts = lm.tokenizer.batch_decode(prompts(lm, 9), skip_special_tokens=True)
    rows = [
        {"id": str(number), "input": text, "profile": [], "output": "5"} for number, text in enumerate(texts)
    ]
    (tmp_path / "merged.json").write_text(json.dumps(rows))
    (tmp_path / "ds.json").write_text(json.dumps({"zero_optimization": {"stage": 3, **_SHARDED}}))
    words = f"""-m companions.lamp.train_llm --train_data {tmp_path}/merged.json --task LaMP-3 --num_train_epochs 1
    --validation_data {tmp_path}/merged.json --model_name {tmp_path}/start --output_dir {tmp_path} --max_length 32
    --generation_max_length 24 --generation_batch_size 1 --learning_rate 1e-6 --lr_scheduler_type constant
    --deepspeed_config={tmp_path}/ds.json --per_device_batch_size""".split()
    runs = []
    for done in run_commands([Command([*words, str(8 // ranks)], ranks=ranks) for ranks in (1, 2)], tmp_path):
        assert done.status == 0, done.output
        runs += map(Path, re.findall(r"run folder: (.*)", done.output))
    one, two = runs
    for mine, other in zip(logged(one, "valid_epoch"), logged(two, "valid_epoch"), strict=True):
        assert mine["examples"] == other["examples"] == 9
        assert mine["llm"] == pytest.approx(other["llm"], rel=1e-3)
        assert mine["mae"] == pytest.approx(other["mae"])
