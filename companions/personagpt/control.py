"""PersonaGPT in the stage `control`: action codes are learnt beside dialogues, each part of the LM at its own rate."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from companions.personagpt.model import PersonaGPT, load_with_rows, perplexity_of
from companions.personagpt.released import CONTROL_DECAY, LOSS_NAMES
from companions.personagpt.settings import PersonaConfig
from companions.personagpt.split_lm import SplitLanguageModel
from companions.personagpt.tokens import STEERING
from dataset.batch import Batch
from models.trainable import StepOutput

_LOSS_NAMES = {"old": "persona_loss", "new": "ctrl_loss"}


class ControlledPersonaGPT(PersonaGPT):
    """PersonaGPT on two streams: what is new, action codes, and what is old, dialogues, so that it is not forgotten.

    `fidelity: paper` has the rows of the steering tokens apart (split_lm.py). The release froze the token table.
    """

    reducers = {
        "old_tokens": perplexity_of("persona_perplexity"),
        "new_tokens": perplexity_of("ctrl_perplexity"),
    }

    def forward(self, batch: Any, progress: float = 0.0) -> StepOutput:
        """The loss of each stream that a `TwoStreams` has."""
        losses, counts, tokens = {}, {}, {}
        for stream, part in batch.parts().items():
            name = (LOSS_NAMES if self.config.model.released else _LOSS_NAMES)[stream]
            losses[name], counts[name], tokens[f"{stream}_tokens"] = self.loss_of(part)
        if len(losses) == 1 and hasattr(self.lm.embedding_weight, "ds_id"):
            # at ZeRO stage 3 the ranks fetch weights together, and the batch of another one may have both streams
            with torch.no_grad():
                self.loss_of(_one_token(part))
        return StepOutput(self.total_loss(losses), losses, counts, tokens)

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """The rest, the steering tokens' rows, the other rows, the positions: each at a rate of its own."""
        settings = self.config.training
        tables = _distinct([self.lm.embedding_weight, self.lm.model.get_output_embeddings().weight])
        positions = _position_tables(self.lm.model)
        decay, table_rate, apart = settings.weight_decay, settings.other_rows_rate, []
        if isinstance(self.lm, SplitLanguageModel):
            apart = self.lm.apart()
        else:  # the release's gradient of the table counts in the clipping norm, and moves nothing
            decay, table_rate = CONTROL_DECAY, 0.0
        special = {id(parameter) for parameter in (*tables, *positions, *apart)}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in special]
        return [
            self.group(rest, learning_rate, decay),
            self.group(apart, settings.special_rows_rate, decay),
            self.group(tables, table_rate, decay),
            self.group(positions, settings.positions_rate, decay),
        ]

    def describe(self) -> list[str]:
        """Base LM, stage, and the rate and decay of each part."""
        names = ("all else", "rows of the steering tokens", "other rows", "positions")
        groups = self.parameter_groups(self.config.training.learning_rate)
        rates = [
            f"{name} {group['lr']:g}" for name, group in zip(names, groups, strict=True) if group["params"]
        ]
        return [
            *super().describe()[:-1],
            f"stage control: rates of {', '.join(rates)}; weight decay {groups[0]['weight_decay']:g}",
        ]

    def save_trained(self, folder: Path, state: dict[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """As `PersonaGPT`'s; the rows that are apart stand in the tables again."""
        if isinstance(self.lm, SplitLanguageModel):
            state = self.lm.merged(state, "lm.")
        super().save_trained(folder, state, metadata)


def build_controlled(config: PersonaConfig, tokenizer: PreTrainedTokenizerBase) -> ControlledPersonaGPT:
    """The configured LM, ready for the stage `control`.

    Raises:
        UserError: see `model.load_with_rows` and `SplitLanguageModel`.
    """
    lm, added = load_with_rows(config, tokenizer)
    if not config.model.released:
        vocabulary = tokenizer.get_vocab()
        lm = SplitLanguageModel(lm, [vocabulary[token] for token in STEERING])
    return ControlledPersonaGPT(lm, tokenizer, config, added)


def _position_tables(lm: PreTrainedModel) -> list[Tensor]:
    """Learnt tables of an LM that are not of tokens."""
    tokens = lm.get_input_embeddings()
    return [
        module.weight for module in lm.modules() if isinstance(module, nn.Embedding) and module is not tokens
    ]


def _one_token(batch: Batch) -> Batch:
    """The least that a loss can be computed of."""
    first = torch.zeros_like(batch.target_ids[:1])
    return dataclasses.replace(
        batch,
        input_ids=batch.input_ids[:1, :1],
        target_rows=first,
        target_positions=first,
        target_ids=first,
        target_examples=first,
        indices=batch.indices[:1],
    )


def _distinct(parameters: list[Tensor]) -> list[Tensor]:
    return list({id(parameter): parameter for parameter in parameters}.values())
