"""Decoding a run folder: what the result files hold, and what happens to several runs and to broken ones."""

import hashlib
import json
import math
import shutil
from dataclasses import replace

import pytest
import torch

from dataset.batch import Collator
from dataset.dialogue import examples_of
from dataset.readers import read_dialogues
from models.decoding import decode
from models.decoding.decode import DecodeOptions, decode_runs
from models.decoding.runs import load_run, read_run_config
from models.reading import make_collator, make_encoder
from tests.helpers import assert_same_results, json_rows, model_of, target_losses, train, train_batch
from utils.errors import UserError
from utils.metrics import score

KEYS = [
    "persona",
    "context",
    "prediction",
    "raw_prediction",
    "target",
    "prompt",
    "scores",
    "turn",
    "dialogue",
    "nll",
    "nll_tokens",
]
TEXT, ROWS = "evaluation_result.txt", "evaluation_result.jsonl"


def _rows(run, name=ROWS):
    return json_rows(run / name)


@pytest.fixture(scope="module")
def decoded(trained_run, tmp_path_factory, distributed):
    """A decoded copy of the trained run; not to be written to."""
    run = shutil.copytree(trained_run, tmp_path_factory.mktemp("decoded") / "run")
    decode_runs([run], distributed)
    return run


def test_a_row_per_example_in_the_order_of_the_file(decoded, data):
    """Decoding sorts by length; a file left in that order pairs replies with the wrong examples."""
    examples = examples_of(read_dialogues(str(data["valid"]), "convai2"))
    rows = _rows(decoded)
    assert len(rows) == len(examples) == 28
    for row, example in zip(rows, examples, strict=True):
        assert list(row) == KEYS
        assert (row["persona"], row["target"]) == (list(example.persona), example.response)
        assert (row["dialogue"], row["turn"]) == (example.dialogue, example.turn)
        assert [turn[3:] for turn in row["context"]] == list(example.context)
        assert row["context"][-1].startswith("Q: ")
        assert row["prompt"] == max(range(3), key=row["scores"].__getitem__)
        assert row["raw_prediction"].startswith(row["prediction"])
        assert ":" not in row["prediction"]
        assert "\n" not in row["prediction"]


def test_the_text_twin_says_the_same(decoded, data):
    """A text file that differs from the rows would have people judge replies that were never scored."""
    rows, text = _rows(decoded), (decoded / TEXT).read_text(encoding="utf-8")
    head, *blocks = text.split("\n\n")
    bleu, counts, decoding = head.splitlines()
    assert json.loads(decoding.removeprefix("decoding: ")) == {
        "do_sample": False,
        "max_new_tokens": 32,
        "num_beams": 1,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "repetition_penalty": 1.0,
        "no_repeat_ngram_size": 0,
        "fidelity": "paper",
        "format": "convai2",
        "max_context_turns": -1,
        "max_token_length": 512,
        "silence": "keep",
        "selection_noise": 0.0,
        "seed": 3407,
        "load_bit": 32,
        "batch_size": 64,
        "valid": str(data["valid"]),
        "router": "trained",
        "valid_sha256": hashlib.sha256(data["valid"].read_bytes()).hexdigest(),
    }
    assert float(bleu.removeprefix("bleu: ")) == pytest.approx(score(rows, ["bleu"])["bleu"].value)
    found = {prompt: sum(row["prompt"] == prompt for row in rows) for prompt in range(3)}
    assert counts == f"selected prompts: { {key: value for key, value in found.items() if value} }"
    first = rows[0]
    assert blocks[0] == (
        f"context: {' '.join(first['context'])}\npersona: {' '.join(first['persona'])}\n"
        f"pred: {first['prediction']}\ngt: {first['target']}\nselected prompt: {first['prompt']}"
    )
    assert text.count("\nselected prompt: ") == len(rows)


