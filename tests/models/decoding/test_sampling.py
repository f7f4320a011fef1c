"""Sampling: replies are drawn as the LM says, and each example has draws of its own."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from transformers import NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

from models.decoding.chat import chat_with_run
from models.decoding.decode import DecodeOptions, decode_runs
from models.decoding.generation import DrawnTokens, generate_replies
from models.decoding.settings import DecodingSettings
from tests.conftest import config_for
from tests.helpers import inference_batch, json_rows, model_of, untied

DRAWS = 4000
# the quantile of chi-square that 1 of 10,000 right samplers exceeds, by degrees of freedom
LIMITS = {7: 29.88}
LOGITS = 100 + 0.5 * (torch.arange(8) % 4)  # exact in every precision; bf16 has steps of 0.5 there


@pytest.fixture(scope="module")
def model(data, lm_folder, tmp_path_factory):
    """A tiny model whose head is not tied, so that its replies vary."""
    return untied(model_of(config_for(data, lm_folder("opt"), tmp_path_factory.mktemp("runs"))))


def copies(model, example, numbers):
    """One example at several places of a file."""
    batch = inference_batch(model, [example] * len(numbers))
    return replace(batch, indices=torch.tensor(numbers))


def replies(model, batch, seed=0, **settings):
    """The texts of a batch, all after prompt 0."""
    choice = torch.zeros(len(batch.indices), dtype=torch.long)
    found = generate_replies(model, batch, None, choice, DecodingSettings(**settings), seed=seed)
    return [reply.text for reply in found]


@torch.no_grad()
def next_logits(model, example, new=()):
    """The LM's logits [Vocab] of the token after the text and the new tokens, in one full pass."""
    ids = inference_batch(model, [example]).input_ids[0].tolist()
    row = torch.cat([model.soft_prompts.weight[0], model.lm.embed(torch.tensor(ids + list(new)))])
    return model.lm.model(inputs_embeds=row[None]).logits[0, -1]


def chi_square(counts, shares, draws):
    """How far counts lie from shares, those that are expected less than five times together in one."""
    large = [index for index, share in enumerate(shares) if share * draws >= 5]
    pairs = [(counts.get(index, 0), shares[index] * draws) for index in large]
    rest = draws - sum(expected for _, expected in pairs)
    if rest > 1e-6 * draws:
        pairs.append((draws - sum(found for found, _ in pairs), rest))
    return sum((found - expected) ** 2 / expected for found, expected in pairs), len(pairs) - 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_tokens_are_drawn_as_the_logits_say(dtype):
    """Noise that is rounded to 8 bits ties the largest values, and the first token of a tie is taken too often."""
    logits = LOGITS.to(dtype)
    shares = torch.softmax(logits.double(), dim=0).tolist()
    for many in ("examples", "seeds"):
        if many == "examples":
            drawn = DrawnTokens(torch.arange(DRAWS), seed=1)(None, logits.expand(DRAWS, -1)).argmax(dim=1)
            counts = Counter(drawn.tolist())
        else:
            counts = Counter(
                DrawnTokens(torch.tensor([3]), seed)(None, logits[None]).argmax().item()
                for seed in range(DRAWS)
            )
        statistic, degrees = chi_square(counts, shares, DRAWS)
        assert degrees == 7
        assert statistic < LIMITS[7], many


def test_noise_in_few_bits_would_be_seen():
    """A limit that lets any sampler pass would prove nothing."""
    noisy = DrawnTokens(torch.arange(DRAWS), seed=1)(None, LOGITS.expand(DRAWS, -1))
    counts = Counter(noisy.bfloat16().argmax(dim=1).tolist())
    assert chi_square(counts, torch.softmax(LOGITS, dim=0).tolist(), DRAWS)[0] > LIMITS[7]


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 4.0},
        {"temperature": 2.0, "top_k": 5},
        {"temperature": 3.0, "top_p": 0.5},
        {"temperature": 3.0, "top_k": 10, "top_p": 0.8},
    ],
)
def test_the_first_token_follows_the_lm(model, examples, settings):
    """Another order of temperature and limits, or noise on what was cut off, draws from another distribution."""
    logits = next_logits(model, examples[0]).double() / settings["temperature"]
    order = logits.argsort(descending=True)
    if settings.get("top_k"):
        logits[order[settings["top_k"] :]] = -torch.inf
    if settings.get("top_p"):
        shares = torch.softmax(logits, dim=0)
        before = shares[order].cumsum(dim=0) - shares[order]
        logits[order[before >= settings["top_p"]]] = -torch.inf
    shares = torch.softmax(logits, dim=0).tolist()
    texts = replies(
        model, copies(model, examples[0], range(DRAWS)), do_sample=True, max_new_tokens=1, **settings
    )
    of_text = {}  # several tokens may have one text, such as none
    for token, share in enumerate(shares):
        text = model.tokenizer.decode([token], skip_special_tokens=True)
        of_text[text] = of_text.get(text, 0.0) + share
    found = Counter(texts)
    assert all(of_text[text] > 0 for text in found)
    names = list(of_text)
    counts = {number: found[name] for number, name in enumerate(names)}
    statistic, degrees = chi_square(counts, list(of_text.values()), DRAWS)
    assert degrees >= 2
    # the mean of chi-square is its degrees of freedom, and its deviation the root of twice that
    assert statistic < degrees + 5 * (2 * degrees) ** 0.5 + 10


