"""Checks of a configuration on dialogues: its base LM, its files, and the largest batch that they make."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerBase

from dataset.batch import Batch
from dataset.dialogue import Example
from dataset.encoding import EncodedExample
from dataset.inspection import (
    Lengths,
    length_findings,
    measure_lengths,
    silence_findings,
    text_findings,
)
from dataset.loading import make_sampler
from dataset.overlap import overlap_of
from models.conversation import ConversationModel
from models.cost import LMSizes, sizes_of
from models.lm.at_hand import BaseLM
from models.lm.families import check_family, longest_input
from models.lm.language_model import local_only
from models.reading import make_collator, make_encoder, texts_of
from models.registry import build_model, build_tokenizer
from models.settings import Config
from utils.errors import UserError, first_line
from utils.findings import Finding, size

_NO_LIMIT = 10**6  # tokens


@dataclass
class Checkup:
    """What the checks of a configuration have found out so far; each adds to it.

    Args:
        config: in the precision that this device has.
    """

    config: Config
    lm: BaseLM = field(init=False)
    sizes: LMSizes | None = None
    """of the LM; None: unknown"""
    tokenizer: PreTrainedTokenizerBase | None = None
    model: ConversationModel | None = None
    """None: it could not be built, or there is no room for it"""
    limit: int | None = None
    """positions of the LM beside the prompt; None: no limit is known"""
    texts: dict[bool, list[Example]] = field(default_factory=dict)
    """of the training file (True) and of the validation file"""
    encoded: dict[bool, list[EncodedExample]] = field(default_factory=lambda: {True: [], False: []})
    """the same, as training has them"""

    def __post_init__(self) -> None:
        self.lm = BaseLM(self.config.model.base_lm)

    def lm_findings(self, memory: int) -> Iterator[Finding]:
        """Where the LM is, what it is; it is loaded where its files are here and memory has room for its weights.

        Args:
            memory: bytes that may be taken.
        """
        yield from self.lm.findings()
        if self.lm.name is None:
            yield from self._built()
            return
        if self.lm.folder is None and not self.lm.to_download:
            return
        source = str(self.lm.folder or self.lm.name)
        try:
            lm_config = AutoConfig.from_pretrained(
                source, local_files_only=local_only(source), trust_remote_code=False
            )
            check_family(lm_config, source)
            self.sizes = sizes_of(lm_config, self.config.model.load_bit)
            self.tokenizer = build_tokenizer(self.config)
        except UserError as error:
            yield Finding("FAIL", "base LM", str(error))
            return
        except Exception as error:  # the libraries below raise many kinds
            yield Finding(
                "FAIL", "base LM", f"{source}: its configuration cannot be read: {first_line(error)}"
            )
            return
        self._set_limit(lm_config)
        weights = self.sizes.parameters * self.sizes.bytes_per_value
        yield Finding(
            "ok", "LM", f"{lm_config.model_type}, {self.sizes.parameters:,} parameters, {size(weights)}"
        )
        if self.lm.folder is None:
            return
        if 1.2 * weights > memory:
            text = (
                f"{size(weights)} of weights do not fit into {size(memory)}; load_bit 16 or bf16 halves them"
            )
            yield Finding("FAIL", "model", text)
            return
        yield from self._built()

    def _built(self) -> Iterator[Finding]:
        try:
            self.tokenizer = self.tokenizer or build_tokenizer(self.config)
            self.model = build_model(self.config, self.tokenizer)
            self.limit = self.model.text_limit(0)
        except UserError as error:
            yield Finding("FAIL", "model", str(error))
            return
        self.sizes = self.sizes or sizes_of(self.model.lm.model.config, self.config.model.load_bit)
        trained = sum(value.numel() for value in self.model.parameters() if value.requires_grad)
        text = f"{self.model.describe()[0]}, {trained:,} parameters are trained"
        yield Finding(
            "ok" if trained else "warn", "model", text if trained else f"{text}: there is nothing to train"
        )

    def _set_limit(self, lm_config: PretrainedConfig) -> None:
        prompt = getattr(getattr(self.config.model, "peft_config", None), "num_virtual_tokens", 0)
        positions = longest_input(lm_config)
        self.limit = None if positions is None else positions - prompt

    def file_findings(self, training: bool) -> Iterator[Finding]:
        """What the training or the validation file holds, and whether it fits; both are read, none is kept encoded."""
        config = self.config
        path = config.dataset.train if training else config.dataset.valid
        try:
            examples = self._read(training)
        except UserError as error:
            yield Finding("FAIL", "file", str(error))
            return
        yield Finding("ok", "file", f"{path}, as {config.dataset.format}")
        yield from text_findings(examples, texts_of(config).cut)
        if self.tokenizer is None:
            yield Finding("warn", "tokens", "lengths and truncation are not known without the LM's tokenizer")
            return
        try:
            lengths = self._lengths(examples)
        except UserError as error:
            yield Finding("FAIL", "tokens", str(error))
            return
        limit = make_encoder(self.tokenizer, config, self.limit).max_tokens
        yield from length_findings(lengths, limit)
        self.encoded[training] = lengths.encoded

    def overlap_findings(self) -> Iterator[Finding]:
        """What the validation file has in common with the training file, and what it has not."""
        try:
            train, valid = self._read(True), self._read(False)
        except UserError:  # told by `file_findings`
            return
        overlap = overlap_of(train, valid)
        data = self.config.dataset
        warning = overlap.warning(data.train, data.valid)
        if warning:
            yield Finding("warn", "overlap", warning)
        else:
            yield Finding("ok", "overlap", "no dialogue of the validation file stands in the training file")
        if overlap.personas:
            text = f"{overlap.personas:,} of {overlap.num_dialogues:,} validation dialogues have a persona of training"
            yield Finding("warn", "personas", f"{text}: they measure nothing about new personas")
        yield from silence_findings(train, valid)

    def _read(self, training: bool) -> list[Example]:
        config = self.config
        if training not in self.texts:
            path = config.dataset.train if training else config.dataset.valid
            ratio = config.training.training_ratio if training else 1.0
            read = texts_of(config).read_examples
            self.texts[training] = read(path, config, ratio, config.training.only_longest)
        return self.texts[training]

    def _lengths(self, examples: Sequence[Example]) -> Lengths:
        assert self.tokenizer is not None
        whole = self.config.replaced({"dataset": {"max_token_length": _NO_LIMIT}})
        return measure_lengths(
            examples,
            make_encoder(self.tokenizer, whole),
            make_encoder(self.tokenizer, self.config, self.limit),
        )

    def batches(self, training: bool) -> list[list[int]]:
        """The batches of an epoch on one rank, as places in `encoded`."""
        encoded = self.encoded[training]
        return make_sampler(encoded, self.config.training, training).batches if encoded else []

    def work(self, training: bool, numbers: Sequence[int]) -> int:
        """Positions of a batch's rows, padding and prompt counted, before it is made; of one copy."""
        encoded = self.encoded[training]
        longest = max(len(encoded[number].ids) for number in numbers)
        shares = self.config.training.rows == "dialogue"
        rows = len({encoded[number].dialogue for number in numbers}) if shares else len(numbers)
        return rows * (longest + self.num_virtual_tokens)

    def targets(self, training: bool, numbers: Sequence[int]) -> int:
        """Target tokens of a batch."""
        encoded = self.encoded[training]
        return sum(stop - start for number in numbers for start, stop in encoded[number].targets)

    def batch(self, training: bool, numbers: Sequence[int]) -> Batch:
        """A batch as training makes it."""
        assert self.tokenizer is not None
        encoded = self.encoded[training]
        encoder = make_encoder(self.tokenizer, self.config, self.limit)
        collator = make_collator(encoder, self.config, label_pairs=training)
        return collator.train([encoded[number] for number in numbers])

    @property
    def num_virtual_tokens(self) -> int:
        """V."""
        if self.model is not None:
            return self.model.num_virtual_tokens
        return int(getattr(getattr(self.config.model, "peft_config", None), "num_virtual_tokens", 0))

    @property
    def copies(self) -> tuple[int, int]:
        """K, and how many of the K copies of a batch are in the LM at once; 1 without soft prompts."""
        model: Any = self.config.model
        prompts = getattr(model, "copies", getattr(model, "K", 1))
        together = getattr(model, "prompts_per_pass", None) or prompts
        return prompts, together
