"""`trainer.fit_router` on a run, and decoding by the router that it saves."""

import json
import math
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.decoding.arguments import chat_flags, chat_parser, decode_parser, decoding_flags
from models.decoding.chat import Conversation
from models.decoding.decode import DecodeOptions, decode_runs
from models.decoding.runs import load_run, read_run_config
from models.decoding.texts import encode_texts
from models.reading import texts_of
from models.routing import fitting
from models.routing.arguments import router_parser
from models.routing.evaluation import (
    REPORT,
    RouterOptions,
    cross_fitted,
    evaluate_routers,
    few,
    fit_part,
    seen_before,
)
from models.routing.measuring import Measured, measure
from models.routing.router import LinearRouter
from models.routing.saved import METADATA, ROUTER, router_of, write_router
from tests.helpers import json_rows, model_of, route_apart, untied
from trainer.fit_router import main
from utils.errors import UserError

CPU = torch.device("cpu")
ROWS = "evaluation_result.jsonl"


@pytest.fixture(scope="module")
def fitted(trained_run, data, tmp_path_factory):
    """A copy of a run with a report and a saved linear router; not to be written to."""
    run = shutil.copytree(trained_run, tmp_path_factory.mktemp("fitted") / "run")
    evaluate_routers(run, RouterOptions(fit_on=str(data["train"]), save="linear"))
    return run


@pytest.fixture
def fitted_copy(fitted, tmp_path):
    """A copy of `fitted` that a test may change."""
    return shutil.copytree(fitted, tmp_path / "fitted")


@pytest.fixture
def quick(monkeypatch):
    """One penalty instead of four, for each of which every fold is fitted."""
    monkeypatch.setattr(fitting, "PENALTIES", (1e-2,))


def perplexity(run):
    """Of the decoded rows."""
    rows = json_rows(run / ROWS)
    return math.exp(sum(row["nll"] for row in rows) / sum(row["nll_tokens"] for row in rows))


def test_the_report_is_of_what_decoding_does(fitted_copy, distributed):
    """A report of other losses, texts or choices than those of test.py promises what no reply has."""
    choices = json.loads((fitted_copy / REPORT).read_text(encoding="utf-8"))["choices"]
    flags = decoding_flags(decode_parser().parse_args(["--model_path=x", "--router=fitted"]))
    short = ("decoding.max_new_tokens=2",)
    decode_runs([fitted_copy], distributed, DecodeOptions(flags=flags, assignments=short))
    rows = json_rows(fitted_copy / ROWS)
    assert perplexity(fitted_copy) == pytest.approx(choices["linear"]["perplexity"], rel=1e-5)
    shares = np.bincount([row["prompt"] for row in rows], minlength=3) / len(rows)
    assert shares.tolist() == pytest.approx(choices["linear"]["shares"])
    text = (fitted_copy / "evaluation_result.txt").read_text(encoding="utf-8")
    assert '"router": "fitted"' in text
    with pytest.raises(UserError, match="of another decoding .*router"):
        decode_runs([fitted_copy], distributed, DecodeOptions(assignments=short))
    again = DecodeOptions(skip_exists=False, assignments=short)
    decode_runs([fitted_copy], distributed, again)
    assert perplexity(fitted_copy) == pytest.approx(choices["own choice"]["perplexity"], rel=1e-5)


def test_a_router_that_was_fitted_anew_makes_other_results(fitted_copy, distributed):
    """Replies of an earlier router would be taken for those of the one that is there now."""
    flags = {"decoding": {"router": "fitted", "max_new_tokens": 2}}
    decode_runs([fitted_copy], distributed, DecodeOptions(flags=flags))
    path = fitted_copy / ROUTER
    tensors = load_file(path)
    tensors["bias"] += torch.tensor([0.0, 0.0, 1e6])
    save_file(tensors, path)
    with pytest.raises(UserError, match="router_sha256"):
        decode_runs([fitted_copy], distributed, DecodeOptions(flags=flags))
    decode_runs([fitted_copy], distributed, DecodeOptions(flags=flags, skip_exists=False))
    assert {row["prompt"] for row in json_rows(fitted_copy / ROWS)} == {2}


def test_the_chat_chooses_by_it(fitted_copy):
    """A flag that is taken and not used shows the retriever's choice under the router's name."""
    flags = chat_flags(chat_parser().parse_args(["--model_path=x", "--router=fitted", "--num_beams=1"]))
    config = read_run_config(fitted_copy, ("chat.max_new_tokens=2",), flags)
    model = load_run(fitted_copy, config)
    model.score_prompts = None  # would be an error
    router = router_of(fitted_copy, model, config.chat)
    for wanted in (0, 2):
        fixed = LinearRouter(0 * router.of_context, 0 * router.of_turns, np.eye(3)[wanted])
        chat = Conversation(model, config, lambda: ["i ski ."], CPU, router=fixed)
        assert chat.say("hello").prompt == wanted
    by_turn = LinearRouter(0 * router.of_context, np.eye(3, 8), np.zeros(3))
    chat = Conversation(model, config, lambda: ["i ski ."], CPU, router=by_turn)
    assert [chat.say("hello").prompt for _ in range(3)] == [0, 1, 2]


