"""Decoding: a reply depends on its own text and its own prompt, and on nothing else."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from dataset.text import CUT_MARKS, cut_response
from models.decoding.generation import StopAtMarks, choose_prompts, generate_replies, pick_prompts
from models.decoding.settings import DecodingSettings
from tests.conftest import FAMILIES, ROOT
from tests.helpers import inference_batch, model_of, target_losses, train_batch, untied
from utils.errors import UserError

CHOICE = torch.tensor([2, 0, 1, 2])


@pytest.fixture(params=FAMILIES)
def model(request, make_config):
    """A tiny model of each family, with random prompts.

    Its head is not tied to its embeddings: a random LM with a tied one repeats its last token for ever.
    """
    return untied(model_of(make_config(request.param, model={"peft_config": {"num_virtual_tokens": 24}})))


@pytest.fixture
def talker(make_config):
    """A model on an LM that has learnt to write turns with their marks."""
    config = make_config("opt", model={"model_name": str(ROOT / "tests" / "golden" / "opt-tiny")})
    torch.manual_seed(5)
    return model_of(config)


def four(examples):
    """Texts of very different lengths."""
    return [examples[number] for number in (0, 6, 9, 3)]


def texts_of(model, examples, choice, settings=None, **options):
    """The replies' texts."""
    batch = inference_batch(model, examples)
    return [reply.text for reply in generate_replies(model, batch, None, choice, settings, **options)]


@torch.no_grad()
def greedy_by_hand(model, example, prompt, steps):
    """One full forward per token, no cache, no padding, no mask: the text that greedy decoding must give."""
    ids = inference_batch(model, [example]).input_ids[0].tolist()
    new = []
    while len(new) < steps and model.tokenizer.eos_token_id not in new:
        row = torch.cat([model.soft_prompts.weight[prompt], model.lm.embed(torch.tensor(ids + new))])
        new.append(int(model.lm.model(inputs_embeds=row[None]).logits[0, -1].argmax()))
    return model.tokenizer.decode(new, skip_special_tokens=True)


def test_a_reply_does_not_depend_on_its_batch(model, examples):
    """Padding that is seen, or counted in the positions, gives other words in a batch than alone."""
    chosen = four(examples)
    together = texts_of(model, chosen, CHOICE)
    assert len(set(together)) == 4
    for number, example in enumerate(chosen):
        alone = texts_of(model, [example], CHOICE[number : number + 1])
        assert alone == together[number : number + 1]
        assert alone[0] == greedy_by_hand(model, example, int(CHOICE[number]), 32)


def test_a_reply_does_not_depend_on_the_neighbours_prompts(model, examples):
    """One prompt for the whole batch, or prompts in another row order, would pass with equal choices."""
    chosen = four(examples)
    before = texts_of(model, chosen, CHOICE)
    changed = CHOICE.clone()
    changed[0], changed[3] = 1, 0
    after = texts_of(model, chosen, changed)
    assert after[1:3] == before[1:3]
    assert after[0] != before[0]
    assert after[3] != before[3]


def test_the_prompts_reach_the_text(model, examples):
    """Were the prompt masked out, every choice would give one text, and retrieval would be for nothing."""
    texts = {texts_of(model, examples[:1], torch.tensor([prompt]))[0] for prompt in range(3)}
    assert len(texts) == 3


def test_replies_carry_their_prompt_and_scores(model, examples):
    """The result file reports both; a transposed table would report another example's scores."""
    batch = inference_batch(model, four(examples))
    scores = model.score_prompts(batch.query)
    assert scores.shape == (3, 4)
    replies = generate_replies(model, batch, scores, CHOICE, DecodingSettings(max_new_tokens=1))
    assert [reply.prompt for reply in replies] == CHOICE.tolist()
    for number, reply in enumerate(replies):
        assert reply.scores == pytest.approx(scores[:, number].tolist())


def test_at_most_32_new_tokens(talker, examples):
    """The metrics compare replies of the paper's length."""
    replies = texts_of(talker, four(examples), CHOICE)
    lengths = [len(talker.tokenizer(text, add_special_tokens=False).input_ids) for text in replies]
    assert max(lengths) == 32


@pytest.mark.filterwarnings("ignore:Passing `no_repeat_ngram_size`")
def test_beams_find_what_greedy_decoding_misses_and_keep_each_rows_prompt(talker, examples):
    """Beams repeat each row; a prompt that is not repeated with its row answers for its neighbour."""
    chosen = four(examples)
    settings = DecodingSettings(num_beams=3, no_repeat_ngram_size=4, max_new_tokens=12)
    together = texts_of(talker, chosen, CHOICE, settings)
    for number, example in enumerate(chosen):
        assert texts_of(talker, [example], CHOICE[number : number + 1], settings) == [together[number]]
    assert together != texts_of(talker, chosen, CHOICE, DecodingSettings(max_new_tokens=12))


