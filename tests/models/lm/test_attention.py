"""Fused attention: which families have it, and that training gives it no mask."""

import pytest
import torch
import torch.nn.functional as F

from models.lm.language_model import LanguageModel
from models.registry import build_tokenizer
from tests.conftest import FAMILIES
from tests.families import CONFIGS, tiny_lm
from tests.helpers import model_of, train_batch

WITHOUT = {"bloom", "gpt_neo", "gpt_oss", "mpt", "xglm"}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_family_has_fused_attention_or_a_note_says_that_it_has_none(make_config, name):
    """A run that is slow because its family has no fused kernel, or fell back from it, would not say why."""
    note = LanguageModel(tiny_lm(name, build_tokenizer(make_config()))).attention_note
    assert (note is not None) == (name in WITHOUT)
    assert note is None or f"attention of {name}: eager" in note


@pytest.mark.parametrize("family", FAMILIES)
def test_training_gives_fused_attention_no_mask(make_config, examples, monkeypatch, family):
    """With a mask a GPU takes a slower kernel than flash attention, for the same numbers."""
    calls = []

    def recorded(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **options):
        calls.append((attn_mask, is_causal))
        return attention(query, key, value, attn_mask, dropout_p, is_causal, **options)

    attention = F.scaled_dot_product_attention
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", recorded)
    model = model_of(make_config(family))
    model(train_batch(model, examples[:4])).total.backward()
    assert calls == [(None, True)] * 2  # two layers