@pytest.mark.slow
def test_the_report_lines(trained_run, data, tmp_path, capsys, quick):
    """Without dialogues that were held out, routers would be measured on what they were fitted on, unsaid."""
    run = shutil.copytree(trained_run, tmp_path / "run")
    evaluate_routers(run, RouterOptions(valid_path=str(data["train"])))
    printed = capsys.readouterr().out
    assert "no dialogue is set apart for the fit" in printed
    for name in ("best fixed prompt", "own choice", "turn", "linear", "preferred", "random choice", "oracle"):
        assert re.search(rf"^{name} +\d+\.\d\d ", printed, re.M)
    report = json.loads((run / REPORT).read_text(encoding="utf-8"))
    assert report["cross_fitted"]
    assert report["choices"]["oracle"]["perplexity"] <= report["choices"]["best fixed prompt"]["perplexity"]
    assert not (run / ROUTER).exists()
    assert "Intervals over 12 dialogues are shorter than they should be" in report["verdict"][-1]


def test_cross_fitted_routers_have_not_seen_what_they_choose_for(quick):
    """Measured on what it was fitted on, a router that knows nothing looks as if it helped."""
    generator = np.random.default_rng(0)
    context, losses = generator.normal(size=(60, 20)), generator.normal(size=(2, 60)) * 5 + 30
    dialogues = np.repeat(np.arange(30), 2)
    noise = Measured(losses, np.full(60, 9), context, np.tile([0, 1], 30), dialogues, np.zeros(60, int))
    choice = cross_fitted(noise)["linear"]
    gain = losses.mean(axis=0) - losses[choice, np.arange(60)]
    assert gain.mean() < 1.5  # fitted and measured on the same: 3.5


def test_which_router_is_preferred_is_not_told_by_what_it_is_measured_on(monkeypatch):
    """Of several routers that know nothing, the one that looks best on all dialogues would be called a selector."""
    zeros = np.zeros((2, 4)), np.zeros((2, fitting.TURNS))
    seen = []

    def always(prompt):
        router = LinearRouter(*zeros, np.eye(2)[prompt])
        return lambda part: (seen.append(part), (router, part.losses[prompt].sum()))[1]

    monkeypatch.setattr("models.routing.evaluation.ROUTERS", {"fixed": always(0), "turn": always(1)})
    losses = np.ones((2, 20))
    losses[1, :2] -= 9  # one dialogue makes prompt 1 the better one; without it they are equal
    dialogues = np.repeat(np.arange(10), 2)
    measured = Measured(losses, np.full(20, 9), np.zeros((20, 4)), dialogues, dialogues, dialogues)
    choice = cross_fitted(measured)["preferred"]
    (own,) = (left for _, left in fitting.dialogue_folds(dialogues) if 0 in left)
    assert set(choice[own]) == {0}
    assert set(np.delete(choice, own)) == {1}
    assert all(len(part.tokens) == 16 for part in seen)


def test_dialogues_that_were_seen_before_are_named(make_config, data, tmp_path):
    """A router that is measured on what it was fitted on helps on every run, and the verdict would say so."""
    config = make_config()
    read = texts_of(config).read_examples
    valid = read(str(data["valid"]), config)
    same = tmp_path / "same.txt"
    same.write_bytes(data["valid"].read_bytes())
    assert fit_part(config, RouterOptions(fit_on=str(same))) is None
    same.write_bytes(data["train"].read_bytes() + data["valid"].read_bytes())
    (line,) = seen_before(fit_part(config, RouterOptions(fit_on=str(same))), valid, config)
    assert "4 dialogue(s) of" in line
    trained_on = fit_part(config, RouterOptions(fit_on=str(data["train"])))
    assert "was trained on" in seen_before(trained_on, valid, config)[-1]
    left = fit_part(make_config(training={"training_ratio": 0.5}), RouterOptions())
    assert seen_before(left, valid, config) == []


def test_a_folder_of_several_runs_is_one_line(fitted_copy, monkeypatch):
    """A traceback does not say that one of the runs is to be named."""
    shutil.copytree(fitted_copy, fitted_copy.parent / "other")
    monkeypatch.setattr("sys.argv", ["fit_router", str(fitted_copy.parent)])
    with pytest.raises(UserError, match="holds 2 runs: give one of them, such as .*fitted"):
        main()


