"""The composed model against the method as the specification words it, prompt by prompt, in full logits."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from sacrebleu.metrics import BLEU
from transformers import AutoModelForCausalLM, AutoTokenizer, OPTConfig

from models.spt.retriever import Retriever
from models.spt.soft_prompts import SoftPrompts
from tests.conftest import FAMILIES
from tests.helpers import encoded, model_of, train_batch

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def projected(lm_folder, tmp_path_factory):
    """An OPT whose embeddings are narrower than its layers, with the dropout that OPT ships with."""
    tokenizer = AutoTokenizer.from_pretrained(lm_folder("opt"))
    torch.manual_seed(3)
    config = OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        word_embed_proj_dim=16,
        do_layer_norm_before=False,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=384,
        dropout=0.1,
        init_std=0.1,
    )
    folder = tmp_path_factory.mktemp("opt_projected")
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(params=[*FAMILIES, "projected"])
def config(request, make_config, projected):
    """A configuration on each kind of LM, at temperatures and weights that are all different."""
    training = {
        "tau_gold": 0.5,
        "tau_sim": 0.7,
        "selective_loss_weight": 0.3,
        "contrastive_weight": 0.6,
        "contrastive_threshold": 20.0,  # between the personas of the first three dialogues: 18, 5, 25
    }
    if request.param == "projected":
        return make_config("opt", model={"model_name": projected}, training=training)
    return make_config(request.param, training=training)


def batch_of(examples):
    """Turns of three dialogues (8, 7 and 7 turns), short and long, not in the order of their lengths."""
    return [examples[number] for number in (1, 3, 8, 15)]


def gradients(model, total):
    """Gradients of a loss for the trained parameters, by name."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return dict(zip(trained, torch.autograd.grad(total, list(trained.values())), strict=True))


def reference(model, examples):
    """Scores [K, B], the losses and the total, by the shortest way from the specification's sections 3 and 4."""
    lm, settings, prompts = model.lm.model, model.config.training, model.soft_prompts.weight
    table, linear = lm.get_input_embeddings().weight, model.retriever.linear
    texts = encoded(model, examples, response=True)
    width = max(len(text.ids) for text in texts) + 3
    ids = torch.full((len(texts), width), 5)
    mask = torch.zeros(len(texts), width, dtype=torch.long)
    for row, text in enumerate(texts):
        ids[row, : len(text.ids)] = torch.from_numpy(text.ids).long()
        mask[row, : len(text.ids)] = 1
    mask = torch.cat([torch.ones(len(texts), prompts.shape[1], dtype=torch.long), mask], dim=1)

    token_losses, all_logits, scores = [], [], []  # by prompt, then by example
    for prompt in prompts:
        embeddings = torch.cat([prompt.expand(len(texts), -1, -1), table[ids]], dim=1)
        logits = lm(inputs_embeds=embeddings, attention_mask=mask).logits[:, prompts.shape[1] :]
        all_logits.append([])
        token_losses.append([])
        scores.append([])
        for row, text in enumerate(texts):
            ((start, end),) = text.targets
            predicted = logits[row, start - 1 : end - 1]
            all_logits[-1].append(predicted)
            token_losses[-1].append(F.cross_entropy(predicted, ids[row, start:end], reduction="none"))
            context = linear(table[ids[row, : text.query_end]].mean(dim=0))
            cosine = F.cosine_similarity(linear(prompt.mean(dim=0)), context, dim=0)
            scores[-1].append(F.softplus(cosine, beta=10, threshold=1))
    scores = torch.stack([torch.stack(row) for row in scores])

    gold = torch.tensor([[part.mean().item() for part in row] for row in token_losses]).div(
        -settings.tau_gold
    )
    log_r = (scores / settings.tau_sim).log_softmax(dim=0)
    fused = []
    for row, text in enumerate(texts):
        ((start, end),) = text.targets
        logits = sum(scores[k, row] * all_logits[k][row] for k in range(len(prompts)))
        fused.append(F.cross_entropy(logits, ids[row, start:end]))
    bleu, pairs = BLEU(effective_order=True), []
    for i, first in enumerate(examples):
        for j in range(i + 1, len(examples)):
            hypothesis, other = " ".join(first.persona), " ".join(examples[j].persona)
            same_persona = bleu.sentence_score(hypothesis, [other]).score > settings.contrastive_threshold
            columns = scores[:, i][None], scores[:, j][None]
            pairs.append(F.cosine_embedding_loss(*columns, torch.tensor([1.0 if same_persona else -1.0])))
    losses = {
        "llm": torch.cat([torch.cat(row) for row in token_losses]).mean(),
        "selection": F.kl_div(log_r.T, gold.softmax(dim=0).T, reduction="batchmean"),
        "fusion": torch.stack(fused).mean(),
        "contrastive": torch.stack(pairs).mean(),
    }
    total = losses["llm"] + settings.selective_loss_weight * losses["selection"]
    total = total + losses["fusion"] + settings.contrastive_weight * losses["contrastive"]
    return scores, losses, total