def test_nll_is_the_loss_of_the_target_with_the_chosen_prompt(decoded, data):
    """A perplexity of another prompt, or with the padding in it, is still a plausible number."""
    model = load_run(decoded, read_run_config(decoded, []))
    rows = _rows(decoded)
    for example, row in zip(
        examples_of(read_dialogues(str(data["valid"]), "convai2"))[::5], rows[::5], strict=True
    ):
        batch = train_batch(model, [example], decoding=True)
        prompt = model.soft_prompts.weight[row["prompt"]][None]
        with torch.no_grad():
            logits = model.lm.model(
                inputs_embeds=torch.cat([prompt, model.lm.embed(batch.input_ids)], dim=1)
            ).logits[0, 4 + batch.target_positions]
        loss = torch.nn.functional.cross_entropy(logits, batch.target_ids, reduction="sum")
        assert row["nll"] == pytest.approx(loss.item(), rel=1e-4)
        assert row["nll_tokens"] == len(batch.target_ids)
    ppl = score(rows, ["ppl"])["ppl"].value
    assert math.isfinite(ppl)
    assert ppl == pytest.approx(
        math.exp(sum(row["nll"] for row in rows) / sum(row["nll_tokens"] for row in rows)), rel=1e-6
    )


@pytest.mark.parametrize("size", [1, 5, 28])
def test_the_batch_size_changes_nothing(decoded, run_copy, distributed, size):
    """In the release the chosen prompt, and so the reply, depended on the neighbours in the batch."""
    decode_runs([run_copy], distributed, DecodeOptions(batch_size=size))
    assert_same_results(_rows(run_copy), _rows(decoded))


def test_a_run_is_finished_when_both_of_its_files_are_there(run_copy, distributed, capsys):
    """A run that is decoded again by mistake costs hours; one that is skipped by mistake keeps old results.

    evaluate asks for test.py where the rows are missing: skipping such a run would send the user in a circle.
    """
    for name in (TEXT, ROWS):
        (run_copy / name).write_text("done", encoding="utf-8")
    decode_runs([run_copy], distributed)
    assert f"{run_copy / TEXT} exists, skipped (--skip_exists=no decodes it again)" in capsys.readouterr().out
    assert (run_copy / ROWS).read_text(encoding="utf-8") == "done"
    decode_runs([run_copy], distributed, DecodeOptions(skip_exists=False))
    assert (run_copy / TEXT).read_text(encoding="utf-8").startswith("bleu: ")
    for missing in (TEXT, ROWS):
        (run_copy / missing).unlink()
        decode_runs([run_copy], distributed)
        assert len(_rows(run_copy)) == 28
        assert (run_copy / TEXT).read_text(encoding="utf-8").startswith("bleu: ")


def test_selection_noise_has_a_file_of_its_own_and_a_seed(decoded, run_copy, distributed):
    """Noise that overwrites the plain result, or cannot be repeated, makes the comparison worthless."""
    name = "evaluation_result_selection_noise=5.0"
    options = DecodeOptions(selection_noise=5.0, skip_exists=False)
    decode_runs([run_copy], distributed, options)
    assert {path.name for path in run_copy.glob("evaluation_result*")} == {f"{name}.txt", f"{name}.jsonl"}
    first = (run_copy / f"{name}.jsonl").read_bytes()
    decode_runs([run_copy], distributed, options)
    assert (run_copy / f"{name}.jsonl").read_bytes() == first
    noisy, plain = _rows(run_copy, f"{name}.jsonl"), _rows(decoded)
    assert [row["prompt"] for row in noisy] != [row["prompt"] for row in plain]
    assert {row["prompt"] for row in noisy} == {0, 1, 2}
    for ours, theirs in zip(noisy, plain, strict=True):
        assert ours["scores"] == pytest.approx(theirs["scores"], rel=1e-5)