def test_the_fit_part_is_what_the_run_was_not_trained_on(make_config, data, examples):
    """Prompts are better on dialogues that they learnt by heart, and the router would believe it."""
    held_out = fit_part(make_config(training={"training_ratio": 0.5}), RouterOptions())
    assert {example.dialogue for example in held_out.examples} == set(range(6, 12))
    assert fit_part(make_config(), RouterOptions()) is None
    given = fit_part(make_config(), RouterOptions(fit_on=str(data["train"])))
    assert given.path == str(data["train"])
    some = few(examples, len(examples) // 2)
    assert {example.dialogue for example in some} == set(range(0, 12, 2))
    assert few(examples, 10**6) == examples


def test_each_prompt_of_smop_is_scaled_for_its_own_text(make_config, examples):
    """Rows that texts share have one text's scale: the losses would be those of no model."""
    torch.manual_seed(3)
    config = make_config(model={"model_type": "routed_prompts", "router": "smop"})
    model = route_apart(untied(model_of(config)), examples[:6])
    together = measure(model, config, encode_texts(model, config, examples[:6]), CPU, "x")
    for number in range(6):
        alone = measure(model, config, encode_texts(model, config, [examples[number]]), CPU, "x")
        np.testing.assert_allclose(together.losses[:, number], alone.losses[:, 0], rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: (run / ROUTER).unlink(), "has no router.safetensors; fit it with"),
        (lambda run: (run / METADATA).unlink(), "router.json not found"),
        (lambda run: (run / METADATA).write_text("{"), "not a readable router"),
        (lambda run: (run / METADATA).write_text("[]"), "fitted on other trained values"),
        (lambda run: (run / ROUTER).write_bytes(b"x" * 99), "not a readable safetensors file.*; fit it with"),
        (lambda run: _with(run, bias=torch.zeros(2)), "not the weights of 3 prompts"),
        (lambda run: _with(run, bias=torch.full((3,), math.nan)), "no finite floating-point numbers"),
        (lambda run: _train_on(run), "fitted on other trained values"),
        (lambda run: _on_another_lm(run), "reads the hidden states of another base LM .* weights differ"),
    ],
)
def test_a_router_that_does_not_fit_is_refused(fitted_copy, change, said):
    """Another checkpoint's router, or a damaged one, chooses some prompt all the same."""
    change(fitted_copy)
    config = read_run_config(fitted_copy, ("decoding.router=fitted",))
    model = model_of(config)
    with pytest.raises(UserError, match=said):
        router_of(fitted_copy, model, config.decoding)


def _with(run, **values):
    save_file(load_file(run / ROUTER) | values, run / ROUTER)


def _on_another_lm(run):
    metadata = json.loads((run / METADATA).read_text(encoding="utf-8"))
    assert metadata["base_model_sha256"] is not None
    (run / METADATA).write_text(json.dumps(metadata | {"base_model_sha256": "0" * 64}), encoding="utf-8")


def _train_on(run):
    path = run / "trained.safetensors"
    state = load_file(path)
    save_file({name: value + 1 for name, value in state.items()}, path)


def test_what_is_saved_is_what_was_fitted(fitted_copy):
    """Weights that lose digits, or change places, choose otherwise than the report says."""
    config = read_run_config(fitted_copy, ("decoding.router=fitted",))
    model = model_of(config)
    found = router_of(fitted_copy, model, config.decoding)
    write_router(fitted_copy, found, {"router": "linear"})
    again = router_of(fitted_copy, model, config.decoding)
    for name in ("of_context", "of_turns", "bias"):
        np.testing.assert_array_equal(getattr(found, name), getattr(again, name))
    assert router_of(fitted_copy, model, read_run_config(fitted_copy).decoding) is None


@pytest.mark.parametrize("section", ["decoding", "chat"])
def test_types_without_a_choice_have_no_router(make_config, section):
    """A setting that changes nothing would stand in the result file as if it did."""
    with pytest.raises(UserError, match=f"{section}.router: fitted needs a model type with soft prompts"):
        make_config(model={"model_type": "prompt_tuning"}, **{section: {"router": "fitted"}})


def test_too_few_dialogues_and_one_prompt_are_one_line(make_config, data, run_copy):
    """A traceback of the arithmetic says nothing about the file."""
    with pytest.raises(UserError, match="4 dialogue.* to fit a router on; at least 5"):
        evaluate_routers(run_copy, RouterOptions(fit_on=str(data["valid"])))


def test_the_command_line():
    """`--save` without a name must not take the next word for one, nor be forgotten."""
    assert router_parser().parse_args(["RUN"]).save is None
    assert router_parser().parse_args(["RUN", "--save"]).save == "auto"
    assert router_parser().parse_args(["RUN", "--save=turn"]).save == "turn"
    with pytest.raises(UserError, match="invalid choice"):
        router_parser().parse_args(["RUN", "--save=best"])
    assert router_parser().parse_args(["RUN"]).fit_examples == RouterOptions().fit_examples
