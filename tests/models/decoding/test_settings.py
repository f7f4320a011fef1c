"""Decoding settings: where they come from, that they reach the generation, and what is written about them."""

import json
import runpy
import shutil
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import yaml

from models.configuration import load_config
from models.decoding import chat as chat_module
from models.decoding import decode as decode_module
from models.decoding.arguments import chat_flags, chat_parser, decode_parser, decoding_flags
from models.decoding.chat import chat_with_run
from models.decoding.decode import DecodeOptions, decode_runs
from models.decoding.generation import Reply, generation_config
from models.decoding.runs import read_run_config
from models.decoding.settings import ChatSettings, DecodingSettings
from tests.conftest import ROOT
from tests.helpers import train
from tests.models.decoding.test_old_runs import BASE_LM, FOLDERS
from utils import liveness
from utils.errors import UserError

RELEASED = {
    "max_new_tokens": 32,
    "num_beams": 1,
    "do_sample": False,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "router": "trained",
}
FLAGS = [
    (["--max_new_tokens=5"], {"max_new_tokens": 5}),
    (["--num_beams=3"], {"num_beams": 3}),
    (["--num_beams=1", "--do_sample=yes"], {"num_beams": 1, "do_sample": True}),
    (
        ["--num_beams=1", "--do_sample=yes", "--temperature=0.5", "--top_k=7", "--top_p=0.9"],
        {"num_beams": 1, "do_sample": True, "temperature": 0.5, "top_k": 7, "top_p": 0.9},
    ),
    (["--repetition_penalty=1.2"], {"repetition_penalty": 1.2}),
    (["--no_repeat_ngram_size=2"], {"no_repeat_ngram_size": 2}),
]


@pytest.fixture
def used(monkeypatch):
    """The settings that decoding and chat generate with; nothing is generated."""
    seen = []

    def decoded(model, batch, scores, choice, settings, stopping, seed, targets):
        seen.append(settings)
        return [Reply("fine .", None, None)] * len(batch.indices)

    def said(model, batch, scores, choice, settings, seed):
        seen.append(settings)
        return [Reply("fine .", None, None)]

    monkeypatch.setattr(decode_module, "generate_replies", decoded)
    monkeypatch.setattr(chat_module, "generate_replies", said)
    return seen


def options(*arguments):
    """What test.py makes of its flags."""
    args = decode_parser().parse_args(["--model_path=x", "--skip_exists=no", *arguments])
    return DecodeOptions(
        skip_exists=args.skip_exists, assignments=tuple(args.assignments), flags=decoding_flags(args)
    )


def talk(run, distributed, *arguments):
    """One message to a run, with flags of the chat."""
    args = chat_parser().parse_args([f"--model_path={run}", "--persona=i ski.", *arguments])
    script = iter(["hello", "exit"])
    chat_with_run(
        args.model_path,
        distributed,
        args.persona,
        args.valid_path,
        args.seed,
        args.assignments,
        chat_flags(args),
        ask=lambda prompt: next(script),
    )


def with_sections(run, **sections):
    """A run folder whose config.yml has other sections."""
    path = run / "config.yml"
    content = yaml.safe_load(path.read_text(encoding="utf-8")) | sections
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return run


def decoding_line(run):
    """What the third line of the result file says."""
    line = (run / "evaluation_result.txt").read_text(encoding="utf-8").splitlines()[2]
    assert line.startswith("decoding: ")
    return json.loads(line.removeprefix("decoding: "))


def test_the_released_values_are_the_defaults():
    """Another default changes every number that is reported without a flag."""
    assert DecodingSettings().model_dump() == RELEASED
    assert ChatSettings().model_dump() == RELEASED | {"num_beams": 10, "no_repeat_ngram_size": 4}


@pytest.mark.parametrize(("arguments", "changed"), FLAGS, ids=lambda value: " ".join(value))
def test_flags_of_test_py_reach_the_generation(run_copy, distributed, used, arguments, changed):
    """A flag that is taken and not used reports greedy replies under another name."""
    decode_runs([run_copy], distributed, options(*arguments))
    assert {settings.model_dump_json() for settings in used} == {
        DecodingSettings(**changed).model_dump_json()
    }
    assert decoding_line(run_copy).items() >= (RELEASED | changed).items()


@pytest.mark.parametrize(("arguments", "changed"), FLAGS, ids=lambda value: " ".join(value))
def test_flags_of_the_chat_reach_the_generation(trained_run, distributed, used, arguments, changed):
    """A flag that replaces the chat's other defaults too would turn its beam search into greedy decoding."""
    talk(trained_run, distributed, *arguments)
    assert used == [ChatSettings(**changed)]


