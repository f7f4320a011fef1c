"""PersonaGPT as a module: a causal LM of which everything is trained, kept as a Hugging Face folder."""

from transformers import PreTrainedTokenizerBase

from companions.personagpt.settings import PersonaConfig
from models.lm.language_model import load_language_model
from models.plain import PlainModel


class PersonaGPT(PlainModel):
    """The LM with rows for the special tokens."""


def build_personagpt(config: PersonaConfig, tokenizer: PreTrainedTokenizerBase) -> PersonaGPT:
    """The configured base LM; rows of tokens that it lacks are drawn from N(0, 0.02)."""
    lm = load_language_model(config.model, frozen=False)
    if len(tokenizer) > lm.embedding_weight.shape[0]:
        lm.model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return PersonaGPT(lm, tokenizer, config)
