"""The dense retriever as something that the trainer trains: scores of a profile's items against their utilities."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from companions.lamp.encoder import Encoder, vectors_of
from companions.lamp.ropg.batches import RetrievalBatch
from companions.lamp.ropg.losses import draw_actions, kd_loss, rl_loss
from companions.lamp.ropg.settings import KDSettings, RLSettings
from models.feedback import chosen_candidates, feedback_counts, feedback_reducers
from models.lm.language_model import base_lm_folder
from models.trainable import Figure, Reducer, StepOutput, Trainable
from utils.files import to_json, write_whole
from utils.runs import METADATA

UTILITY = Figure("utility", "higher", "mean utility of the chosen item")
LOSS = Figure("total", "lower", "validation loss")
_UNUSED = "pooler."  # of the first token; vectors are means over all tokens


def _mean(name: str) -> Reducer:
    return lambda total, num_examples: {name: total.item() / max(1, num_examples)}


class Retriever(Trainable):
    """An encoder shared by queries and documents; the score is the dot product of their vectors.

    Figures beside the loss, over the questions: `document_share` and `document_entropy` of the place in the profile
    that has the highest score; `utility`, the mean utility of that item; `first_utility`, that of the profile's first
    item; `regret`, how much more the best item has; `agreement`, how often none has more.

    Args:
        encoder: to start from.
        training: method and how it is trained.
    """

    reducers = {
        **feedback_reducers("document"),
        "utility": _mean("utility"),
        "first_utility": _mean("first_utility"),
    }

    def __init__(self, encoder: Encoder, training: KDSettings | RLSettings) -> None:
        super().__init__()
        self.encoder, self.settings = encoder, training
        self.lm = encoder.model
        self.untrained: dict[str, Tensor] = {}
        """what is saved as it was; at ZeRO stage 3 the module's own parameters are not whole"""
        for name, parameter in self.lm.named_parameters():
            if name.startswith(_UNUSED):
                parameter.requires_grad_(False)
                self.untrained[name] = parameter.detach().clone()
        self.best = UTILITY if training.best_by == "utility" else LOSS

    def score(self, batch: RetrievalBatch) -> Tensor:
        """Scores [C, B] in float32; of no meaning where the batch's mask is False."""
        vectors = torch.cat([vectors_of(self.lm, ids, mask) for ids, mask in batch.texts])  # [N, H]
        return (vectors[batch.documents] * vectors[batch.queries]).sum(dim=-1)

    def forward(self, batch: RetrievalBatch, progress: float = 0.0) -> StepOutput:
        """The loss of the method. Nothing is drawn in evaluation mode: the loss is the expectation there."""
        scores, utilities, mask = self.score(batch), batch.utilities, batch.mask
        loss = self._loss(scores, batch)
        name = self.settings.method
        chosen = utilities.gather(0, chosen_candidates(scores, mask)[None])[0]  # [B]
        return StepOutput(
            total=loss,
            losses={name: loss},
            counts={name: batch.num_examples},
            diagnostics={
                **feedback_counts(scores, utilities, mask),
                "utility": chosen.sum(),
                "first_utility": utilities[0].sum(),
            },
        )

    def _loss(self, scores: Tensor, batch: RetrievalBatch) -> Tensor:
        if isinstance(self.settings, KDSettings):
            return kd_loss(scores, batch.utilities, batch.mask, self.settings.temperature)
        sampled = self.training and self.settings.expectation == "sampled"
        actions = draw_actions(scores, batch.mask, batch.draws) if sampled else None
        return rl_loss(scores, batch.utilities, batch.mask, actions)

    def total_loss(self, losses: Mapping[str, Any]) -> Any:
        """There is one."""
        return losses[self.settings.method]

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """One group, with the weight decay of the configuration."""
        (group,) = super().parameter_groups(learning_rate)
        decoupled = self.settings.optimizer == "adamw"
        return [{**group, "weight_decay": self.settings.weight_decay, "decoupled_weight_decay": decoupled}]

    def describe(self) -> list[str]:
        """The method and the encoder."""
        config = self.lm.config
        return [f"ROPG-{self.settings.method.upper()}: retriever {config.model_type} {config.name_or_path}"]

    def metadata(self) -> dict[str, Any]:
        """The method, and the encoder that was started from."""
        return {"method": f"ropg-{self.settings.method}", "encoder": self.lm.config.name_or_path}

    def save_trained(self, folder: Path, state: dict[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Write the encoder with its tokenizer to `model/` of the run folder, in the Hugging Face format.

        Args:
            folder: the run folder, which `load_encoder` takes as it is.
            state: the trained parameters by name, float32.
            metadata: what stands beside them, in `trained.json`.

        Raises:
            UserError: it cannot be written; an earlier encoder is as it was.
        """
        path = folder / METADATA
        path.unlink(missing_ok=True)  # what is said of one step never stands beside the weights of another
        trained = {key.removeprefix("lm."): value for key, value in state.items()}
        self.encoder.save(base_lm_folder(folder), self.untrained | trained)
        write_whole(path, to_json(metadata, indent=2) + "\n")


def set_dropout(model: nn.Module, rate: float) -> None:
    """Give every dropout layer of a model this rate."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