def test_a_reply_does_not_depend_on_batch_or_order(model, examples):
    """With draws from one stream another batch size or number of ranks gives other replies with the same seed."""
    chosen = [examples[number] for number in (0, 6, 9, 3)]
    whole = replace(inference_batch(model, chosen), indices=torch.tensor([0, 6, 9, 3]))
    settings = {"do_sample": True, "temperature": 1.5, "max_new_tokens": 12}
    together = replies(model, whole, **settings)
    assert len(set(together)) == 4
    for order in ([2, 0, 3, 1], [1], [3, 2]):
        part = inference_batch(model, [chosen[place] for place in order])
        part = replace(part, indices=whole.indices[order])
        assert replies(model, part, **settings) == [together[place] for place in order]


def test_each_place_and_each_seed_has_draws_of_its_own(model, examples):
    """One stream for all: the same text at several places would always get the same reply."""
    batch = copies(model, examples[0], [0, 1, 2, 3])
    settings = {"do_sample": True, "temperature": 1.5, "max_new_tokens": 12}
    first = replies(model, batch, seed=1, **settings)
    assert len(set(first)) == 4
    assert replies(model, batch, seed=1, **settings) == first
    other = replies(model, batch, seed=2, **settings)
    assert all(ours != theirs for ours, theirs in zip(first, other, strict=True))


@pytest.mark.parametrize(
    "settings", [{"temperature": 1e-6}, {"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-4, "top_k": 50}]
)
def test_the_limits_of_drawing_are_greedy_decoding(model, examples, settings):
    """A logit that is divided by nearly nothing is infinite: the first of several infinities was taken."""
    batch = inference_batch(model, [examples[number] for number in (0, 6, 9, 3)])
    greedy = replies(model, batch, max_new_tokens=12)
    assert replies(model, batch, do_sample=True, max_new_tokens=12, **settings) == greedy
    assert replies(model, batch, do_sample=True, max_new_tokens=12, temperature=2.0) != greedy


@pytest.mark.parametrize(
    ("settings", "processor"),
    [
        ({"repetition_penalty": 1.5}, RepetitionPenaltyLogitsProcessor(1.5)),
        ({"repetition_penalty": 0.7}, RepetitionPenaltyLogitsProcessor(0.7)),
        ({"no_repeat_ngram_size": 1}, NoRepeatNGramLogitsProcessor(1)),
        ({"no_repeat_ngram_size": 2}, NoRepeatNGramLogitsProcessor(2)),
    ],
)
def test_rules_against_repetition_see_the_reply_alone(model, examples, settings, processor):
    """A penalty on the context forbids the answer that it asks for; the library's own spared as many tokens of a
    reply as its text has padding, so that a reply depended on its neighbours in the batch."""
    batch = inference_batch(model, [examples[0], examples[6]])
    found = replies(model, batch, max_new_tokens=16, **settings)
    for example, text in zip((examples[0], examples[6]), found, strict=True):
        new = []
        while len(new) < 16 and model.tokenizer.eos_token_id not in new:
            logits = next_logits(model, example, new)[None].clone()
            if new:
                logits = processor(torch.tensor([new]), logits)
            new.append(int(logits.argmax()))
        assert model.tokenizer.decode(new, skip_special_tokens=True) == text
    if settings.get("no_repeat_ngram_size", 0) or settings.get("repetition_penalty", 0) > 1:
        assert found != replies(model, batch, max_new_tokens=16)


def test_a_penalty_counts_before_the_limits_of_drawing(model, examples):
    """After the limits it could not let in another token: with top_k: 1 the LM would repeat itself for ever."""
    batch = inference_batch(model, [examples[number] for number in (0, 6, 9, 3)])
    settings = {"repetition_penalty": 50.0, "max_new_tokens": 12}
    greedy = replies(model, batch, **settings)
    assert replies(model, batch, do_sample=True, top_k=1, **settings) == greedy
    assert replies(model, batch, do_sample=True, top_k=1, max_new_tokens=12) != greedy


def test_a_run_that_draws_gives_the_same_replies_in_batches_of_any_size(run_copy, distributed):
    """test.py with another --batch_size, or on more ranks, would report other replies under the same settings."""
    found = []
    for batch_size in (3, 16):
        settings = {"decoding": {"do_sample": True, "max_new_tokens": 8}}
        decode_runs(
            [run_copy], distributed, DecodeOptions(batch_size=batch_size, skip_exists=False, flags=settings)
        )
        found.append([row["raw_prediction"] for row in json_rows(run_copy / "evaluation_result.jsonl")])
    assert found[0] == found[1]
    decode_runs([run_copy], distributed, DecodeOptions(skip_exists=False))
    assert [row["raw_prediction"] for row in json_rows(run_copy / "evaluation_result.jsonl")] != found[0]


def test_a_chat_that_draws_repeats_itself_for_a_seed_alone(trained_run, distributed, capsys):
    """Without a seed one wants other replies each time; with one, the conversation again."""
    flags = {"chat": {"do_sample": True, "num_beams": 1, "temperature": 3.0, "max_new_tokens": 8}}

    def said(seed):
        script = iter(["hello", "and you ?", "exit"])
        chat_with_run(
            str(trained_run), distributed, "i ski.", None, seed, [], flags, ask=lambda prompt: next(script)
        )
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("bot")]

    assert len(said(1)) == 2
    assert said(1) == said(1)
    assert said(1) != said(2)
    assert said(None) != said(None)
