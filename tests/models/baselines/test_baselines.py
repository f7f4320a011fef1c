"""The baselines: what each trains, that it decodes, and that it comes back from its state."""

import pytest
import torch
from peft import PeftModel, PrefixTuningConfig, TaskType, get_peft_model

from models.conversation import ConversationModel
from models.decoding.generation import generate_replies
from models.decoding.settings import DecodingSettings
from tests.conftest import FAMILIES
from tests.helpers import inference_batch, model_of, target_losses, train_batch

TRAINED = {
    "prompt_tuning": lambda name: name == "soft_prompts.weight",
    "prefix_tuning": lambda name: name == "prefix",
    "lora": lambda name: ".lora_" in name,
    "full_finetuning": lambda name: name.startswith("lm.model."),
    "textual": lambda name: False,
}
SIZES = {
    "prompt_tuning": {"num_virtual_tokens": 4},
    "prefix_tuning": {"num_virtual_tokens": 4},
    "lora": {"r": 2},
}
TRAINABLE = [name for name in TRAINED if name != "textual"]


@pytest.fixture
def make(make_config):
    """make(model_type, family): a baseline on a tiny LM."""

    def build(model_type, family="opt", **peft_config) -> ConversationModel:
        torch.manual_seed(3)
        settings = {"model_type": model_type}
        if sizes := SIZES.get(model_type, {}) | peft_config:
            settings["peft_config"] = sizes
        return model_of(make_config(family, model=settings))

    return build


