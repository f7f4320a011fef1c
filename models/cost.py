"""What a training step takes: memory by what it is of, and arithmetic, from the sizes of an LM and of a batch.

The bytes of activations were measured on small LMs (`python -m tests.benchmark.memory`, docs/speed.md).
"""

from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from models.linear_cross_entropy import CHUNK_BYTES
from utils.precision import DTYPES, Precision

_KINDS = ("opt", "gpt2")  # LMs of other families are taken for Llamas


@dataclass(frozen=True)
class Activations:
    """Bytes that a training step holds for its backward pass, beside what it holds between steps."""

    per_width: float
    """per token, layer and unit of H, the LM's width"""
    per_feed_forward: float
    """per token, layer and unit of F, the width of the feed-forward part"""
    outside: float
    """per token and unit of H, outside of the layers"""

    def of_layer(self, width: int, feed_forward: int) -> float:
        """Per token and layer."""
        return self.per_width * width + self.per_feed_forward * feed_forward

    def total(self, sizes: "LMSizes", tokens: int, recomputed: bool = False) -> float:
        """Of a step with so many tokens in the LM at once.

        Args:
            sizes: of the LM.
            tokens: of all rows and copies, padding and virtual tokens counted.
            recomputed: with gradient checkpointing, of which each layer keeps its input alone.
        """
        layer = self.of_layer(sizes.width, sizes.feed_forward)
        kept = sizes.layers * layer
        if recomputed:
            kept = layer + sizes.layers * sizes.width * sizes.bytes_per_value
        return tokens * (kept + self.outside * sizes.width)


# (kind, half precision, whether weights of the layers are trained) -> as measured
_MEASURED = {
    ("llama", True, False): Activations(14.0, 6.0, 24.1),
    ("llama", True, True): Activations(24.0, 8.0, 25.1),
    ("llama", False, False): Activations(24.2, 12.0, 28.1),
    ("llama", False, True): Activations(40.2, 16.0, 26.2),
    ("opt", True, False): Activations(10.0, 2.0, 31.9),
    ("opt", True, True): Activations(16.0, 2.0, 29.0),
    ("opt", False, False): Activations(24.2, 4.0, 20.0),
    ("gpt2", True, False): Activations(10.0, 8.0, 19.9),
    ("gpt2", True, True): Activations(16.0, 10.0, 12.9),
    ("gpt2", False, False): Activations(24.2, 16.0, 28.0),
    ("gpt2", False, True): Activations(32.2, 20.0, 22.0),
    ("opt", False, True): Activations(32.2, 4.0, 22.1),
}


@dataclass(frozen=True)
class LMSizes:
    """What the sums need to know of an LM."""

    kind: str
    """llama, opt or gpt2"""
    width: int
    layers: int
    feed_forward: int
    vocabulary: int
    parameters: int
    bytes_per_value: int
    """2 in half precision, else 4"""

    @property
    def in_layers(self) -> int:
        """Parameters of the layers, about: all but the table of the vocabulary, and a head of its own."""
        table = self.vocabulary * self.width
        in_layers = self.layers * (4 * self.width**2 + 2 * self.width * self.feed_forward)
        return self.parameters - (2 if self.parameters - 2 * table > in_layers else 1) * table


def sizes_of(config: PretrainedConfig, precision: Precision) -> LMSizes:
    """The sizes of an LM, from its configuration alone: no memory is taken for its weights."""
    with torch.device("meta"):
        lm = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    names = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size")
    feed_forward = next(
        (value for name in names if isinstance(value := getattr(config, name, None), int)), None
    )
    width = config.hidden_size
    family = config.model_type
    return LMSizes(
        kind=family if family in _KINDS else "llama",
        width=width,
        layers=config.num_hidden_layers,
        feed_forward=feed_forward or 4 * width,
        vocabulary=config.vocab_size,
        parameters=sum(parameter.numel() for parameter in lm.parameters()),
        bytes_per_value=DTYPES[precision].itemsize,
    )


def measured_activations(sizes: LMSizes, trains_layers: bool) -> Activations:
    """What was measured for LMs of this kind.

    Args:
        sizes: give kind and precision.
        trains_layers: whether the layers' weights are trained, for which their inputs are kept.
    """
    half = sizes.bytes_per_value == 2
    return _MEASURED.get((sizes.kind, half, trains_layers), _MEASURED["llama", half, trains_layers])


@dataclass(frozen=True)
class StepSizes:
    """What the sums need to know of a step, of the largest batch."""

    tokens: int
    """positions of all rows, virtual tokens and padding counted, of one copy of the batch"""
    targets: int
    """target tokens of all rows, of one copy"""
    copies: int = 1
    """K, where every row is read after each of K prompts"""
    at_once: int = 1
    """of the copies, how many are in the LM at once (`model.prompts_per_pass`)"""
    recomputed: bool = False
    """gradient checkpointing"""


def step_bytes(
    sizes: LMSizes, activations: Activations, step: StepSizes, trained: int, frozen: int, plain: bool = False
) -> dict[str, float]:
    """Bytes of a training step by what they are of; one process.

    Args:
        sizes: of the LM.
        activations: of its kind and precision, see `measured_activations`.
        step: the batch.
        trained: parameters that are trained.
        frozen: those that are not.
        plain: ZeRO stage 0 in float32, without a second copy of what is trained.
    """
    value = sizes.bytes_per_value
    # the parameter and its gradient; the float32 copy that Adam updates, that copy's gradient, Adam's two moments
    each = 2 * value + (8 if plain else 16)
    logits = min(CHUNK_BYTES, 4 * step.copies * step.targets * sizes.vocabulary)
    return {
        "weights": value * frozen,
        "trained part": each * trained,
        "activations": activations.total(sizes, step.at_once * step.tokens, step.recomputed),
        # hidden states at the targets and gradients, of all copies
        "targets": 4 * value * step.copies * step.targets * sizes.width,
        # of a chunk, in float32, and in half precision with their gradient
        "logits": 2 * logits,
    }


def step_flops(sizes: LMSizes, step: StepSizes, trains_lm: bool = False) -> float:
    """Floating-point operations of a step's matrix products, those of attention left out.

    A product costs two for each weight and token; the backward pass once more for the gradient of its input, and again
    for that of a weight that is trained.
    """
    backward = 4 if trains_lm else 2
    groups = max(1, -(-step.copies // step.at_once))
    again = 2 * (1 if step.recomputed else (groups - 1) / groups)
    layers = step.tokens * sizes.in_layers * (2 + backward + again)
    return step.copies * (layers + step.targets * sizes.vocabulary * sizes.width * (2 + backward))