def test_stopping_at_marks_saves_tokens_and_no_word_of_the_reply(talker, examples):
    """A stop one token early loses the reply's last word; none at all makes every decoding twice as long."""
    chosen = examples[:12]
    choice = pick_prompts(talker.score_prompts(inference_batch(talker, chosen).query))
    whole = texts_of(talker, chosen, choice)
    stopped = texts_of(talker, chosen, choice, stopping=[StopAtMarks(talker)])
    assert [cut_response(text) for text in stopped] == [cut_response(text) for text in whole]
    assert all(text.startswith(short) for text, short in zip(whole, stopped, strict=True))
    assert any(len(short) < len(text) for text, short in zip(whole, stopped, strict=True))


def test_a_row_stops_at_every_token_that_may_end_the_reply_and_at_no_other(talker):
    """A stop at another token cuts replies short; a mark that is missed only costs time."""
    assert all(":" in mark or "\n" in mark for mark in CUT_MARKS)
    criterion = StopAtMarks(talker)
    for token, stop in enumerate(criterion.stops.tolist()):
        text = talker.tokenizer.decode([token])
        assert stop == (":" in text or "\n" in text)
        assert stop or cut_response(text) == text
    mark, word = criterion.stops.nonzero()[0].item(), (~criterion.stops).nonzero()[0].item()
    assert criterion(torch.tensor([[word, mark], [mark, word]]), None).tolist() == [True, False]