def _step(model, batch, rate=0.05):
    """One Adam step; returns the loss before it."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=rate)
    loss = model(batch).total
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("model_type", list(TRAINED))
def test_gradients_only_where_they_belong(make, examples, model_type, family):
    """A baseline that trains more or less than its name says makes the comparison with SPT a lie."""
    model = make(model_type, family)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if TRAINED[model_type](name)}
    if model_type == "textual":
        return
    assert trained
    output = model(train_batch(model, examples[:4]))
    assert set(output.losses) == {"llm"}
    assert output.total is output.losses["llm"]
    output.total.backward()
    gradients = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert gradients == trained


@pytest.mark.parametrize("model_type", TRAINABLE)
def test_a_few_steps_lower_the_loss(make, examples, model_type):
    """A trained part that the forward pass does not use would stay at its loss."""
    model = make(model_type).train()
    batch = train_batch(model, examples[:4])
    rate = 0.005 if model_type == "full_finetuning" else 0.05
    losses = [_step(model, batch, rate) for _ in range(6)]
    assert losses[-1] < losses[0] - 0.001


@pytest.mark.parametrize("model_type", list(TRAINED))
def test_replies_and_losses_do_not_depend_on_the_batch(make, examples, model_type):
    """Padding that reaches the attention, or a prefix that is laid over the wrong row."""
    model = make(model_type)
    chosen = [examples[0], examples[5], examples[9]]
    batch = inference_batch(model, chosen)
    assert model.score_prompts(batch.query) is None
    together = generate_replies(model, batch, None, None)
    alone = [generate_replies(model, inference_batch(model, [one]), None, None)[0] for one in chosen]
    assert together == alone
    assert {(reply.prompt, reply.scores) for reply in together} == {(None, None)}
    sums, counts = target_losses(model, train_batch(model, chosen, decoding=True), None)
    for place, one in enumerate(chosen):
        single, count = target_losses(model, train_batch(model, [one], decoding=True), None)
        assert single.item() == pytest.approx(sums[place].item(), rel=1e-4)
        assert count.item() == counts[place].item()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("model_type", ["prefix_tuning", "lora", "prompt_tuning"])
def test_decoding_runs_through_the_trained_part(make, examples, model_type, family):
    """The first new token is the argmax of the very hidden state that the training loss was taken from."""
    model = make(model_type, family)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.5)
    one = examples[5]
    batch = train_batch(model, [one], decoding=True)
    with torch.no_grad():
        prompts = model.prompts_for(None, 1)
        hidden = model.hidden_with(batch, prompts)[0]
        expected = (hidden[0] @ model.lm.head_weight.T).argmax().item()
    reply = generate_replies(
        model, inference_batch(model, [one]), None, None, DecodingSettings(max_new_tokens=1)
    )[0]
    assert reply.text == model.tokenizer.decode([expected], skip_special_tokens=True)


@pytest.mark.parametrize("model_type", list(TRAINED))
def test_the_state_brings_the_model_back(make, examples, model_type):
    """A parameter that is trained and not saved comes back as it was at the start."""
    model = make(model_type)
    batch = train_batch(model, examples[:4])
    if model_type != "textual":
        _step(model, batch)
    state = {name: tensor.clone() for name, tensor in model.trained_state().items()}
    torch.manual_seed(99)
    other = make(model_type)
    for parameter in other.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter)
    other.load_trained_state(state, "here")
    with torch.no_grad():
        assert other(batch).total.item() == model(batch).total.item()


def test_spt_of_one_prompt_without_retriever_is_prompt_tuning(make_config, make, examples):
    """The limit in which the two methods are one; a difference is a fault in either."""
    switches = {"skip_retrieval": True, "only_nll": True}
    spt = model_of(make_config(model={"K": 1}, training=switches))
    plain = make("prompt_tuning")
    with torch.no_grad():
        plain.soft_prompts.weight.copy_(spt.soft_prompts.weight)
    results = []
    for model in (spt, plain):
        output = model(train_batch(model, examples[:4]))
        output.total.backward()
        results.append((output.total.detach(), model.soft_prompts.weight.grad))
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(results[0][1], results[1][1], atol=1e-6, rtol=1e-6)
    assert [name for name, parameter in spt.named_parameters() if parameter.requires_grad] == [
        "soft_prompts.weight"
    ]


def test_a_prefix_changes_what_the_lm_says(make, examples):
    """A cache that the LM ignores would train nothing and fail nowhere."""
    model = make("prefix_tuning")
    batch = train_batch(model, examples[:2])
    with torch.no_grad():
        before = model(batch).total.item()
        model.prefix.mul_(100)
        assert abs(model(batch).total.item() - before) > 1e-3


@pytest.mark.parametrize("virtual", [1, 4])
def test_peft_gives_the_same_logits_for_the_same_prefix(make, examples, virtual):
    """Keys and values in another order, or positions that do not count the prefix."""
    model = make("prefix_tuning", "llama", num_virtual_tokens=virtual)
    ids = train_batch(model, examples[:1]).input_ids
    with torch.no_grad():
        hidden = model.lm.hidden(model.lm.embed(ids), model.prefix_cache(1))
        ours = hidden @ model.lm.head_weight.T
        config = PrefixTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=virtual)
        theirs: PeftModel = get_peft_model(model.lm.model, config).eval()
        # PEFT's table holds, per virtual token, [layer 0 keys, layer 0 values, layer 1 keys, ...] with the heads
        table = model.prefix.permute(3, 0, 1, 2, 4).flatten(1)  # [V, layers * 2 * heads * size]
        theirs.prompt_encoder["default"].embedding.weight.copy_(table)
        logits = theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    torch.testing.assert_close(ours, logits, atol=1e-5, rtol=1e-5)


def test_the_prefix_takes_positions_of_the_lm(make):
    """A text as long as the LM allows would run past its positions after a prefix."""
    assert make("prefix_tuning").text_limit(32) == 384 - 4 - 32
    assert make("lora").text_limit(32) == 384 - 32


def test_lora_starts_as_the_base_lm(make, examples):
    """B = 0 at the start: a first loss that differs from the text's alone is an adapter in the wrong place."""
    lora, textual = make("lora"), make("textual")
    batch = train_batch(lora, examples[:4])
    with torch.no_grad():
        assert lora(batch).total.item() == pytest.approx(textual(batch).total.item(), rel=1e-6)


def test_loras_dropout_works_in_training_only(make, examples):
    """A frozen LM stays in evaluation mode; its adapters' dropout must not be frozen with it."""
    model = make("lora", lora_dropout=0.5)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    batch = train_batch(model, examples[:2])
    with torch.no_grad():
        assert model(batch).total == model(batch).total
        model.train()
        assert model(batch).total != model(batch).total
        model.eval()
        assert model(batch).total == model(batch).total
