"""Every LM family that is accepted decodes in a batch as by full forward passes, and scores with its own logits."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from models.baselines.lora import LoraModel
from models.baselines.prefix_tuning import PrefixTuning
from models.baselines.prompt_tuning import PromptTuning
from models.decoding.generation import generate_replies
from models.decoding.prefill import Targets
from models.decoding.settings import DecodingSettings
from models.lm.families import FAMILIES, longest_input
from models.lm.language_model import LanguageModel, load_language_model
from models.registry import build_tokenizer
from models.spt.model import SelectivePromptTuning
from tests.families import CONFIGS, WINDOW, WINDOWED, tiny_lm
from tests.helpers import encoded, inference_batch, model_of, target_losses, train_batch
from utils.errors import UserError

NEW = DecodingSettings(max_new_tokens=8)
TYPES = {
    SelectivePromptTuning: "selective_pt",
    PromptTuning: "prompt_tuning",
    PrefixTuning: "prefix_tuning",
    LoraModel: "lora",
}
REFUSED = ("mamba", "mamba2", "openai-gpt", "rwkv", "recurrent_gemma", "ctrl", "lfm2", "llama4_text", "gptj")


@pytest.fixture
def build(make_config):
    """build(kind of model, entry of CONFIGS): the model in evaluation mode, on a tiny LM of that family."""

    def make(kind, name, **options):
        config = make_config("opt", model={"model_type": TYPES[kind]})
        tokenizer = build_tokenizer(config)
        model = kind(LanguageModel(tiny_lm(name, tokenizer, **options)), tokenizer, config)
        torch.manual_seed(5)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.normal_()
        return model.eval()

    return make


def seven(examples):
    """Two dialogues: texts of very different lengths that share rows, and the longest one."""
    return [examples[number] for number in (0, 2, 5, 5, 6, 8, 9)]


@torch.no_grad()
def by_hand(model, example, prompt, steps):
    """Greedy decoding by one full forward per token: no padding, no mask, nothing cached of the text."""
    ids = inference_batch(model, [example]).input_ids[0].tolist()
    new = []
    while len(new) < steps and model.tokenizer.eos_token_id not in new:
        row = model.lm.embed(torch.tensor(ids + new))[None]
        prompts = model.prompts_for(None if prompt is None else torch.tensor([prompt]), 1)
        row = row if prompts is None else torch.cat([prompts, row], dim=1)
        cache = model.prefix_cache(1)
        logits = model.lm.model(inputs_embeds=row, past_key_values=cache, use_cache=cache is not None).logits
        new.append(int(logits[0, -1].argmax()))
    return model.tokenizer.decode(new, skip_special_tokens=True)


def texts_of(model, examples, choice, settings=NEW):
    """The replies' texts."""
    batch = inference_batch(model, examples)
    return [reply.text for reply in generate_replies(model, batch, None, choice, settings)]


def test_every_accepted_family_is_tested():
    """A family that is listed without a test may reply with words that are not its own, without an error."""
    assert {name.partition("-")[0] for name in CONFIGS} == FAMILIES
    assert len(FAMILIES) >= 14


@pytest.mark.parametrize("name", CONFIGS)
def test_a_batch_is_decoded_as_by_full_forward_passes(build, examples, name):
    """Slots of the cache that count as distance, or padding that is seen, give other words than the LM's own."""
    model = build(SelectivePromptTuning, name)
    chosen = seven(examples)
    choice = [2, 2, 2, 0, 1, 1, 2]
    assert min(len(row) for row in inference_batch(model, chosen[:1]).input_ids) > 2 * WINDOW
    together = texts_of(model, chosen, torch.tensor(choice))
    expected = [by_hand(model, example, prompt, 8) for example, prompt in zip(chosen, choice, strict=True)]
    assert together == expected
    assert len(set(expected)) >= 3


@pytest.mark.parametrize("name", WINDOWED)
def test_the_window_matters_in_these_tests(build, examples, name):
    """Were the window longer than the texts, the tests would say nothing about it."""
    short, long = build(SelectivePromptTuning, name), build(SelectivePromptTuning, name, window=400)
    assert by_hand(short, examples[5], 0, 8) != by_hand(long, examples[5], 0, 8)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_trained_prefix_is_decoded_as_by_full_forward_passes(build, examples, name):
    """Padding between the prefix and a short text would push the prefix out of a window."""
    model = build(PrefixTuning, name)
    chosen = seven(examples)
    together = texts_of(model, chosen, None)
    assert together == [by_hand(model, example, None, 8) for example in chosen]
    with torch.no_grad():
        model.prefix.neg_()
    # a window in every layer, shorter than the text, keeps the prefix out of sight of the reply
    assert name in WINDOWED or texts_of(model, chosen, None) != together