def test_the_prompt_of_the_highest_score_is_picked():
    """An argmax over the examples gives indices that look like prompts."""
    scores = torch.tensor([[0.1, 0.9, 0.2], [0.3, 0.1, 0.1]])
    assert pick_prompts(scores).tolist() == [1, 0, 0]
    assert pick_prompts(scores, torch.tensor([[0.0, -1.0, 0.0], [-1.0, 0.0, 1.0]])).tolist() == [0, 1, 1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_an_error(value):
    """An argmax over NaN is prompt 0 for every example, and the result would look like a retriever's choice."""
    scores = torch.tensor([[0.1, 0.9], [0.3, value]])
    with pytest.raises(UserError, match="not finite"):
        pick_prompts(scores)
    with pytest.raises(UserError, match="selection_noise"):
        pick_prompts(torch.zeros(2, 2), scores)


def noisy_choices(model, examples, noise, seed, batch_size=12):
    """The prompts that the first 12 examples get, batch by batch."""
    chosen = []
    for start in range(0, 12, batch_size):
        batch = inference_batch(model, examples[start : start + batch_size])
        batch = replace(batch, indices=torch.arange(start, start + batch_size))
        chosen += choose_prompts(model, batch, noise, seed)[1].tolist()
    return chosen


def test_selection_noise_comes_from_its_seed(talker, examples):
    """Noise that cannot be repeated makes a result that cannot be repeated."""
    assert noisy_choices(talker, examples, 1.0, 3) == noisy_choices(talker, examples, 1.0, 3)
    assert noisy_choices(talker, examples, 1.0, 3) != noisy_choices(talker, examples, 1.0, 4)
    assert noisy_choices(talker, examples, 1e-9, 3) == noisy_choices(talker, examples, 0.0, 3)
    assert len(set(noisy_choices(talker, examples, 100.0, 3))) == 3  # as many prompts as there are


def test_draws_do_not_depend_on_the_batch(talker, examples):
    """Another batch size or number of ranks would give other replies with the same seed."""
    assert noisy_choices(talker, examples, 1.0, 3, 4) == noisy_choices(talker, examples, 1.0, 3)
    talker.retriever = None  # as with skip_retrieval
    drawn = noisy_choices(talker, examples, 0.0, 3)
    assert noisy_choices(talker, examples, 0.0, 3, 4) == drawn
    assert noisy_choices(talker, examples, 0.0, 4) != drawn
    assert set(drawn) == {0, 1, 2}


def test_noise_leaves_the_reported_scores_alone(talker, examples):
    """The result file holds the retriever's scores, not the noise of one draw."""
    batch = inference_batch(talker, four(examples))
    assert torch.equal(choose_prompts(talker, batch, 1.0, 3)[0], talker.score_prompts(batch.query))


def test_a_model_with_one_prompt_has_nothing_to_choose(make_config, examples):
    """A drawn index would be reported as if a retriever had chosen it."""
    model = model_of(make_config("opt", model={"model_type": "prompt_tuning"}))
    assert choose_prompts(model, inference_batch(model, examples[:2])) == (None, None)


@pytest.mark.parametrize(
    "content",
    [
        {"repetition_penalty": 1.8},
        {"no_repeat_ngram_size": 2},
        {"return_dict_in_generate": True},
        {"cache_implementation": "static"},
        {"num_beams": 3, "do_sample": True, "temperature": 3.0, "max_new_tokens": 3, "min_new_tokens": 30},
        {"bad_words_ids": [[5], [6], [7]], "suppress_tokens": list(range(10, 200))},
    ],
)
def test_the_lms_own_generation_settings_do_not_count(make_config, lm_folder, examples, tmp_path, content):
    """Decoding that is called greedy would be another one for each LM, or end in a traceback."""
    folder = tmp_path / "lm"
    shutil.copytree(lm_folder("opt"), folder)
    replies = []
    for settings in ({}, content):
        (folder / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
        torch.manual_seed(5)
        model = model_of(make_config("opt", model={"model_name": str(folder)}))
        replies.append(texts_of(model, four(examples), CHOICE))
    assert replies[0] == replies[1]


def test_an_lm_that_returns_tuples_by_default(make_config, lm_folder, examples, tmp_path):
    """`return_dict: false` in a config.json ended in a traceback, in training and in decoding."""
    folder = tmp_path / "lm"
    shutil.copytree(lm_folder("opt"), folder)
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(content | {"return_dict": False}), encoding="utf-8")
    found = []
    for source in (lm_folder("opt"), folder):
        torch.manual_seed(5)
        model = model_of(make_config("opt", model={"model_name": str(source)}))
        found.append(
            (model(train_batch(model, examples[:3])).total.item(), texts_of(model, four(examples), CHOICE))
        )
    assert found[0] == found[1]


def test_a_library_that_counts_the_cache_otherwise_is_told(talker, examples, monkeypatch):
    """Some releases of transformers skip another number of cached positions: other words, and no error."""
    generate = type(talker.lm.model).generate

    def skips_one_less(self, inputs_embeds, attention_mask, **rest):
        return generate(self, inputs_embeds=inputs_embeds, attention_mask=attention_mask, **rest)[:, :-1]

    monkeypatch.setattr(type(talker.lm.model), "generate", skips_one_less)
    with pytest.raises(RuntimeError, match="counts cached"):
        texts_of(talker, four(examples), CHOICE)


def test_teacher_forced_losses_are_the_forwards(model, examples):
    """The perplexity of a run must be that of the loss it was trained with, under the chosen prompt."""
    chosen = four(examples)
    batch = train_batch(model, chosen, decoding=True)
    under = [target_losses(model, batch, torch.full((4,), prompt)) for prompt in range(3)]
    counts = under[0][1]
    assert counts.tolist() == [(batch.target_examples == number).sum().item() for number in range(4)]
    llm = model(train_batch(model, chosen)).losses["llm"]
    total = torch.stack([sums for sums, _ in under]).sum()
    torch.testing.assert_close(total / (3 * counts.sum()), llm.detach(), atol=1e-5, rtol=1e-5)
    sums, _ = target_losses(model, batch, CHOICE)
    for number, prompt in enumerate(CHOICE.tolist()):
        torch.testing.assert_close(sums[number], under[prompt][0][number], atol=1e-4, rtol=1e-5)
        alone = target_losses(
            model, train_batch(model, [chosen[number]], decoding=True), CHOICE[number : number + 1]
        )
        torch.testing.assert_close(alone[0][0], sums[number], atol=1e-4, rtol=1e-5)


def test_an_example_without_targets_has_no_loss(model, examples):
    """Its row gets some prompt all the same; an index that nobody wrote would be whatever lay in memory."""
    whole = train_batch(model, four(examples), decoding=True)
    kept = whole.target_examples != 1
    names = ("target_rows", "target_positions", "target_ids", "target_examples")
    batch = replace(whole, **{name: getattr(whole, name)[kept] for name in names})
    torch.use_deterministic_algorithms(True)  # fills what nobody wrote with the largest number
    try:
        sums, counts = target_losses(model, batch, CHOICE)
    finally:
        torch.use_deterministic_algorithms(False)
    assert (sums[1], counts[1]) == (0, 0)
    others = [0, 2, 3]
    torch.testing.assert_close(sums[others], target_losses(model, whole, CHOICE)[0][others])


def test_positions_left_for_the_text(model):
    """A text that fills every position leaves the LM none to answer in, and it fails far from the cause."""
    assert model.lm.max_positions == 384
    assert model.text_limit(32) == 384 - 24 - 32