def test_losses_and_gradients_are_those_of_the_method(config, examples):
    """A shifted target, a mask, a wrong hidden layer or a detached score still gives falling losses."""
    model, chosen = model_of(config), batch_of(examples)
    batch = train_batch(model, chosen)
    output = model(batch)
    scores, losses, total = reference(model, chosen)
    assert set(output.losses) == set(losses)
    assert batch.pair_labels.unique().numel() == 2  # both kinds of pairs occur
    for name, loss in losses.items():
        torch.testing.assert_close(
            output.losses[name], loss, msg=lambda text, n=name: f"{n}: {text}", **CLOSE
        )
    torch.testing.assert_close(output.total, total, **CLOSE)
    torch.testing.assert_close(model.scores(batch.query), scores, **CLOSE)
    wanted = gradients(model, total)
    for name, gradient in gradients(model, output.total).items():
        torch.testing.assert_close(gradient, wanted[name], atol=1e-5, rtol=1e-4)


def test_a_row_per_dialogue_gives_what_a_row_per_example_gives(config, examples):
    """The shared row is a saving and no other method: losses, scores and gradients stay the same."""
    chosen = [example for example in examples if example.dialogue < 2]
    by_example = model_of(config)
    by_dialogue = model_of(config.model_copy(update={"training": config.training.model_copy()}))
    by_dialogue.config = by_dialogue.config.replaced({"training": {"rows": "dialogue"}})
    by_dialogue.load_trained_state(by_example.trained_state(), "the other model")
    batches = train_batch(by_example, chosen), train_batch(by_dialogue, chosen)
    assert batches[0].input_ids.shape[0] == len(chosen)
    assert batches[1].input_ids.shape[0] == 2
    one, other = by_example(batches[0]), by_dialogue(batches[1])
    for name, loss in one.losses.items():
        torch.testing.assert_close(other.losses[name], loss, **CLOSE)
    torch.testing.assert_close(
        by_dialogue.scores(batches[1].query), by_example.scores(batches[0].query), **CLOSE
    )
    wanted = gradients(by_example, one.total)
    for name, gradient in gradients(by_dialogue, other.total).items():
        torch.testing.assert_close(gradient, wanted[name], atol=1e-5, rtol=1e-4)


def test_padding_does_not_matter(config, examples):
    """There is no attention mask in training: right padding must be out of reach, whatever it holds."""
    model = model_of(config)
    batch = train_batch(model, batch_of(examples))
    extra = torch.randint(3, 300, (batch.input_ids.shape[0], 7))
    nothing = torch.zeros(extra.shape, dtype=torch.bool)
    query = replace(
        batch.query,
        ids=torch.cat([batch.query.ids, extra], dim=1),
        mask=torch.cat([batch.query.mask, nothing], dim=1),
    )
    wider = replace(batch, input_ids=torch.cat([batch.input_ids, extra], dim=1), query=query)
    losses = model(wider).losses
    for name, loss in model(batch).losses.items():
        torch.testing.assert_close(losses[name], loss, **CLOSE)


def test_a_batch_is_the_mean_of_its_examples(make_config, examples):
    """Were examples mixed up between rows, losses of the batch would not be those of its examples alone."""
    model, chosen = model_of(make_config("opt")), batch_of(examples)
    together = model(train_batch(model, chosen)).losses
    batches = [train_batch(model, [example]) for example in chosen]
    alone = [model(batch).losses for batch in batches]
    assert all("contrastive" not in losses for losses in alone)
    for name in ("selection", "fusion"):
        torch.testing.assert_close(
            together[name], torch.stack([losses[name] for losses in alone]).mean(), **CLOSE
        )
    tokens = torch.tensor([float(len(batch.target_ids)) for batch in batches])
    llm = (torch.stack([losses["llm"] for losses in alone]) * tokens).sum() / tokens.sum()
    torch.testing.assert_close(together["llm"], llm, **CLOSE)


def test_only_prompts_and_retriever_are_trained(config, examples):
    """A base LM that drifts, or whose dropout comes back with .train(), is no prompt tuning any more."""
    model = model_of(config).train()
    assert model.training
    assert not any(module.training for module in model.lm.model.modules())
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"soft_prompts.weight", "retriever.linear.weight", "retriever.linear.bias"}
    assert set(model.trained_state()) == trained
    batch = train_batch(model, batch_of(examples))
    first, second = model(batch), model(batch)
    assert first.total.item() == second.total.item()  # no dropout
    first.total.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (name in trained)
        assert name not in trained or parameter.grad.abs().max() > 0
    prompts, virtual, width = model.soft_prompts.weight.shape
    count = sum(tensor.numel() for tensor in model.trained_state().values())
    assert count == prompts * virtual * width + width * width + width


@pytest.mark.parametrize(
    ("prompts", "virtual", "width", "parameters"),
    [(4, 8, 768, 615_168), (4, 8, 2048, 4_261_888), (4, 8, 2560, 6_638_080), (4, 1, 4096, 16_797_696)],
    ids=["opt-125m", "opt-1.3b", "opt-2.7b", "llama2-7b"],
)
def test_the_numbers_of_trained_parameters_are_the_papers(make_config, prompts, virtual, width, parameters):
    """A second linear layer, or one without bias, is another model than the one of the paper's table."""
    with torch.device("meta"):
        parts = SoftPrompts(prompts, virtual, width), Retriever(width, make_config("opt").model)
    assert sum(parameter.numel() for part in parts for parameter in part.parameters()) == parameters
