"""The DeepSpeed configuration: misspelt keys are errors, and what the run decides is said."""

import json

import pytest

from trainer.ds_config import DEFAULT_PATH, complete_ds_config, read_ds_config
from utils.errors import UserError


@pytest.fixture
def read(tmp_path):
    """read(text or object): the DeepSpeed configuration in a file of that content."""

    def read(content):
        path = tmp_path / "ds.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return read_ds_config(path)

    return read


def test_the_shipped_file_is_valid():
    """The released file had keys that DeepSpeed passed over; nothing of ours may give way unsaid."""
    content = read_ds_config(DEFAULT_PATH)
    assert content["zero_optimization"]["stage"] == 2
    assert "offload_param" not in content["zero_optimization"]  # it has a meaning at stage 3 only
    assert complete_ds_config(content, 4, 0.0, 32)[1] == []


@pytest.mark.parametrize(
    ("content", "key", "hint"),
    [
        (
            {"train_micro_batch_size_per_gpu ": 2},
            "train_micro_batch_size_per_gpu ",
            "did you mean 'train_micro_batch_size_per_gpu'?",
        ),
        ({"float16": {"enabled": True}}, "float16", "did you mean 'fp16'?"),
        ({"zero_optimization": {"stge": 2}}, "zero_optimization.stge", "did you mean 'stage'?"),
        ({"fp16": {"enable": True}}, "fp16.enable", "did you mean 'enabled'?"),
        ({"gradient_acumulation_steps": 2}, "gradient_acumulation_steps", "did you mean 'gradient_accu"),
        (
            {"data_types": {"grad_acum_dtype": "fp32"}},
            "data_types.grad_acum_dtype",
            "did you mean 'grad_accum_dtype'?",
        ),
        ({"flops_profiler": {"enable": True}}, "flops_profiler.enable", "did you mean 'enabled'?"),
        (
            {"activation_checkpointing": {"cpu_checkpoint": True}},
            "activation_checkpointing.cpu_checkpoint",
            "did you mean 'cpu_checkpointing'?",
        ),
        ({"aio": {"blocksize": 1}}, "aio.blocksize", "did you mean 'block_size'?"),
        ({"tensorboard": {"outputpath": "x"}}, "tensorboard.outputpath", "did you mean 'output_path'?"),
        ({"wandb": {"projects": "x"}}, "wandb.projects", "did you mean 'project'?"),
        ({"csv_monitor": {"jobname": "x"}}, "csv_monitor.jobname", "did you mean 'job_name'?"),
        ({"comms_logger": {"prof_al": True}}, "comms_logger.prof_al", "did you mean 'prof_all'?"),
        ({"torch_autocast": {"dtypes": "bfloat16"}}, "torch_autocast.dtypes", "did you mean 'dtype'?"),
        (
            {"checkpoint": {"load_univeral": True}},
            "checkpoint.load_univeral",
            "did you mean 'load_universal'?",
        ),
        ({"checkpoint": {"writer": {"typ": "fast"}}}, "checkpoint.writer.typ", "did you mean 'type'?"),
        (
            {"checkpoint": {"parallel_write": {"pipeline": True}}},
            "checkpoint.parallel_write.pipeline",
            "did you mean 'pipeline_stage'?",
        ),
        ({"optimizer": {"typ": "Adam"}}, "optimizer.typ", "did you mean 'type'?"),
        (
            {"zero_optimization": {"offload_optimizer": {"devise": "cpu"}}},
            "zero_optimization.offload_optimizer.devise",
            "did you mean 'device'?",
        ),
        (
            {"zero_optimization": {"offload_param": {"pinned_memory": True}}},
            "zero_optimization.offload_param.pinned_memory",
            "did you mean 'pin_memory'?",
        ),
        (
            {"zero_optimization": {"stage3_max_live_parameter": 1}},
            "zero_optimization.stage3_max_live_parameter",
            "did you mean 'stage3_max_live_parameters'?",
        ),
        # DeepSpeed has given these up: it refuses the one and passes over the other
        ({"sparse_gradients": True}, "sparse_gradients", ""),
        ({"load_from_fp32_weights": True}, "load_from_fp32_weights", ""),
    ],
)
def test_a_misspelt_key_is_named_with_the_nearest(read, content, key, hint):
    """DeepSpeed ignores an unknown key, so `float16` used to train in float32 without a word."""
    with pytest.raises(UserError) as caught:
        read(content)
    assert f"ds.json: unknown key '{key}'; {hint}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{\n  "seed": 1,\n}', r"ds\.json:3: not valid JSON"),
        ('{\n  "seed": 1\n  "fp16": {}\n}', r"ds\.json:3: not valid JSON"),
        ('{"aio": ' * 100_000, r"ds\.json: nested too deep"),
        ('{"seed": 1, "seed": 2}', r"ds\.json: key 'seed' is given twice"),
        ('{"fp16": {"enabled": true, "enabled": false}}', r"ds\.json: key 'enabled' is given twice"),
        ("[1]", r"ds\.json: expected a JSON object"),
        ('{"zero_optimization": 2}', r"ds\.json: 'zero_optimization' must be a JSON object, found 2"),
        ('{"zero_optimization": {"stage": 4}}', r"ds\.json: zero_optimization\.stage = 4"),
        ('{"data_types": "fp32"}', r"ds\.json: 'data_types' must be a JSON object, found 'fp32'"),
        ('{"aio": null}', r"ds\.json: 'aio' must be a JSON object, found None"),
        (
            '{"zero_optimization": {"offload_param": "cpu"}}',
            r"ds\.json: 'zero_optimization\.offload_param' must be a JSON object, found 'cpu'",
        ),
        ("", r"DeepSpeed configuration is empty: .*ds\.json"),
    ],
)
def test_a_broken_file_is_named_with_its_line(read, text, fault):
    """A JSON error without file and line, or the last of two equal keys winning."""
    with pytest.raises(UserError, match=fault):
        read(text)


