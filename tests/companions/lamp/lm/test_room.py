"""Sizes of batches."""

from types import SimpleNamespace

import pytest
import torch
from transformers import BertConfig, EncoderDecoderConfig

from companions.lamp.lm import room
from companions.lamp.lm.room import room_of, state_bytes
from companions.lamp.lm.settings import GenerationSettings
from tests.companions.lamp.lm.made_lms import _SIZE, MODELS, made


def test_a_given_size_counts():
    """Whoever gives a size because the memory is too small for more would get more."""
    found = room_of(made("t5"), GenerationSettings(batch_size=8), 100)
    assert [found(length) for length in (0, 1, 50, 100, 1000)] == [800, 800, 16, 8, 1]


def test_a_small_lm_has_large_batches_without_a_flag(monkeypatch):
    """The speed would be for those alone who know a flag, or an LM of billions would run out of memory."""
    lm, generation = made("t5"), GenerationSettings()
    of_token, of_prompt = state_bytes(lm, generation)
    monkeypatch.setattr(room, "_CPU_BYTES", 50 * (of_prompt + 100 * of_token))
    found = room_of(lm, generation, 100)
    assert found(100) == 50
    assert found(1) == 16 * 100  # as many tokens as 16 prompts of the full length have, in any case
    monkeypatch.setattr(room, "_CPU_BYTES", 1)
    assert room_of(lm, generation, 100)(100) == 16


@pytest.mark.parametrize("family", MODELS)
def test_states_are_counted(family):
    """An LM whose keys and values are left out would fill the memory with its first batch."""
    lm = made(family)
    of_token, of_prompt = state_bytes(lm, GenerationSettings(num_beams=3, max_length=5))
    keys_and_values = 2 * 2 * 16 * 4  # two layers, 16 wide, in float32
    assert of_token == keys_and_values * (1 if lm.has_encoder else 3)  # the beams share those of an encoder
    assert of_prompt == 3 * 5 * keys_and_values + 4 * _SIZE * (3 * 3 + 64)


def test_an_lm_made_of_two_is_counted_by_its_decoder():
    """Its configuration has no layers of its own: evaluation would end with an error of Python."""
    parts = [BertConfig(hidden_size=16, num_attention_heads=2, num_hidden_layers=count) for count in (5, 3)]
    config = EncoderDecoderConfig.from_encoder_decoder_configs(*parts)
    config._attn_implementation = "eager"
    model = SimpleNamespace(
        config=config, dtype=torch.float32, get_output_embeddings=lambda: torch.nn.Linear(16, _SIZE)
    )
    of_token, _ = state_bytes(SimpleNamespace(model=model, has_encoder=True), GenerationSettings(num_beams=2))
    assert of_token == 2 * 2 * 3 * 16 * 4
