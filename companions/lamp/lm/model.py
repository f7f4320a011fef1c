"""The LM as something that the trainer trains: the loss of the gold outputs, and the task's metrics in validation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from companions.lamp.lm.beam_search import BeamSettings, beam_search
from companions.lamp.lm.examples import Example
from companions.lamp.lm.load import LM
from companions.lamp.lm.settings import LMTrainingSettings
from companions.lamp.metrics import OutputError, training_metrics
from companions.lamp.tasks import Task
from models.lm.language_model import base_lm_folder
from models.trainable import Figure, StepOutput, Trainable
from utils.errors import UserError
from utils.files import to_json, write_whole
from utils.runs import METADATA

_NONE = -1  # stands after an output's last token


@dataclass(frozen=True)
class AnswerBatch:
    """Examples with their places in the file; the LM's tensors are made on its device."""

    examples: tuple[Example, ...]
    indices: Tensor  # [B]

    @property
    def num_examples(self) -> int:
        """B."""
        return len(self.examples)

    def to(self, device: torch.device) -> "AnswerBatch":
        """The same batch."""
        return self


class AnsweringModel(Trainable):
    """An LM that learns to give the gold outputs; every parameter is trained.

    A validation row has the task's training-time metrics, of outputs that the LM writes as it does when it is
    evaluated; one of them chooses the best checkpoint.

    Args:
        lm: the LM.
        task: gives the metrics.
        search: how outputs are made.
        settings: weight decay and epsilon.
        released: metrics of the benchmark's code, bug for bug.
    """

    def __init__(
        self,
        lm: LM,
        task: Task,
        search: BeamSettings,
        settings: LMTrainingSettings | None = None,
        released: bool = False,
    ) -> None:
        super().__init__()
        self.lm, self.language_model, self.task, self.search = lm.model, lm, task, search
        self.settings, self.released = settings or LMTrainingSettings(), released
        self.lm.requires_grad_(True)
        scoring = task.scoring
        self.best = Figure(scoring.best, scoring.direction, f"validation {scoring.best}")

    def forward(self, batch: AnswerBatch, progress: float = 0.0) -> StepOutput:
        """Mean cross-entropy of the target tokens; in evaluation mode the outputs' token ids, too."""
        kind = self.language_model.kind
        read = kind.read([example.source for example in batch.examples])
        losses, _ = kind.token_losses(read, [example.target for example in batch.examples])
        count = len(losses)
        loss = losses.sum() / max(1, count)
        outputs = None
        if not self.training:
            # read again where nothing is shared; [B, F]
            outputs = self._rows(beam_search(kind.decoder(read), self.search, every_step=kind.is_sharded))
        return StepOutput(loss, {"llm": loss}, {"llm": count}, per_example=outputs)

    def total_loss(self, losses: Mapping[str, Any]) -> Any:
        """There is one; the metrics beside it are none."""
        return losses["llm"]

    def file_losses(self, outputs: Tensor, examples: Sequence[Any]) -> dict[str, Tensor]:
        """The task's metrics of a whole file, from the token ids [n, F] of its outputs.

        Raises:
            UserError: a gold output that cannot be scored.
        """
        ids = [[token for token in row if token != _NONE] for row in outputs.long().tolist()]
        texts = self.language_model.tokenizer.batch_decode(ids, skip_special_tokens=True)
        golds = [examples[number][1].gold or "" for number in range(len(examples))]
        try:
            metrics = training_metrics(self.task, texts, golds, self.released)
        except OutputError as error:
            question = examples[error.index][1].question
            raise UserError(f"validation question '{question}': {error}") from None
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in metrics.items()}

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """With weight decay, and without: biases and the parameters of norms."""
        plain = {
            id(parameter)
            for module in self.modules()
            for name, parameter in module.named_parameters(recurse=False)
            if "bias" in name or _is_norm(module)
        }
        plain |= {id(parameter) for name, parameter in self.named_parameters() if "bias" in name}
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for parameter in self.parameters():
            groups[id(parameter) not in plain].append(parameter)
        return [
            {
                "params": parameters,
                "weight_decay": self.settings.weight_decay if decays else 0.0,
                "decoupled_weight_decay": True,
                "eps": self.settings.adam_epsilon,
            }
            for decays, parameters in groups.items()
        ]

    def describe(self) -> list[str]:
        """Task and LM."""
        return [f"{self.task.option}: {self.lm.config.model_type} {self.language_model.name}"]

    def metadata(self) -> dict[str, Any]:
        """The task, and the LM that was started from."""
        return {"task": self.task.name, "model_name": self.language_model.name}

    def read_trained(self, run: Path) -> tuple[dict[str, Tensor], Path]:
        """Refused: such a run keeps the whole LM, which later runs name as their `model.model_name`.

        Raises:
            UserError: always.
        """
        raise UserError(f"{run}: to train this LM further, give it as --model_name {run}")

    def save_trained(self, folder: Path, state: dict[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Write the LM with its tokenizer to `model/` of the run folder, in the Hugging Face form.

        Args:
            folder: the run folder, which `load_lm` takes as it is.
            state: the trained parameters by name, float32.
            metadata: what stands beside them, in `trained.json`.

        Raises:
            UserError: it cannot be written; an earlier LM is as it was.
        """
        path = folder / METADATA
        path.unlink(missing_ok=True)  # what is said of one step never stands beside the weights of another
        weights = {name.removeprefix("lm."): value for name, value in state.items()}
        self.language_model.save(base_lm_folder(folder), weights)
        write_whole(path, to_json(metadata, indent=2) + "\n")

    def _rows(self, outputs: Sequence[Sequence[int] | None]) -> Tensor:
        """Token ids [B, F] in float32, which holds whole numbers up to 2**24 exactly."""
        width = self.search.max_tokens
        rows = [[*(output or []), *[_NONE] * (width - len(output or []))] for output in outputs]
        return torch.tensor(rows, dtype=torch.float32, device=self.lm.device)


def _is_norm(module: nn.Module) -> bool:
    """Layer norms have names of their own in every family."""
    return "norm" in type(module).__name__.lower()