def test_every_valid_section_passes(read):
    """A check that is stricter than DeepSpeed refuses what its documentation shows."""
    content = {
        "zero_optimization": {
            "stage": 3,
            "stage3_prefetch_bucket_size": 1,
            "offload_optimizer": {"device": "cpu", "pin_memory": True},
            "offload_param": None,
            "leaf_module": {"names": []},
        },
        "flops_profiler": {
            "enabled": True,
            "profile_step": 1,
            "module_depth": -1,
            "top_modules": 1,
            "detailed": True,
        },
        "activation_checkpointing": {
            "partition_activations": False,
            "cpu_checkpointing": False,
            "profile": False,
        },
        "aio": {"block_size": 1048576, "queue_depth": 8, "single_submit": False, "overlap_events": True},
        "data_types": {"grad_accum_dtype": "fp32"},
        "tensorboard": {"enabled": False, "output_path": "x", "job_name": "y"},
        "wandb": {"enabled": False, "team": "x", "group": "y", "project": "z"},
        "csv_monitor": {"enabled": False, "output_path": "x", "job_name": "y"},
        "comms_logger": {
            "enabled": False,
            "verbose": False,
            "prof_all": True,
            "debug": False,
            "prof_ops": [],
        },
        "torch_autocast": {"enabled": False, "dtype": "bfloat16", "lower_precision_safe_modules": []},
        "checkpoint": {"tag_validation": "Warn", "load_universal": False, "writer": {"type": "python"}},
        "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 3}},
    }
    assert read(content) == content


def test_a_byte_order_mark_is_no_error(read):
    """Editors on Windows put one in front: a file that DeepSpeed's users saved there would be called broken JSON."""
    assert read('\ufeff{"seed": 1}') == {"seed": 1}


