"""Routed prompts in decoding and in the chat: the prompt of training, recorded."""

import pytest
import torch

from models.decoding.chat import Conversation
from models.decoding.decode import decode_runs
from models.decoding.generation import choose_prompts, generate_replies
from models.decoding.prefill import Targets
from models.decoding.settings import DecodingSettings
from tests.helpers import (
    encoded,
    inference_batch,
    json_rows,
    logged,
    model_of,
    route_apart,
    target_losses,
    train,
    train_batch,
    untied,
)

ROUTERS = ("smop", "random", "turn", "gated")


@pytest.fixture
def make(make_config, examples):
    """make(router): routed prompts on a tiny LM, whose prompts and router make a difference."""

    def build(router):
        torch.manual_seed(3)
        made = untied(model_of(make_config(model={"model_type": "routed_prompts", "router": router})))
        if router in ("smop", "gated"):
            route_apart(made, [one for one in examples if one.dialogue == 0])
        return made

    return build


def replied(model, examples):
    """Replies with the losses of their targets."""
    batch = inference_batch(model, examples)
    scores, choice = choose_prompts(model, batch)
    texts = [text.ids[:-1] for text in encoded(model, examples, response=True)]
    targets = Targets(texts, train_batch(model, examples, decoding=True))
    settings = DecodingSettings(max_new_tokens=4)
    return generate_replies(model, batch, scores, choice, settings, targets=targets)


@pytest.mark.parametrize("router", ROUTERS)
def test_examples_of_a_dialogue_keep_their_own_prompts(make, examples, router):
    """Texts that begin alike share what was read: after another text's scaled prompt that is another model's reply."""
    model = make(router)
    chosen = [one for one in examples if one.dialogue == 0]
    together = replied(model, chosen)
    if router != "random":  # draws depend on the place in the file, which is another one here
        alone = [replied(model, [one])[0] for one in chosen]
        assert [reply.ids for reply in together] == [reply.ids for reply in alone]
    prompts = [reply.prompt for reply in together]
    choice = None if router == "gated" else torch.tensor(prompts)
    assert (set(prompts) == {None}) == (router == "gated")
    sums, counts = target_losses(model, train_batch(model, chosen, decoding=True), choice)
    assert [reply.nll for reply in together] == pytest.approx(sums.tolist(), rel=1e-4)
    assert [reply.nll_tokens for reply in together] == counts.tolist()
    if router in ("smop", "turn", "gated"):  # and training's validation loss is the same
        with torch.no_grad():
            total = model(train_batch(model, chosen)).total
        assert total.item() == pytest.approx((sums.sum() / counts.sum()).item(), rel=1e-4)


def test_a_reply_has_the_prompt_of_its_turn(make, examples):
    """A turn that decoding does not know would give every reply prompt 0."""
    model = make("turn")
    chosen = [one for one in examples if one.dialogue == 0]
    _, choice = choose_prompts(model, inference_batch(model, chosen))
    assert choice.tolist() == [min(number, 2) for number in range(len(chosen))]


@pytest.mark.parametrize(("router", "prompts"), [("turn", [0, 1, 2, 2]), ("gated", [None] * 4)])
def test_the_chat_counts_turns(make, router, prompts):
    """The chat would answer a tenth message as it does a greeting."""
    model = make(router)
    chat = Conversation(model, model.config, lambda: ["i ski."], "cpu")
    assert [chat.say("hello there").prompt for _ in prompts] == prompts
    chat.clear()
    assert chat.say("hello again").prompt == prompts[0]


@pytest.mark.slow
def test_a_run_trains_and_decodes(make_config, distributed):
    """What is trained is not what a run folder gives back, or the choice is missing in its result rows."""
    config = make_config(
        model={"model_type": "routed_prompts", "router": "smop"}, decoding={"max_new_tokens": 2}
    )
    run = train(config, distributed, "smop")
    decode_runs([run], distributed)
    rows = json_rows(run / "evaluation_result.jsonl")
    (validated,) = logged(run, "valid_epoch")
    loss = sum(row["nll"] for row in rows) / sum(row["nll_tokens"] for row in rows)
    assert loss == pytest.approx(validated["llm"], rel=1e-5)
    shares = [sum(row["prompt"] == k for row in rows) / len(rows) for k in range(3)]
    assert shares == pytest.approx(validated["prompt_share"])
    for row in rows:
        assert max(row["scores"]) == row["scores"][row["prompt"]]
        assert sum(row["scores"]) == pytest.approx(1, rel=1e-5)
