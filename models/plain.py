"""An LM trained by its token losses alone: no choice of prompt."""

from dataset.batch import Batch
from models import losses as L
from models.conversation import ConversationModel
from models.trainable import StepOutput


class PlainModel(ConversationModel):
    """L_LLM on whatever parameters ask for a gradient."""

    def forward(self, batch: Batch, progress: float = 0.0) -> StepOutput:
        """Mean token cross-entropy of the targets."""
        hidden = self.hidden_with(batch, self.prompts_for(None, batch.input_ids.shape[0]))
        token_losses = self.token_losses(hidden, batch)  # [1, N]
        loss = L.llm_loss(token_losses)
        return StepOutput(loss, {"llm": loss}, {"llm": token_losses.numel()})