def test_decoding_and_chat_have_settings_of_their_own(run_copy, distributed, used):
    """Beams that are meant for the chat would slow test.py down tenfold, and change its numbers."""
    with_sections(run_copy, decoding={"max_new_tokens": 3}, chat={"num_beams": 2})
    decode_runs([run_copy], distributed, options())
    assert set(used) == {DecodingSettings(max_new_tokens=3)}
    used.clear()
    talk(run_copy, distributed)
    assert used == [ChatSettings(num_beams=2)]


def test_flags_beat_set_which_beats_the_runs_configuration(run_copy):
    """The nearest word wins: who types a flag sees its effect whatever the folder says."""
    with_sections(run_copy, decoding={"max_new_tokens": 3, "num_beams": 3, "no_repeat_ngram_size": 3})
    flags = options("--max_new_tokens=5").flags
    found = read_run_config(run_copy, ["decoding.max_new_tokens=4", "decoding.num_beams=4"], flags).decoding
    assert (found.max_new_tokens, found.num_beams, found.no_repeat_ngram_size) == (5, 4, 3)
    assert found.repetition_penalty == 1


def test_a_run_without_these_sections_has_the_released_settings(run_copy):
    """Run folders of earlier versions, and the authors', do not have them."""
    content = yaml.safe_load((run_copy / "config.yml").read_text(encoding="utf-8"))
    assert {"decoding", "chat"} <= content.keys()
    del content["decoding"], content["chat"]
    (run_copy / "config.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    config = read_run_config(run_copy)
    assert (config.decoding, config.chat) == (DecodingSettings(), ChatSettings())


def test_settings_of_the_yaml_reach_the_decoding_after_a_training(make_config, distributed):
    """--do_test decodes what the run's config.yml says; settings that stay behind would be those of another run."""
    config = make_config("opt", decoding={"max_new_tokens": 2, "num_beams": 2}, training={"num_epochs": 1})
    run = train(config, distributed, "spt")
    decode_runs([run], distributed)  # as train.py does
    assert decoding_line(run).items() >= (RELEASED | {"max_new_tokens": 2, "num_beams": 2}).items()
    replies = [json.loads(line) for line in (run / "evaluation_result.jsonl").read_text().splitlines()]
    tokens = [len(row["raw_prediction"].split()) for row in replies]
    assert max(tokens) <= 2


def test_the_library_gets_the_settings():
    """A setting that is left out here has no effect, and the result file says that it had."""
    made = generation_config(
        DecodingSettings(max_new_tokens=5, num_beams=3, no_repeat_ngram_size=2),
        7,
        None,
    )
    assert (made.max_new_tokens, made.num_beams, made.no_repeat_ngram_size) == (5, 3, 2)
    assert (made.do_sample, made.eos_token_id, made.pad_token_id) == (False, 7, 7)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--do_sample=yes", "--num_beams=2"], "decoding.do_sample draws one token at a time"),
        (["--temperature=0.5"], "decoding: temperature, top_k and top_p change only what is drawn"),
        (["--top_k=5"], "they need do_sample: true (--do_sample=yes)"),
        (["--top_p=0.5"], "they need do_sample: true (--do_sample=yes)"),
        (["--do_sample=yes", "--temperature=0"], "decoding.temperature = 0.0: input should be greater than"),
        (["--do_sample=yes", "--temperature=1e-30"], "decoding.temperature = 1e-30: input should be greater"),
        (["--do_sample=yes", "--top_p=1.5"], "decoding.top_p = 1.5: input should be less than or equal to 1"),
        (["--do_sample=yes", "--top_p=0"], "decoding.top_p = 0.0: input should be greater than 0"),
        (
            ["--do_sample=yes", "--top_k=-1"],
            "decoding.top_k = -1: input should be greater than or equal to 0",
        ),
        (["--num_beams=0"], "decoding.num_beams = 0: input should be greater than or equal to 1"),
        (["--max_new_tokens=0"], "decoding.max_new_tokens = 0: input"),
        (["--repetition_penalty=0"], "decoding.repetition_penalty = 0.0: input"),
        (["--set", "decoding.beams=2"], "unknown key 'decoding.beams'; did you mean 'num_beams'?"),
    ],
)
def test_what_cannot_be_decoded_is_one_line_before_the_model_is_loaded(
    run_copy, distributed, monkeypatch, arguments, words
):
    """A setting that would do nothing, or end in a traceback of the library after the model was loaded."""
    monkeypatch.setattr(decode_module, "load_run", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(UserError) as caught:
        decode_runs([run_copy], distributed, options(*arguments))
    assert str(caught.value).startswith("the command line: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_chat_says_that_drawing_needs_one_beam(trained_run, distributed):
    """The chat's default is 10 beams: --do_sample=yes alone contradicts it, and the line says what to add."""
    with pytest.raises(
        UserError, match=r"^the command line: chat\.do_sample .*needs chat\.num_beams: 1 \(--num_"
    ):
        talk(trained_run, distributed, "--do_sample=yes")


def test_a_seed_below_zero_is_one_line():
    """The library's generator ended the conversation with a traceback at the first reply."""
    with pytest.raises(UserError, match=r"argument --seed: '-1': a whole number of at least 0 is needed"):
        chat_parser().parse_args(["--model_path=x", "--seed=-1"])
    assert chat_parser().parse_args(["--model_path=x", "--seed=0"]).seed == 0


def test_a_configuration_for_training_checks_them_too(tmp_path):
    """A contradiction that is found when --do_test begins has cost the whole training."""
    path = tmp_path / "own.yml"
    path.write_text("model: {model_name: x}\nchat: {do_sample: true}\n")
    with pytest.raises(UserError, match=r"own\.yml: chat\.do_sample"):
        load_config(path)


@pytest.fixture(scope="module")
def greedy_and_drawn(trained_run, tmp_path_factory, distributed):
    """Two decoded copies of the trained run: with the released settings, and drawn."""
    made = SimpleNamespace()
    for name, arguments in (("greedy", []), ("drawn", ["--do_sample=yes", "--max_new_tokens=6"])):
        run = shutil.copytree(trained_run, tmp_path_factory.mktemp(name) / "run")
        decode_runs([run], distributed, options(*arguments))
        setattr(made, name, run)
    return made


@pytest.mark.parametrize(
    ("name", "flags", "differing"),
    [
        ("greedy", {}, None),
        ("greedy", {"num_beams": 2}, "num_beams"),
        ("greedy", {"max_new_tokens": 6, "do_sample": True}, "max_new_tokens, do_sample"),
        ("drawn", {"max_new_tokens": 6, "do_sample": True}, None),
        ("drawn", {}, "max_new_tokens, do_sample"),
        ("drawn", {"max_new_tokens": 6, "do_sample": True, "temperature": 0.5}, "temperature"),
    ],
)
def test_a_result_of_other_settings_is_not_taken_for_this_one(
    greedy_and_drawn, distributed, capsys, name, flags, differing
):
    """Greedy replies would be reported as those of a search with beams."""
    run = getattr(greedy_and_drawn, name)
    wanted = DecodeOptions(flags={"decoding": flags})
    if differing is None:
        decode_runs([run], distributed, wanted)
        assert "exists, skipped" in capsys.readouterr().out
    else:
        with pytest.raises(UserError, match=rf"another decoding \({differing} differ\)"):
            decode_runs([run], distributed, wanted)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("third_line", ["as it is", "missing"])
def test_an_old_result_is_one_of_the_released_settings(version, third_line, tmp_path, distributed, capsys):
    """It was decoded greedily, as there was nothing else: finished for that, and for no other decoding."""
    for name in (BASE_LM, "selective_pt"):
        shutil.copytree(FOLDERS / version / name, tmp_path / name)
    run = tmp_path / "selective_pt"
    text = run / "evaluation_result.txt"
    lines = text.read_text(encoding="utf-8").splitlines(keepends=True)
    if third_line == "missing":
        kept = [line for line in lines if not line.startswith("decoding: ")]
        text.write_text("".join(kept), encoding="utf-8")
    else:
        assert "repetition_penalty" not in lines[2]
    valid = str(FOLDERS / "dialogues.txt")
    decode_runs([run], distributed, DecodeOptions(valid_path=valid))
    assert "exists, skipped" in capsys.readouterr().out
    penalised = DecodeOptions(valid_path=valid, flags={"decoding": {"repetition_penalty": 2.0}})
    with pytest.raises(
        UserError, match=r"another decoding \(repetition_penalty differ\); --skip_exists=no replaces it"
    ):
        decode_runs([run], distributed, penalised)


def test_test_py_hands_all_its_flags_on(trained_run, monkeypatch):
    """A flag that is parsed and dropped: whoever repeats draws with --seed would get those of the default seed."""
    seen = []
    monkeypatch.setattr(decode_module, "decode_runs", lambda runs, distributed, options: seen.append(options))
    monkeypatch.setattr(liveness, "distributed_context", lambda local_rank: nullcontext())
    words = ["--batch_size=3", "--valid_path=v.txt", "--skip_exists=no", "--selection_noise=0.5", "--seed=7"]
    words += ["--top_k=2", "--set", "model.load_bit=32"]
    monkeypatch.setattr(sys, "argv", ["test.py", f"--model_path={trained_run}", *words])
    runpy.run_path(str(ROOT / "test.py"))["main"]()
    assert seen == [
        DecodeOptions(3, "v.txt", False, 0.5, ("model.load_bit=32",), {"decoding": {"top_k": 2}}, seed=7)
    ]
