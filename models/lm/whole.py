"""Runs that keep their whole LM in the Hugging Face format, where later runs find it as their `model.model_name`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from models.conversation import ConversationModel
from models.lm.language_model import save_language_model
from utils.errors import UserError


class WholeLM(ConversationModel):
    """A model of which every parameter is the LM's."""

    trained_further_by: str = "use"
    """how the message to `--ckpt_path` leads to `--set model.model_name`"""

    def read_trained(self, run: Path) -> tuple[dict[str, Tensor], Path]:
        """Refused: there is no trained part beside the LM.

        Raises:
            UserError: always.
        """
        raise UserError(
            f"--ckpt_path {run}: such a run keeps its whole LM; to train it further, {self.trained_further_by} "
            f"--set model.model_name={run}"
        )

    def save_trained(self, folder: Path, state: dict[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Write the LM and its tokenizer to a folder of the run folder; there is no file for `metadata`.

        Args:
            folder: the run folder.
            state: every parameter, float32; what is written has the LM's own precision.
            metadata: not used.

        Raises:
            UserError: it cannot be written; an earlier LM is as it was.
        """
        save_language_model(folder, self.lm, self.tokenizer, state)
