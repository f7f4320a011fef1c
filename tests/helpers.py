"""What several test modules do with a configuration: encode examples, make batches, build the model."""

from collections.abc import Sequence

from dataset.batch import Batch, InferenceBatch
from dataset.dialogue import Example
from dataset.encoding import EncodedExample, ExampleEncoder
from dataset.loading import make_collator
from models.conversation import ConversationModel
from models.registry import build_model, build_tokenizer
from utils.schema import Config


def model_of(config: Config) -> ConversationModel:
    """The model of a configuration, in evaluation mode."""
    return build_model(config, build_tokenizer(config)).eval()


def encoded(model: ConversationModel, examples: Sequence[Example], response: bool) -> list[EncodedExample]:
    """Encoded examples under the model's own configuration."""
    return ExampleEncoder(model.tokenizer, model.config).encode(examples, with_response=response)


def train_batch(model: ConversationModel, examples: Sequence[Example], decoding: bool = False) -> Batch:
    """One training batch; `decoding` asks for a row per example and no pairs."""
    collator = make_collator(ExampleEncoder(model.tokenizer, model.config), model.config, decoding)
    return collator.train(encoded(model, examples, response=True))


def inference_batch(model: ConversationModel, examples: Sequence[Example]) -> InferenceBatch:
    """One left-padded decoding batch."""
    collator = make_collator(ExampleEncoder(model.tokenizer, model.config), model.config, decoding=True)
    return collator.inference(encoded(model, examples, response=False))
