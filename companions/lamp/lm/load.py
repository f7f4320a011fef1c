"""Loading an LM of either kind with its tokenizer, and writing it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    MinLengthLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RepetitionPenaltyLogitsProcessor,
)
from transformers.utils import logging as transformers_logging

from companions.lamp.lm.beam_search import BeamSettings, Processor
from companions.lamp.lm.kinds import DecoderOnly, EncoderDecoder, Kind
from companions.lamp.lm.shared_keys import share_keys
from companions.lamp.loading import load_pretrained
from models.lm.families import check_family, longest_input
from models.onednn import use_onednn
from utils.errors import UserError
from utils.folders import write_folder
from utils.precision import Precision

# what a generation_config.json may ask for beside what `LM.search` reads; outputs would differ from the LM's own
_NOT_SEARCHED = (
    "bad_words_ids sequence_bias suppress_tokens begin_suppress_tokens encoder_repetition_penalty "
    "encoder_no_repeat_ngram_size min_new_tokens constraints force_words_ids"
).split()


@dataclass(frozen=True)
class LM:
    """An LM with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    kind: Kind
    name: str

    @property
    def has_encoder(self) -> bool:
        """An encoder reads the prompt."""
        return isinstance(self.kind, EncoderDecoder)

    def search(self, num_beams: int, max_length: int) -> BeamSettings:
        """How its outputs are searched for: its own generation_config.json counts, but for beams and length.

        Args:
            num_beams: outputs that are followed at a time.
            max_length: tokens of an output, with the one that it starts with.
        """
        own = self.model.generation_config
        eos = own.eos_token_id if own.eos_token_id is not None else self.tokenizer.eos_token_id
        eos_ids = tuple(eos if isinstance(eos, list) else [] if eos is None else [eos])
        plain = BeamSettings(num_beams, max(1, max_length - 1), eos_ids, self.kind.start_id)
        if not self.has_encoder:  # as everywhere in this project
            return plain
        return BeamSettings(
            num_beams,
            plain.max_tokens,
            eos_ids,
            self.kind.start_id,
            length_penalty=1.0 if own.length_penalty is None else own.length_penalty,
            early_stopping=own.early_stopping or False,
            processors=self._processors(own, eos_ids, max_length),
        )

    def _processors(self, own: Any, eos_ids: tuple[int, ...], max_length: int) -> tuple[Processor, ...]:
        """What changes the probabilities, in the library's order."""
        asked = [key for key in _NOT_SEARCHED if getattr(own, key, None) not in (None, 0, 1.0, [], {})]
        if asked:
            raise UserError(f"{self.name}: '{asked[0]}' of its generation_config.json is not supported")
        found: list[Any] = []
        if own.repetition_penalty not in (None, 1.0):
            found.append(RepetitionPenaltyLogitsProcessor(own.repetition_penalty))
        if own.no_repeat_ngram_size:
            found.append(NoRepeatNGramLogitsProcessor(own.no_repeat_ngram_size))
        if own.min_length and eos_ids:
            found.append(MinLengthLogitsProcessor(own.min_length, list(eos_ids), str(self.model.device)))
        if own.forced_bos_token_id is not None:
            found.append(ForcedBOSTokenLogitsProcessor(own.forced_bos_token_id))
        if own.forced_eos_token_id is not None:
            found.append(
                ForcedEOSTokenLogitsProcessor(max_length, own.forced_eos_token_id, str(self.model.device))
            )
        return tuple(found)

    def check_lengths(self, source: int, output: int) -> None:
        """Whether prompts and outputs of these lengths in tokens have positions.

        Raises:
            UserError: they have not.
        """
        limit, wanted = longest_input(self.model.config), source if self.has_encoder else source + output
        if limit is not None and max(wanted, output) > limit:
            together = "" if self.has_encoder else f" and --generation_max_length {output} together"
            raise UserError(
                f"{self.name}: --max_length {source}{together} are more than its {limit} positions"
            )

    def to(self, device: torch.device) -> "LM":
        """Move the LM to a device."""
        nn.Module.to(self.model, device)
        return self

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write LM and tokenizer in the Hugging Face form, in the place of an earlier one.

        Args:
            folder: what is written.
            state: values of the parameters by name; what is written has the LM's own precision.

        Raises:
            UserError: it cannot be written; an earlier one is as it was.
        """
        # tied weights stay one tensor: the library writes it once, under the name that it looks for
        values = {
            id(parameter): state[name].to(parameter.dtype)
            for name, parameter in self.model.named_parameters()
        }
        content = self.model.state_dict()  # buffers too
        for name, parameter in self.model.named_parameters(remove_duplicate=False):
            content[name] = values[id(parameter)]

        def fill(part: Path) -> None:
            self.model.save_pretrained(part, state_dict=content)
            self.tokenizer.save_pretrained(part)

        write_folder(folder, fill)


def load_lm(name: str, precision: Precision = 32, flag: str = "--model_name FOLDER") -> LM:
    """An LM in evaluation mode on the CPU.

    Args:
        name: of the Hugging Face hub, or a folder: one in the Hugging Face form, or a run with such a folder in it.
        precision: of its weights.
        flag: what gives another one, for messages.

    Raises:
        UserError: it cannot be loaded, lacks weights, or is of a family that is not supported.
    """
    transformers_logging.disable_progress_bar()

    def class_of(config: Any) -> type[AutoModelForSeq2SeqLM] | type[AutoModelForCausalLM]:
        if config.is_encoder_decoder:
            return AutoModelForSeq2SeqLM
        check_family(config, name)
        return AutoModelForCausalLM

    model, tokenizer = load_pretrained("LM", name, flag, precision, class_of)
    use_onednn(model)
    return made_lm(model, tokenizer, name)


def made_lm(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> LM:
    """An LM of what has been loaded.

    Raises:
        UserError: the family is not supported.
    """
    config = model.config
    share_keys(model)
    first = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id, 0)
    pad_id = next(token for token in first if token is not None)
    if config.is_encoder_decoder:
        own = getattr(model.generation_config, "decoder_start_token_id", None)
        starts = (own, getattr(config, "decoder_start_token_id", None), tokenizer.bos_token_id, pad_id)
        kind: Kind = EncoderDecoder(model, next(token for token in starts if token is not None), pad_id)
    else:
        head = model.get_output_embeddings()
        if not isinstance(head, nn.Linear) or head.bias is not None:
            raise UserError(f"{name}: only LMs with a linear head without bias are supported")
        starts = (tokenizer.bos_token_id, tokenizer.eos_token_id, pad_id)
        kind = DecoderOnly(model, next(token for token in starts if token is not None), pad_id)
    return LM(model.eval(), tokenizer, kind, name)
