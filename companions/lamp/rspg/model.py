"""The scorer of retrieval strategies as something that the trainer trains."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from companions.lamp.encoder import Encoder, load_encoder
from companions.lamp.rspg.batches import ChoiceBatch, official_of
from companions.lamp.rspg.settings import RspgConfig
from companions.lamp.tasks import task_of
from models.feedback import chosen_candidates, feedback_counts, feedback_kl, feedback_reducers
from models.lm.language_model import base_lm_folder
from models.trainable import Figure, StepOutput, Trainable
from models.trained_part import read_trained, trained_metadata, write_trained
from utils.errors import UserError, shown
from utils.runs import METADATA, is_run, trained_file


class Scorer(Trainable):
    """An encoder whose pooled first token goes through a linear layer to one score, strategy by strategy.

    Encoders with local attention, such as Longformer, let the first token attend to the whole input; in the release it
    does not, and sees no further than half a window per layer. An encoder without a pooler gives the first token as it
    is.

    Figures beside the loss, over the questions: `strategy_share` and `strategy_entropy` of the chosen strategy;
    `utility`, the mean of its utilities; `regret`, how much more the best strategy has; `agreement`, how often none has
    more, which is the paper's success rate. In validation also the official metrics of the chosen outputs, of which the
    task's own chooses the best checkpoint.

    Args:
        encoder: to start from.
        config: of the training.
        strategies: R names, in the order of the data.
        head: the linear layer to start from; None: a new one.
    """

    def __init__(
        self,
        encoder: Encoder,
        config: RspgConfig,
        strategies: Sequence[str],
        head: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.config, self.strategies = encoder, config, tuple(strategies)
        self.lm = encoder.model
        self.head = nn.Linear(self.lm.config.hidden_size, 1, device=self.lm.device, dtype=self.lm.dtype)
        if head is not None:
            self.head.load_state_dict(dict(head))
        takes_global = "global_attention_mask" in inspect.signature(self.lm.forward).parameters
        self.global_attention = takes_global and not config.model.released
        task = task_of(config.dataset.task or "")
        metrics = official_of(task)
        self.best = Figure(
            task.scoring.official[0], task.scoring.direction, f"validation {task.scoring.best}"
        )
        self.reducers = {
            **feedback_reducers("strategy"),
            "utility": lambda total, num_examples: {"utility": total.item() / max(1, num_examples)},
            "official": lambda total, num_examples: {**metrics(total.numpy() / max(1, num_examples))},
        }

    def score(self, texts: Sequence[tuple[Tensor, Tensor]], places: Tensor) -> Tensor:
        """Scores in float32.

        Args:
            texts: ids and mask [n, S] of each part.
            places: [R, B] which text, of all parts one after another, is an input.

        Returns:
            [R, B].
        """
        return torch.cat([self.score_texts(ids, mask) for ids, mask in texts]).float()[places]

    def score_texts(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Scores [n] of texts [n, S]."""
        further = {}
        if self.global_attention:
            first = torch.zeros_like(mask)
            first[:, 0] = 1
            further["global_attention_mask"] = first
        output = self.lm(input_ids=ids, attention_mask=mask, **further)
        pooled = getattr(output, "pooler_output", None)
        vectors = output.last_hidden_state[:, 0] if pooled is None else pooled  # [n, H]
        scores: Tensor = self.head(vectors).squeeze(-1)
        return scores

    def loss(self, scores: Tensor, utilities: Tensor) -> Tensor:
        """KL(softmax(utilities / label_temperature) || softmax(scores / temperature)), both [R, B]; mean over B."""
        training = self.config.training
        return feedback_kl(scores, utilities, training.label_temperature, training.temperature)

    def forward(self, batch: ChoiceBatch, progress: float = 0.0) -> StepOutput:
        """The loss of a batch, and what its choices are worth."""
        scores, utilities = self.score(batch.texts, batch.places), batch.utilities
        loss = self.loss(scores, utilities)
        chosen = chosen_candidates(scores)  # [B]
        diagnostics = {
            **feedback_counts(scores, utilities),
            "utility": utilities.gather(0, chosen[None]).sum(),
        }
        if batch.values.shape[-1]:
            questions = torch.arange(len(chosen), device=chosen.device)
            diagnostics["official"] = batch.values[chosen, questions].sum(dim=0)
        return StepOutput(
            total=loss, losses={"kl": loss}, counts={"kl": batch.num_examples}, diagnostics=diagnostics
        )

    def total_loss(self, losses: Mapping[str, Any]) -> Any:
        """There is one."""
        return losses["kl"]

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """One group, with the weight decay of the configuration."""
        (group,) = super().parameter_groups(learning_rate)
        training = self.config.training
        decoupled = training.optimizer == "adamw"
        return [{**group, "weight_decay": training.weight_decay, "decoupled_weight_decay": decoupled}]

    def describe(self) -> list[str]:
        """Type, strategies and encoder."""
        return [
            f"RSPG-{self.config.dataset.rspg_type}: {len(self.strategies)} strategies ({', '.join(self.strategies)}), "
            f"scored by {self.lm.config.model_type} {self.lm.config.name_or_path}"
        ]

    def metadata(self) -> dict[str, Any]:
        """What the scorer must be used with."""
        data = self.config.dataset
        return {
            "method": "rspg",
            "rspg_type": data.rspg_type,
            "task": task_of(data.task or "").option,
            "strategies": list(self.strategies),
            "max_length_input": data.max_length_input,
            "fidelity": self.config.model.fidelity,
            "encoder": self.lm.config.name_or_path,
        }

    def save_trained(self, folder: Path, state: dict[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Write the encoder with its tokenizer to `model/` of the run folder, and the head to `trained.safetensors`.

        Args:
            folder: the run folder, which `load_scorer` takes as it is.
            state: the trained parameters by name, float32.
            metadata: what stands beside them, in `trained.json`.

        Raises:
            UserError: a file cannot be written.
        """
        (folder / METADATA).unlink(
            missing_ok=True
        )  # what is said of one step never stands beside the weights of another
        weights, head = (
            {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}
            for prefix in ("lm.", "head.")
        )
        self.encoder.save(base_lm_folder(folder), weights)
        write_trained(folder, head, metadata)


def scorer_encoder(config: RspgConfig) -> Encoder:
    """The encoder of a scorer, or the one that a new scorer starts from.

    Raises:
        UserError: it cannot be loaded.
    """
    name = config.model.model_name
    return load_encoder(
        name, flag="--model_path FOLDER", precision=config.model.load_bit, with_pooler=is_trained(name)
    )


def load_scorer(config: RspgConfig, encoder: Encoder, strategies: Sequence[str]) -> Scorer:
    """The scorer that `model.model_name` names: a trained one, or one with a new head.

    Args:
        config: of the run.
        encoder: see `scorer_encoder`.
        strategies: those of the data.

    Raises:
        UserError: it cannot be read, or was trained for something else.
    """
    name = config.model.model_name
    if not is_trained(name):
        return Scorer(encoder, config, strategies)
    _check_use(read_metadata(Path(name)), config, strategies, name)
    head, source = read_trained(Path(name))
    width = encoder.model.config.hidden_size
    if {key: tuple(value.shape) for key, value in head.items()} != {"weight": (1, width), "bias": (1,)}:
        raise UserError(f"{source}: not the head of a scorer with {width} inputs")
    return Scorer(encoder, config, strategies, head)


def is_trained(name: str) -> bool:
    """Whether a name is the run folder of a trained scorer."""
    return is_run(Path(name)) and trained_file(Path(name)) is not None


def read_metadata(run: Path) -> dict[str, Any]:
    """What stands beside a trained scorer.

    Raises:
        UserError: nothing does, or the run is no scorer.
    """
    path, found = run / METADATA, trained_metadata(run)
    if found.get("method") != "rspg":
        raise UserError(f"{path}: {run} is no scorer of RSPG")
    names, length = found.get("strategies"), found.get("max_length_input")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: 'strategies' is {shown(names)}, expected a list of names")
    if not isinstance(length, int) or length < 1:
        raise UserError(f"{path}: 'max_length_input' is {shown(length)}, expected a number of tokens")
    if found.get("fidelity") not in ("paper", "released_code"):
        raise UserError(f"{path}: 'fidelity' is {shown(found.get('fidelity'))}")
    return found


def _check_use(metadata: Mapping[str, Any], config: RspgConfig, strategies: Sequence[str], name: str) -> None:
    data = config.dataset
    uses = {
        "rspg_type": data.rspg_type,
        "task": task_of(data.task or "").option,
        "strategies": list(strategies),
        "fidelity": config.model.fidelity,
        "max_length_input": data.max_length_input,
    }
    for key, wanted in uses.items():
        if metadata.get(key) != wanted:
            raise UserError(
                f"{name}: it was trained with {key} {shown(metadata.get(key))}, not {shown(wanted)}"
            )