def test_a_broken_run_does_not_stop_the_others(run_copy, tmp_path, distributed, capsys):
    """Overnight decoding of ten runs that ends at the second; or ends with success though one failed."""
    runs = [tmp_path / name for name in ("a", "b", "c")]
    for run in runs[:2]:
        shutil.copytree(run_copy, run)
    run_copy.rename(runs[2])
    (runs[1] / "config.yml").write_text("model:\n  k: 3\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        decode_runs(runs, distributed)
    message = f"{runs[1]}: {runs[1] / 'config.yml'}: unknown key 'model.k'; did you mean 'K'?"
    assert str(caught.value) == f"1 of 3 runs failed:\n  {message}"
    assert f"failed: {message}" in capsys.readouterr().out
    assert [(run / TEXT).is_file() for run in runs] == [True, False, True]


def test_earlier_results_stay_when_decoding_fails(run_copy, distributed, monkeypatch):
    """A disk that is full, or a crash, in the middle: the old pair of files is whole, not half new."""
    for name in (TEXT, ROWS):
        (run_copy / name).write_text(f"old {name}", encoding="utf-8")
    again = DecodeOptions(skip_exists=False)
    with pytest.raises(UserError, match="none.txt"):
        decode_runs([run_copy], distributed, DecodeOptions(skip_exists=False, valid_path="none.txt"))

    def stop(*arguments):
        raise UserError("cannot be decoded")

    with monkeypatch.context() as patch:
        patch.setattr(decode, "generate_replies", stop)
        with pytest.raises(UserError, match="cannot be decoded"):
            decode_runs([run_copy], distributed, again)
    assert [(run_copy / name).read_text(encoding="utf-8") for name in (TEXT, ROWS)] == [
        f"old {TEXT}",
        f"old {ROWS}",
    ]


def test_another_file_and_settings_of_the_command_line(run_copy, data, tmp_path, distributed):
    """A --valid_path or --set that is not used scores other data; one that is saved changes every later decoding."""
    short = tmp_path / "short.txt"
    short.write_text("1 your persona: i ski.\n2 hello there .\thi , how are you ?\n", encoding="utf-8")
    before = (run_copy / "config.yml").read_bytes()
    options = DecodeOptions(valid_path=str(short), assignments=("model.load_bit=bf16",))
    decode_runs([run_copy], distributed, options)
    assert [row["target"] for row in _rows(run_copy)] == ["hi , how are you ?"]
    assert (run_copy / "config.yml").read_bytes() == before


def test_the_authors_arithmetic_decodes_in_the_order_of_the_file(run_copy, distributed, monkeypatch):
    """Their retriever reads the padding, so their choices come back only with their batches."""
    sizes = []
    inference = Collator.inference

    def record(self, examples):
        sizes.append([example.index for example in examples])
        return inference(self, examples)

    monkeypatch.setattr(Collator, "inference", record)
    options = DecodeOptions(batch_size=10, assignments=("model.fidelity=released_code",))
    decode_runs([run_copy], distributed, options)
    assert sizes == [list(range(10)), list(range(10, 20)), list(range(20, 28))]


@pytest.mark.parametrize(
    "model",
    [
        {"model_type": "textual"},
        {
            "model_type": "language_model",
            "init": {
                "architecture": "gpt2",
                "hidden_size": 16,
                "num_layers": 1,
                "num_heads": 2,
                "vocab_size": 300,
                "max_positions": 512,
            },
        },
    ],
    ids=["textual", "base LM"],
)
def test_a_run_without_prompts_decodes(make_config, distributed, model):
    """The text alone, and the base LM itself, are what SPT is compared with."""
    run = train(make_config(model=model, training={"training_ratio": 0.1}), distributed, "plain")
    decode_runs([run], distributed)
    rows = _rows(run)
    assert len(rows) == 28
    assert {(row["prompt"], row["scores"]) for row in rows} == {(None, None)}
    assert math.isfinite(score(rows, ["ppl"])["ppl"].value)
    assert "selected prompts: {}" in (run / TEXT).read_text(encoding="utf-8")


def test_perplexity_counts_the_response_and_eos_whatever_was_trained(decoded, run_copy, distributed):
    """A run that trained persona and context too would be scored on them: easier text, a lower perplexity."""
    whole_text = ("training.freeze_persona=false", "training.freeze_context=false")
    decode_runs([run_copy], distributed, DecodeOptions(assignments=whole_text))
    assert_same_results(_rows(run_copy), _rows(decoded))


def test_perplexity_counts_eos_where_the_release_hides_it(make_config, examples):
    """With pad == eos the release never trains eos; a perplexity without it compares with no other."""
    model = model_of(make_config("opt", model={"fidelity": "released_code"}))
    model.tokenizer.pad_token = model.tokenizer.eos_token
    eos = model.tokenizer.eos_token_id
    trained, scored = (train_batch(model, examples[:3], decoding) for decoding in (False, True))
    assert (trained.target_ids == eos).sum() == 0
    assert (scored.target_ids == eos).sum() == 3


def test_a_target_has_the_room_of_the_new_tokens(make_config, examples, distributed):
    """Turns that are dropped before a target without need make its perplexity that of another context."""
    model = model_of(make_config("opt"))
    encoder = make_encoder(model.tokenizer, model.config, model.text_limit(0), response_only=True)
    long = next(
        (example, encoded)
        for turns in range(3, 60)
        for example in [replace(examples[5], context=(*["well , yes ."] * (2 * turns), "and you ?"))]
        for encoded in encoder.encode([example], with_response=True)
        if len(encoded.ids) > model.text_limit(32) + 12
    )
    assert len(long[1].ids) <= model.text_limit(0)
    row = decode.decode_examples(model, model.config, [long[0]], distributed, DecodeOptions())[0]
    batch = make_collator(encoder, model.config, decoding=True).train([long[1]])
    sums, counts = target_losses(model, batch, torch.tensor([row["prompt"]]))
    assert row["nll"] == pytest.approx(sums.item(), rel=1e-5)
    assert row["nll_tokens"] == counts.item()


def test_without_a_retriever_decoding_can_be_repeated(make_config, examples, distributed):
    """Prompts that are drawn anew at each decoding, batch size or rank count make a result nobody can repeat."""
    model = model_of(make_config("opt", training={"skip_retrieval": True}))
    rows = [
        decode.decode_examples(model, model.config, examples, distributed, DecodeOptions(batch_size=size))
        for size in (16, 16, 3)
    ]
    assert rows[0] == rows[1]
    assert {row["prompt"] for row in rows[0].values()} == {0, 1, 2}
    assert [row["prompt"] for row in rows[0].values()] != [0] * len(examples)
    for number, row in rows[2].items():
        assert row["prompt"] == rows[0][number]["prompt"]
        assert row["scores"] is None


def test_losses_that_are_no_numbers_are_an_error_that_names_the_cause(decoded, run_copy, distributed):
    """After hours of decoding, the JSON writer would say that a number is out of range."""
    model = load_run(run_copy, read_run_config(run_copy, []))
    with torch.no_grad():
        model.lm.model.get_output_embeddings().weight[5] = torch.nan
    examples = examples_of(read_dialogues(model.config.dataset.valid, "convai2"))
    with pytest.raises(UserError, match="loss of example 0 of the file is nan: .*float32 is too narrow"):
        decode.decode_examples(model, model.config, examples[:2], distributed, DecodeOptions())


def test_noise_without_a_retriever_is_an_error(run_copy, distributed):
    """It would change nothing but the name of the result, which looks like another experiment."""
    options = DecodeOptions(selection_noise=1.0, assignments=("training.skip_retrieval=true",))
    with pytest.raises(UserError):
        decode_runs([run_copy], distributed, options)
    assert not list(run_copy.glob("evaluation_result*"))


@pytest.mark.parametrize("prompts", [1, 2])
def test_a_run_without_a_retriever_decodes(make_config, distributed, prompts):
    """With a single prompt there is nothing to draw: such a run was trained, and then ended in a traceback."""
    config = make_config("opt", model={"K": prompts}, training={"skip_retrieval": True})
    run = train(config, distributed, "alone")
    decode_runs([run], distributed)
    rows = json_rows(run / ROWS)
    assert {row["prompt"] for row in rows} <= ({None} if prompts == 1 else {0, 1})
    assert all(row["nll"] > 0 for row in rows)
