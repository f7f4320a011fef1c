"""Decoding: a reply depends on its own text and its own prompt, and on nothing else."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from dataset.text import CUT_MARKS, cut_response
from models.generation import StopAtMarks, generate_replies, pick_prompts
from tests.conftest import FAMILIES, ROOT
from tests.helpers import inference_batch, model_of, train_batch

CHOICE = torch.tensor([2, 0, 1, 2])


@pytest.fixture(params=FAMILIES)
def model(request, make_config):
    """A tiny model of each family, with random prompts.

    Its head is not tied to its embeddings: a random LM with a tied one repeats its last token for ever.
    """
    made = model_of(make_config(request.param, model={"peft_config": {"num_virtual_tokens": 24}}))
    torch.manual_seed(5)
    with torch.no_grad():
        made.soft_prompts.weight.normal_()
        made.lm.model.lm_head.weight = nn.Parameter(
            torch.randn_like(made.lm.head_weight), requires_grad=False
        )
    return made


@pytest.fixture
def talker(make_config):
    """A model on an LM that has learnt to write turns with their marks."""
    config = make_config("opt", model={"model_name": str(ROOT / "tests" / "golden" / "opt-tiny")})
    torch.manual_seed(5)
    return model_of(config)


def four(examples):
    """Texts of very different lengths."""
    return [examples[number] for number in (0, 6, 9, 3)]


def texts_of(model, examples, choice, **options):
    """The replies' texts."""
    batch = inference_batch(model, examples)
    return [reply.text for reply in generate_replies(model, batch, None, choice, **options)]


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
    scores = model.choose(batch.query)
    assert scores.shape == (3, 4)
    replies = generate_replies(model, batch, scores, CHOICE, max_new_tokens=1)
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
    options = {"num_beams": 3, "no_repeat_ngram_size": 4, "max_new_tokens": 12}
    together = texts_of(talker, chosen, CHOICE, **options)
    for number, example in enumerate(chosen):
        assert texts_of(talker, [example], CHOICE[number : number + 1], **options) == [together[number]]
    assert together != texts_of(talker, chosen, CHOICE, max_new_tokens=12)


def test_stopping_at_marks_saves_tokens_and_no_word_of_the_reply(talker, examples):
    """A stop one token early loses the reply's last word; none at all makes every decoding twice as long."""
    chosen = examples[:12]
    choice = pick_prompts(talker.choose(inference_batch(talker, chosen).query))
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
    assert pick_prompts(None) is None
    assert pick_prompts(None, noise=1.0) is None


def test_selection_noise_comes_from_its_seed():
    """Noise that cannot be repeated makes a result that cannot be repeated."""

    def pick(noise, seed):
        scores = torch.linspace(0, 1, 80).reshape(4, 20)
        return pick_prompts(scores, noise, torch.Generator().manual_seed(seed)).tolist()

    assert pick(1.0, 3) == pick(1.0, 3)
    assert pick(1.0, 3) != pick(1.0, 4)
    assert pick(1.0, 3) != pick(0.0, 3)
    assert pick(1e-6, 3) == pick(0.0, 3)


def test_noise_leaves_the_reported_scores_alone():
    """The result file holds the retriever's scores, not the noise of one draw."""
    scores = torch.rand(4, 5)
    before = scores.clone()
    pick_prompts(scores, 1.0, torch.Generator().manual_seed(0))
    assert torch.equal(scores, before)


def test_teacher_forced_losses_are_the_forwards(model, examples):
    """The perplexity of a run must be that of the loss it was trained with, under the chosen prompt."""
    chosen = four(examples)
    batch = train_batch(model, chosen, decoding=True)
    under = [model.target_losses(batch, torch.full((4,), prompt)) for prompt in range(3)]
    counts = under[0][1]
    assert counts.tolist() == [(batch.target_examples == number).sum().item() for number in range(4)]
    llm = model(train_batch(model, chosen)).losses["llm"]
    total = torch.stack([sums for sums, _ in under]).sum()
    torch.testing.assert_close(total / (3 * counts.sum()), llm.detach(), atol=1e-5, rtol=1e-5)
    sums, _ = model.target_losses(batch, CHOICE)
    for number, prompt in enumerate(CHOICE.tolist()):
        torch.testing.assert_close(sums[number], under[prompt][0][number], atol=1e-4, rtol=1e-5)
        alone = model.target_losses(
            train_batch(model, [chosen[number]], decoding=True), CHOICE[number : number + 1]
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
        sums, counts = model.target_losses(batch, CHOICE)
    finally:
        torch.use_deterministic_algorithms(False)
    assert (sums[1], counts[1]) == (0, 0)
    others = [0, 2, 3]
    torch.testing.assert_close(sums[others], model.target_losses(whole, CHOICE)[0][others])


def test_positions_left_for_the_text(model):
    """A text that fills every position leaves the LM none to answer in, and it fails far from the cause."""
    assert model.lm.max_positions == 384
    assert model.text_limit(32) == 384 - 24 - 32