@pytest.mark.parametrize("name", CONFIGS)
def test_lora_finds_the_projections_and_is_decoded_as_by_full_forward_passes(build, examples, name):
    """A family whose projections have other names ends in a traceback, or trains nothing of its attention."""
    model = build(LoraModel, name)
    assert all("lora_" in key for key in model.trained_state())
    chosen = seven(examples)[3:]
    together = texts_of(model, chosen, None)
    assert together == [by_hand(model, example, None, 8) for example in chosen]
    loss = model(train_batch(model, chosen)).total
    gradients = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])
    assert len(gradients) >= 8  # two matrices in each of four layers
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_an_lm_without_known_projections_is_refused(make_config, lm_folder):
    """The library's own words, in a traceback, do not say what to do."""
    lm = model_of(make_config("opt", model={"model_type": "textual"})).lm
    for module in lm.modules():
        if hasattr(module, "q_proj"):
            module.query = module.q_proj
            del module.q_proj
    config = make_config("opt", model={"model_type": "lora"})
    with pytest.raises(UserError, match="attention of opt has no projection"):
        LoraModel(lm, build_tokenizer(config), config)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_losses_are_those_of_the_lms_own_logits(build, examples, name):
    """An LM that changes its logits after the head would train and score with losses that are not its own."""
    model = build(PromptTuning, name)
    batch = train_batch(model, [examples[5]], decoding=True)
    sums, counts = target_losses(model, batch, None)
    row = torch.cat([model.prompts_for(None, 1), model.lm.embed(batch.input_ids)], dim=1)
    with torch.no_grad():
        logits = model.lm.model(inputs_embeds=row, use_cache=False).logits[0].float()
    positions = model.num_virtual_tokens + batch.target_positions
    expected = F.cross_entropy(logits[positions], batch.target_ids, reduction="sum")
    assert counts.tolist() == [len(positions)]
    torch.testing.assert_close(sums[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [SelectivePromptTuning, PrefixTuning])
@pytest.mark.parametrize("name", CONFIGS)
def test_targets_are_scored_as_by_a_pass_of_their_own(build, examples, name, kind):
    """The pass that fills the cache gives their losses too: of another row or position they would be another's."""
    model = build(kind, name)
    chosen = seven(examples)
    choice = torch.tensor([2, 2, 2, 0, 1, 1, 2]) if kind is SelectivePromptTuning else None
    batch = train_batch(model, chosen, decoding=True)
    targets = Targets([text.ids[:-1] for text in encoded(model, chosen, response=True)], batch)
    one = DecodingSettings(max_new_tokens=1)
    replies = generate_replies(model, inference_batch(model, chosen), None, choice, one, targets=targets)
    sums, counts = target_losses(model, batch, choice)
    assert [reply.nll_tokens for reply in replies] == counts.tolist()
    torch.testing.assert_close(torch.tensor([reply.nll for reply in replies]), sums, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["opt", "mistral", "mpt", "gpt_neo", "falcon-alibi"])
def test_beams_of_a_batch_are_those_of_each_text_alone(build, examples, name):
    """Beams reorder the cache; room that is not reordered with it would mix the beams' words."""
    model = build(SelectivePromptTuning, name)
    settings = DecodingSettings(max_new_tokens=8, num_beams=4)
    chosen, choice = seven(examples), torch.tensor([2, 2, 2, 0, 1, 1, 2])
    together = texts_of(model, chosen, choice, settings)
    for number, example in enumerate(chosen):
        assert texts_of(model, [example], choice[number : number + 1], settings) == [together[number]]
    assert together != texts_of(model, chosen, choice)


def lm_folder_of(path: Path, **content) -> Path:
    """A folder with a configuration and no weights."""
    (path / "config.json").write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("family", REFUSED)
def test_other_families_are_refused_before_their_weights_are_read(make_config, tmp_path, family):
    """A family whose decoding is wrong, or ends in a traceback, would be found out after the training."""
    folder = lm_folder_of(tmp_path, model_type=family)
    config = make_config("opt", model={"model_name": str(folder)})
    with pytest.raises(UserError, match=f"family '{family}' are not supported"):
        load_language_model(config.model)


def test_lms_that_change_their_logits_are_refused(make_config, tmp_path):
    """Their losses would be those of other logits."""
    folder = lm_folder_of(tmp_path, model_type="mpt", logit_scale=0.5)
    config = make_config("opt", model={"model_name": str(folder)})
    with pytest.raises(UserError, match="logit_scale"):
        load_language_model(config.model)


@pytest.mark.parametrize(
    ("family", "settings", "limit"),
    [
        ("gpt2", {"n_positions": 77}, 77),
        ("mpt", {"max_seq_len": 99}, 99),
        ("bloom", {}, None),
        (
            "phi3",
            {
                "max_position_embeddings": 4096,
                "original_max_position_embeddings": 256,
                "rope_parameters": {
                    "rope_type": "longrope",
                    "rope_theta": 10000.0,
                    "short_factor": [1.0] * 48,
                    "long_factor": [2.0] * 48,
                },
            },
            256,
        ),
    ],
)
def test_the_longest_input_of_an_lm(tmp_path, family, settings, limit):
    """A text beyond it fails far from its cause, or changes the positions of everything that is cached."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(lm_folder_of(tmp_path, model_type=family, **settings))
    assert longest_input(config) == limit


@pytest.mark.parametrize(
    ("family", "key"), [("opt", "num_hidden_layers"), ("gpt2", "n_layer"), ("mpt", "n_layers")]
)
def test_an_lm_without_layers_is_refused(make_config, tmp_path, family, key):
    """It ended far from its cause, with a message about the library's version."""
    folder = lm_folder_of(tmp_path, model_type=family, **{key: 0})
    with pytest.raises(UserError, match="layers"):
        load_language_model(make_config("opt", model={"model_name": str(folder)}).model)
