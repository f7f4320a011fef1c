"""A model type as one bundle: everything that depends on the type stands here, and nowhere else."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import create_model
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from dataset.similarity import PairLabels
from models.conversation import ConversationModel
from models.settings import Config
from models.text_format import TextFormat
from utils.config.schema import Section, composed


def _nothing(*_: Any) -> None:
    return None


class StoredSize(NamedTuple):
    """A size that a few bytes of a configuration can make large, beside the one that the trained part has."""

    key: str
    """of the configuration"""
    asked: int
    stored: int


@dataclass(frozen=True, slots=True)
class ModelType:
    """How a model type is configured, built and read back. Whether it is trained, its parameters say.

    The functions get the type's own configuration, an instance of `config_class()`.
    """

    config: type[Config]
    """its keys: a subclass of `Config`"""
    build: Callable[[Any, PreTrainedTokenizerBase], ConversationModel]
    """(configuration, tokenizer) -> the model"""
    make_tokenizer: Callable[[Any], PreTrainedTokenizerBase] | None = None
    """(configuration) -> tokenizer; None: that of the base LM"""
    texts: TextFormat = TextFormat()
    """which examples a file gives, how they become ids and batches, where a reply ends; SPT's"""
    training_sections: Callable[[], Sequence[type[Section]]] = tuple
    """further sections of `training`, such as those of its losses; asked when a configuration is read"""
    pair_labels: Callable[[Any], PairLabels | None] = _nothing
    """(configuration) -> what labels the pairs of examples of a training batch; None: no loss asks for labels"""
    stored_sizes: Callable[[Any, Mapping[str, Tensor]], list[StoredSize]] = lambda config, state: []
    """(configuration, trained part) -> sizes to compare before memory is taken for them"""
    decoded_as: Callable[[Any, Path], Config] | None = None
    """(configuration, run folder) -> the configuration that the run replies under; None: its own"""

    def config_class(self) -> type[Config]:
        """The whole configuration of the type."""
        return _with_training(self.config, tuple(self.training_sections()))


@cache  # instances of two classes are never equal
def _with_training(config: type[Config], further: tuple[type[Section], ...]) -> type[Config]:
    """A configuration whose section `training` has the keys of further sections too."""
    if not further:
        return config
    own: Any = config.model_fields["training"].annotation
    training: Any = composed("Training", [own, *further])
    return create_model(config.__name__, __base__=config, training=(training, training()))
