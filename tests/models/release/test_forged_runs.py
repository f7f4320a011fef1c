"""Run folders that came from somebody else: whatever is wrong in them is one line, never a traceback."""

import json
import os
import shutil
import struct

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from models.decoding import runs
from models.decoding.runs import load_run, read_run_config
from models.lm.language_model import load_language_model
from models.registry import build_tokenizer, model_type
from models.spt.export import export_run
from models.trained_part import read_trained
from trainer import checkpoints
from utils.errors import UserError
from utils.runs import find_runs

PROMPT = "models.{}.prompt_encoder.default.embedding.weight"
TRAINED = "trained.safetensors"


def fault(call, *arguments):
    """The message of the UserError that a call ends in; one line, of a length that one reads."""
    with pytest.raises(UserError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1500
    return message


@pytest.fixture
def authors_run(tmp_path):
    """authors_run(state): a run folder in the authors' format with these tensors."""

    def make(state):
        states = tmp_path / "run" / "ds_ckpt" / "best" / "mp_rank_00_model_states.pt"
        states.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"module": state}, states)
        return tmp_path / "run"

    return make


def test_prompts_of_two_shapes(authors_run):
    """They were stacked without a look, which ended in a traceback of torch."""
    run = authors_run({PROMPT.format(0): torch.ones(4, 8), PROMPT.format(1): torch.ones(5, 8)})
    assert fault(read_trained, run).endswith("soft prompts of different shapes: [(4, 8), (5, 8)]")


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (["0", "2"], "soft prompts [0, 2] are not numbered 0 to 1"),
        (range(3, 2000), "are not numbered 0 to 1996"),
        (["9" * 5000], "holds none of the wanted tensors"),
        (["0", "00", "٠"], None),
    ],
    ids=["gap", "many", "5,000 digits", "twice"],
)
def test_prompts_that_are_numbered_oddly(authors_run, numbers, message):
    """A number of 5,000 digits is more than Python reads; two spellings of 0 would be one prompt."""
    run = authors_run({PROMPT.format(number): torch.ones(2, 4) for number in numbers})
    if message is None:
        assert read_trained(run)[0]["soft_prompts.weight"].shape == (1, 2, 4)
    else:
        assert message in fault(read_trained, run)


@pytest.mark.parametrize("section", ["model", "training", "dataset"])
@pytest.mark.parametrize("value", [["K"], 3, "K", [["K"] * 1000] * 5])
def test_a_section_of_the_authors_config_that_is_no_mapping(tmp_path, section, value):
    """`config.model` as a list was asked for its items."""
    torch.save({"config": {section: value}}, tmp_path / "checkpoint_best.pth")
    message = fault(read_run_config, tmp_path, [])
    assert f"checkpoint_best.pth: {section} = " in message
    assert "a section with keys is needed" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00best", "is not the name of a checkpoint"),
        (b"a" * 300, "is not the name of a checkpoint"),
        (b"a\nb", "is not the name of a checkpoint"),
        (b"a\0b", "is not the name of a checkpoint"),
        (b"other", "no checkpoint (trained.safetensors or ds_ckpt/other/mp_rank_00_model_states.pt)"),
    ],
    ids=["binary", "long", "two lines", "null", "missing"],
)
def test_the_tag_in_latest(authors_run, content, message):
    """A binary file in its place is no text; a name of 300 letters is more than a file system takes."""
    run = authors_run({PROMPT.format(0): torch.ones(2, 4)})
    (run / "ds_ckpt" / "best").rename(run / "ds_ckpt" / "elsewhere")
    (run / "ds_ckpt" / "latest").write_bytes(content)
    assert message in fault(read_trained, run)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(authors_run, run_copy, value):
    """NaN decodes without an error, in the words of one prompt for every example."""
    bad = torch.ones(2, 4)
    bad[1, 2] = value
    message = "'soft_prompts.weight' holds values that are no finite floating-point numbers"
    assert message in fault(read_trained, authors_run({PROMPT.format(0): bad}))
    save_file({"soft_prompts.weight": bad}, run_copy / TRAINED)
    assert message in fault(read_trained, run_copy)


def test_weights_of_another_kind(run_copy):
    """Whole numbers would be taken over in silence; a scalar has no prompts to export."""
    state = load_file(run_copy / TRAINED)
    save_file(state | {"soft_prompts.weight": state["soft_prompts.weight"].long()}, run_copy / TRAINED)
    assert "no finite floating-point numbers" in fault(read_trained, run_copy)
    save_file(state | {"soft_prompts.weight": torch.tensor(1.0)}, run_copy / TRAINED)
    assert "has no shape [K, V, D]" in fault(export_run, run_copy, run_copy / "peft")


def _safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 1 << 62),
        _safetensors(b"[" * 10_000),
        _safetensors({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}, b"x"),
        _safetensors({"w": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}, b"x"),
        _safetensors({"w": {"dtype": "F8_E8M0", "shape": [1], "data_offsets": [0, 1]}}, b"x"),
        _safetensors({"w": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}, b"x" * 8),
    ],
    ids=["endless header", "nested header", "huge tensor", "F4", "F8_E8M0", "complex"],
)
def test_forged_safetensors(run_copy, content):
    """The library checks its header; what torch has no kind for must not end in a traceback either."""
    (run_copy / TRAINED).write_bytes(content)
    assert TRAINED in fault(read_trained, run_copy)


