"""Configurations that nobody wrote by hand: bytes, `--set` texts and any nested value give a section or one line."""

import json
import re

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from models.configuration import build_config, load_config
from models.registry import MODEL_TYPES, model_type
from models.settings import Config
from tests.conftest import ROOT
from tests.hunted import BROKEN, any_text, files, judged, refusal, texts, values
from utils.config.loading import dump, parse_assignments
from utils.config.schema import keys_of, nested
from utils.config.strict_yaml import read_yaml

GOOD = """\
# a comment
base: other.yml
model: {model_type: selective_pt, K: 4, normalizer: linear}
training:
  learning_rate: 1e-3
  batch_size: &size 8
  seed: *size
dataset:
  train: "data.txt"
  format: convai2
"""
KEYS = sorted({key for name in MODEL_TYPES for key, _ in keys_of(model_type(name).config_class())})


@given(content=files(GOOD, (ROOT / "config/sample/spt.yml").read_bytes()))
@example(content=b"model:\n  K: 4\n  seed: \xff\n")
@example(content=b"training:\n  seed: " + b"9" * 5000)
@example(content=b"model:\n\n  a: [" + b"[" * 3000)
@example(content=b"a: 1\nb: \x07\n")
@example(content=b"a:\n  2001-99-99\n")
def test_damaged_files(tmp_path, survived, content):
    """A configuration with a stray byte, number or bracket is told by its line."""
    (tmp_path / "other.yml").write_text("training: {num_epochs: 1}\n", encoding="utf-8")
    path = tmp_path / "a.yml"
    path.write_bytes(content)
    fault = refusal(lambda: read_yaml(path), path)
    if fault:
        of_the_whole = ("is empty", "expected sections", "with its aliases")
        assert re.search(rf"{re.escape(str(path))}:\d+: ", fault) or any(
            words in fault for words in of_the_whole
        ), fault
    else:
        judged(lambda: load_config(path), tmp_path)
    survived("bad inputs")


@given(key=st.sampled_from(KEYS), value=values, more=st.dictionaries(texts, values, max_size=2))
@example(key="model.K", value=1, more={"int": 3})
@example(key="model.int", value=1, more={})
@example(key="model.a[b]", value=1, more={"str": {"bool": 1}})
@example(key="model.K", value={"int": 1}, more={})
def test_any_value_of_any_key(survived, key, value, more):
    """A key called like a type of pydantic's was taken for one: the message was a traceback, or named another key."""
    for layers in (
        [("a.yml", nested({key: value}) | more)],
        [("b.yml", more), ("a.yml", nested({key: value}))],
    ):
        config = judged(lambda layers=layers: build_config(layers))
        if config is not None:
            assert isinstance(config, Config)
            again = build_config([("a.yml", yaml.safe_load(dump(config)))])
            assert again == config
        survived("bad inputs")


@given(name=st.sampled_from(["int", "float", "str", "bool", "list[x]", "a[b]", "function-x", "Section"]))
def test_an_unknown_key_is_named_whatever_it_is(name):
    """`--set=model.int=3` was answered with "unknown key 'model'", which is right there in the file."""
    for key in (name, f"model.{name}", f"model.peft_config.{name}"):
        fault = refusal(lambda key=key: build_config([("a.yml", nested({key: 3}))]))
        assert fault.startswith(f"a.yml: unknown key '{key}'")


assignment = st.one_of(
    st.builds("{}={}".format, st.sampled_from(KEYS), any_text),
    st.builds(
        lambda key, piece: f"{key}={piece.decode('utf-8', 'surrogateescape')}",
        st.sampled_from(KEYS),
        st.sampled_from(BROKEN),
    ),
    st.builds(lambda key, value: f"{key}={json.dumps(value)}", st.sampled_from(KEYS), values),
    any_text,
    st.builds("{}.{}={}".format, any_text, any_text, any_text),
)


@given(assignments=st.lists(assignment, max_size=3))
@example(assignments=["a." * 5000 + "b=1", "a." * 5000 + "c=1"])
@example(assignments=["model.K=" + "[" * 5000])
@example(assignments=["model.K=9" * 5000])
@example(assignments=["model.K=1\n2", "model.K.a=2", "model.K.a.b=2"])
@example(assignments=["training.seed=!!int x"])
@example(assignments=["model.\udcff=1"])
def test_set(survived, assignments):
    """What is typed after --set comes from scripts that build it: it is refused in one line that quotes it."""
    content = judged(lambda: parse_assignments(assignments), "--set")
    if content is not None:
        judged(lambda: build_config([("the command line", content)]))
    survived("bad inputs")
