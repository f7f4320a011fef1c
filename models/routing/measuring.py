"""What every prompt of a trained model costs on every example of a file, beside what a router may see of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from dataset.encoded import dialogues_of, lengths_of
from dataset.sampler import BatchSampler
from models.conversation import ConversationModel
from models.decoding.batch_size import FIXED, within_memory
from models.decoding.decode import decoding_batches
from models.decoding.generation import choose_prompts
from models.decoding.settings import SEED
from models.decoding.texts import DecodingTexts, text_encoder
from models.lm.cpu_decoding import fast_on_cpu
from models.reading import make_collator
from models.routing.features import context_features
from models.settings import Config
from utils.errors import UserError

_BATCH = 64  # examples; one prompt after another is read before them


@dataclass(frozen=True, slots=True)
class Measured:
    """n examples of a file under each of K prompts."""

    losses: np.ndarray  # [K, n] float64: cross-entropy of response and eos, summed over their tokens, in nats
    tokens: np.ndarray  # [n] int64: how many these are
    context: np.ndarray  # [n, C] float64: `context_features`
    turns: np.ndarray  # [n] int64: which of the speaker's responses in its dialogue, from 0
    dialogues: np.ndarray  # [n] int64
    choice: np.ndarray  # [n] int64: what test.py would choose

    def part(self, where: np.ndarray) -> "Measured":
        """The examples at some places, or where a mask is true."""
        rest = (self.tokens, self.context, self.turns, self.dialogues, self.choice)
        return Measured(self.losses[:, where], *(values[where] for values in rest))


@torch.inference_mode()
def measure(
    model: ConversationModel, config: Config, encoded: DecodingTexts, device: torch.device, what: str
) -> Measured:
    """Read every example after every prompt, and once without any.

    Args:
        model: with K > 1 prompts, in evaluation mode.
        config: its configuration.
        encoded: the examples, with and without their responses.
        device: where the model is.
        what: the file in words, for the progress bar and for messages.

    Raises:
        UserError: a loss is no number, or memory is too small.
    """
    texts, targets = encoded.texts, encoded.targets
    collator = make_collator(text_encoder(model, config), config, decoding=True)
    count, num_prompts = len(texts), model.num_prompts
    losses = np.zeros((num_prompts, count))
    tokens = np.zeros(count, dtype=np.int64)
    context: list[np.ndarray] = [np.empty(0)] * count
    choice = np.zeros(count, dtype=np.int64)

    def read(numbers: Sequence[int]) -> None:
        examples = [targets[number] for number in numbers]
        # a prompt that depends on the text itself stands before no other text
        groups = None if model.reads_query else [example.dialogue for example in examples]
        batch = collator.train(examples, groups).to(device)
        query = collator.inference([texts[number] for number in numbers]).to(device).query
        for prompt in range(num_prompts):
            every = torch.full((len(numbers),), prompt, device=device)
            prompts = model.prompts_for(every, len(numbers), query)  # [B, V, D]
            if prompts is None:
                raise RuntimeError(
                    f"{model.config.model.model_type}: {num_prompts} prompts, and none to read"
                )
            hidden = model.hidden_with(batch, prompts[batch.example_of_row])[0]  # [N, H]
            sums, counts = model.summed_losses(hidden, batch)
            losses[prompt, numbers] = sums.cpu().numpy()
            tokens[numbers] = counts.cpu().numpy()
        features = context_features(model.lm, [texts[number] for number in numbers], device)
        for number, values in zip(numbers, features.cpu().numpy(), strict=True):
            context[number] = values

    def choose(numbers: Sequence[int]) -> None:
        batch = collator.inference([texts[number] for number in numbers]).to(device)
        own = choose_prompts(model, batch, seed=SEED)[1]
        if own is not None:
            choice[numbers] = own.cpu().numpy()

    groups = BatchSampler(
        lengths_of(targets), dialogues_of(targets), _BATCH, shuffle=False, whole_dialogues=True
    )
    with fast_on_cpu(model.lm):
        _work(list(groups), read, what, count)
        # in the batches of test.py, as the release's retriever reads their padding
        _work(decoding_batches(texts, FIXED, collator.reads_padding), choose)
    if not np.isfinite(losses).all():
        raise UserError(
            f"{what}: the LM's losses are no finite numbers with every prompt; its weights or the trained part are "
            "damaged, or the precision is too narrow for this LM (try --set model.load_bit=32)"
        )
    turns = np.array([text.turn for text in texts])
    return Measured(losses, tokens, np.stack(context), turns, dialogues_of(texts), choice)


def _work(
    batches: Sequence[Sequence[int]], work: Callable[[Sequence[int]], None], what: str = "", count: int = 0
) -> None:
    with tqdm(total=count, desc=what, unit="ex", disable=not what, mininterval=0.5) as bar:
        for done in within_memory(batches, work, may_halve=True):
            bar.update(done)