@pytest.mark.parametrize("name", ["m" * 300, "../" * 200, "m" * 5000, "m/" * 3000])
def test_a_model_name_that_no_file_can_have(run_copy, name):
    """The system answers "File name too long", which was a traceback before the one line."""
    path = run_copy / "config.yml"
    lines = path.read_text("utf-8").splitlines()
    lines = [f"  model_name: {json.dumps(name)}" if "  model_name:" in line else line for line in lines]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    config = read_run_config(run_copy, [])
    assert config.model.model_name == name
    assert fault(build_tokenizer, config).startswith("tokenizer ")


def test_a_base_lm_that_lacks_weights(make_config, lm_folder, tmp_path):
    """The library draws what is missing at random: a model folder that was copied in part still gives figures."""
    folder = shutil.copytree(lm_folder("opt"), tmp_path / "lm")
    state = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in state.items() if "layers.1.fc1" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    message = fault(load_language_model, make_config(model={"model_name": str(folder)}).model)
    assert "base LM in folder" in message
    assert "its files lack 2 of its weights, such as model.decoder.layers.1.fc1.bias" in message


def test_sizes_that_no_memory_holds(run_copy):
    """A line of config.yml that asks for terabytes, which were allotted before the checkpoint was compared."""
    for assignment in (
        "model.K=1000000",
        "model.peft_config.num_virtual_tokens=1000000",
        "model.K=100000000000",
    ):
        assert "model.K" in fault(read_run_config, run_copy, [assignment])
    assert "model.peft_config.r" in fault(read_run_config, run_copy, ["model.peft_config.r=1000000"])
    assert "num_layers" in fault(read_run_config, run_copy, ["model.retriever.num_layers=1000000"])


def test_paths_that_no_file_can_have(run_copy):
    """The same on the command line, and of a dialogue file."""
    long = "x" * 300
    assert fault(find_runs, long) == f"--model_path {long}: no such folder"
    assert "no checkpoint" in fault(read_trained, run_copy / long)
    from dataset.readers import read_dialogues

    assert "not found: " in fault(read_dialogues, long, "convai2")


def test_a_run_of_links_to_nowhere(run_copy):
    """A copy that kept links instead of files."""
    for name in ("config.yml", TRAINED):
        (run_copy / name).unlink()
        (run_copy / name).symlink_to("nowhere")
    shutil.rmtree(run_copy / "ds_ckpt")
    assert "neither config.yml nor checkpoint_best.pth" in fault(read_run_config, run_copy, [])
    assert "no checkpoint" in fault(read_trained, run_copy)


def test_an_lm_with_more_layers_than_its_config_names_is_refused(lm_folder, make_config, tmp_path):
    """A part of the LM would answer, and be scored, with a table of names on the screen and no error."""
    folder = shutil.copytree(lm_folder("opt"), tmp_path / "lm")
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(content | {"num_hidden_layers": 1}), encoding="utf-8")
    with pytest.raises(UserError, match=r"no layer for, such as model\.decoder\.layers\.1\."):
        load_language_model(make_config("opt", model={"model_name": str(folder)}).model)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (
            {"retriever": {"retriever_type": "transformer_encoder", "num_layers": 200}},
            "0 for model.retriever.num_layers",
        ),
        (
            {"model_type": "prefix_tuning", "peft_config": {"num_virtual_tokens": 30_000}},
            "0 for model.peft_config.num_v",
        ),
        (
            {"K": 1, "peft_config": {"num_virtual_tokens": 90_000}},
            "4 for model.peft_config.num_virtual_tokens",
        ),
    ],
)
def test_a_config_that_asks_for_more_than_the_file_holds(run_copy, monkeypatch, model, told):
    """A kilobyte of YAML took gigabytes before the shapes were compared."""
    content = yaml.safe_load((run_copy / "config.yml").read_text(encoding="utf-8"))
    for key, value in model.items():
        content["model"][key] = content["model"][key] | value if isinstance(value, dict) else value
    config = model_type(content["model"]["model_type"]).config_class()
    for section in ("model", "training"):  # the keys of the forged type alone
        own = config.model_fields[section].annotation.model_fields
        content[section] = {key: value for key, value in content[section].items() if key in own}
    (run_copy / "config.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    monkeypatch.setattr(runs, "build_model", lambda *_: pytest.fail("the model was built"))
    with pytest.raises(UserError, match=f"has {told}"):
        load_run(run_copy, read_run_config(run_copy, []))


def test_a_tensor_of_a_strange_name_is_told_in_one_short_line(run_copy):
    """Line breaks and the codes of a terminal in a name would write on the reader's screen."""
    name = "x\n\x1b[31m" * 50
    save_file({name: torch.zeros(1)}, run_copy / "trained.safetensors")
    with pytest.raises(UserError) as caught:
        load_run(run_copy, read_run_config(run_copy, []))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_files_of_weights_have_the_rights_that_the_umask_leaves(run_copy, distributed):
    """A run that others share cannot be read by them: the library writes its files for their owner alone."""
    before = os.umask(0o022)
    try:
        model = load_run(run_copy, read_run_config(run_copy, []))
        checkpoints.save_trained(model, run_copy, distributed, {})
        (folder, *_) = export_run(run_copy, run_copy / "peft")
    finally:
        os.umask(before)
    for path in (run_copy / "trained.safetensors", folder / "adapter_model.safetensors"):
        assert path.stat().st_mode & 0o777 == 0o644, path