def test_replaced_values_are_noted(read):
    """A value of the file that the run's own settings replace without a word is looked for in vain later."""
    content = read(
        {
            "train_batch_size": 64,
            "train_micro_batch_size_per_gpu": 8,
            "gradient_accumulation_steps": 2,
            "gradient_clipping": 1.0,
            "optimizer": {"type": "AdamW"},
            "scheduler": {"type": "WarmupLR"},
            "seed": 5,
            "fp16": {"enabled": True, "loss_scale": 128},
            "bf16": {"enabled": False},
            "steps_per_print": 7,
            "zero_optimization": {"stage": 1},
        }
    )
    before = json.dumps(content)
    completed, notes = complete_ds_config(content, 4, 0.5, 32)
    assert json.dumps(content) == before
    assert completed == {
        "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": 2,
        "gradient_clipping": 0.5,
        "fp16": {"enabled": False, "loss_scale": 128},
        "bf16": {"enabled": False},
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 7,
        "zero_optimization": {"stage": 1},
    }
    noted = {note.split(" of the DeepSpeed configuration gives way to ")[0] for note in notes}
    assert noted == {
        "train_batch_size",
        "train_micro_batch_size_per_gpu",
        "gradient_clipping",
        "optimizer",
        "scheduler",
        "seed",
        "fp16",
    }


@pytest.mark.parametrize(
    ("precision", "fp16", "bf16"), [(32, False, False), (16, True, False), ("bf16", False, True)]
)
def test_precision_comes_from_load_bit(precision, fp16, bf16):
    """A run in another precision than its configuration says."""
    completed, notes = complete_ds_config({"zero_optimization": {"stage": 2}}, 4, 0.0, precision)
    assert (completed["fp16"]["enabled"], completed["bf16"]["enabled"]) == (fp16, bf16)
    assert notes == []
    assert completed["train_micro_batch_size_per_gpu"] == 4


@pytest.mark.parametrize(
    "content",
    [
        {"torch_autocast": {"enabled": True, "dtype": "float16"}},
        {"bf16": {"bf16_master_weights_and_grads": True, "bf16_optimizer_states": True}},
        {"bf16": {"bf16_optimizer_states": True}},
        {"fp16": {"fp16_master_weights_and_grads": True}},
    ],
)
def test_nothing_but_load_bit_decides_the_precision(read, content):
    """Autocast in float16 skips every update in silence; states in half precision round away what is learnt."""
    given = read(json.dumps(content))
    with pytest.raises(UserError, match="the precision is model.load_bit"):
        complete_ds_config(given, 4, 0.0, "bf16")
    off = {section: dict.fromkeys(keys, False) | {"enabled": False} for section, keys in content.items()}
    off = {section: {k: v for k, v in keys.items() if k != "dtype"} for section, keys in off.items()}
    complete_ds_config(read(json.dumps(off)), 4, 0.0, "bf16")


@pytest.mark.parametrize("value", ["x", 0, 2.5, True, []])
def test_steps_per_print_is_a_whole_number(read, value):
    """DeepSpeed divides by it at the first step, which ends a run that has begun in a traceback."""
    with pytest.raises(UserError, match=r"ds\.json: steps_per_print = .*: a whole number of at least 1"):
        read({"steps_per_print": value})
    assert read({"steps_per_print": None}) == {"steps_per_print": None}


@pytest.mark.parametrize("key", ["x" * 100_000, "x\n\x1b[31m"])
def test_messages_name_keys_in_one_short_line(read, key):
    """A key of 100 kB, or one that colours the terminal, hides what is wrong."""
    one = json.dumps(key)
    for text in (f"{{{one}: 1}}", f"{{{one}: 1, {one}: 2}}", f'{{"fp16": {one}}}'):
        with pytest.raises(UserError) as caught:
            read(text)
        message = str(caught.value)
        assert len(message) < 1500
        assert message.isprintable()
