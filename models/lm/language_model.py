"""The causal LM: loading, freezing, and the two halves that a step needs (hidden states, head)."""

import hashlib
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import cast

from huggingface_hub import HfApi, snapshot_download
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    Cache,
    DynamicCache,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.cache_utils import CacheLayerMixin
from transformers.modeling_layers import GradientCheckpointingLayer

from models.lm.cpu_attention import use_cpu_attention
from models.lm.families import check_family, longest_input
from models.lm.partitioned import load_partitioned
from models.settings import LMSettings
from utils.errors import UserError, first_line, shown
from utils.folders import write_folder
from utils.partitioning import partitioning, whole_shape
from utils.precision import DTYPES
from utils.pretrained_files import check_pretrained, check_sizes, weight_files
from utils.runs import WHOLE_MODEL

_MODEL_FLAG = "--set model.model_name=FOLDER"
_OLD_BUFFER = ".masked_bias"  # a constant that earlier releases of transformers wrote among a layer's weights


class LanguageModel(nn.Module):
    """A Hugging Face causal LM with logits computed where they are asked for, and nowhere else.

    Args:
        model: a decoder of a family in models/lm/families.py whose head is linear without bias.
        frozen: no parameter is trained, and dropout stays off.

    Raises:
        UserError: the family is not supported, the head has a bias, or the LM scales or caps its logits.
    """

    model: PreTrainedModel
    frozen: bool

    def __init__(self, model: PreTrainedModel, frozen: bool = True) -> None:
        super().__init__()
        check_family(model.config, model.config.name_or_path or "the LM")
        head = model.get_output_embeddings()
        if not isinstance(head, nn.Linear) or head.bias is not None:
            raise UserError(
                f"{model.config.model_type}: only LMs with a linear head without bias are supported"
            )
        # what the LM's generation_config.json asks for would be filled in wherever `generate` is told nothing
        model.generation_config = GenerationConfig()
        model.config.return_dict = True  # a config.json may ask for tuples
        self.model = model
        self.frozen = frozen
        # asked once: ZeRO stage 3 takes the weights apart, and their shapes with them
        self.width: int = whole_shape(model.get_input_embeddings().weight)[1]
        """D, the width of the token embeddings (OPT-350M: 512, its hidden width is 1024)"""
        model.requires_grad_(not frozen)
        self.train(self.training)
        use_cpu_attention()

    def train(self, mode: bool = True) -> "LanguageModel":
        """Keep a frozen LM in evaluation mode: its dropout would be noise that nothing learns from.

        Layers that recompute their activations do so in training mode only, so these alone are told.
        """
        super().train(mode and not self.frozen)
        for layer in self.modules():
            if self.frozen and isinstance(layer, GradientCheckpointingLayer) and layer.gradient_checkpointing:
                layer.training = mode
                if isinstance(getattr(layer, "dropout", None), float):
                    # nn.Module's __setattr__ is annotated for tensors and modules only
                    layer.dropout = 0.0  # type: ignore[assignment]
        return self

    @property
    def max_positions(self) -> int | None:
        """The longest input in tokens, or None when the LM sets no limit."""
        return longest_input(self.model.config)

    @property
    def attention_note(self) -> str | None:
        """A sentence where the library has no fused attention (SDPA) for this family, which it takes where it can."""
        if self.model.config._attn_implementation != "eager":
            return None
        return f"attention of {self.model.config.model_type}: eager, as the library has no fused one for it"

    @property
    def embedding_weight(self) -> Tensor:
        """[Vocab, D]."""
        return self.model.get_input_embeddings().get_parameter("weight")

    @property
    def head_weight(self) -> Tensor:
        """[Vocab, H]."""
        return self.model.get_output_embeddings().weight

    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings [*, D] of ids [*]."""
        return self.model.get_input_embeddings()(ids)

    def hidden(self, embeddings: Tensor, cache: Cache | None = None) -> Tensor:
        """Last hidden states [R, S, H] of embeddings [R, S, D], after the keys and values of `cache`.

        No attention mask: rows are padded on the right, and causal attention never looks there. Without a
        mask the fast attention kernels apply.
        """
        return self.model.base_model(
            inputs_embeds=embeddings, past_key_values=cache, use_cache=cache is not None
        ).last_hidden_state

    def read(self, embeddings: Tensor, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """Last hidden states [R, S, H] of right-padded embeddings [R, S, D], and keys and values after `cache`'s own.

        All positions are kept, also in layers that attend to a window only: a shorter text that uses the row
        needs the window before its own end.
        """
        # without the LM's config: no layer drops positions
        cache = DynamicCache() if cache is None else cache
        output = self.model.base_model(inputs_embeds=embeddings, past_key_values=cache, use_cache=True)
        return output.last_hidden_state, cache


def keys_and_values(cache: Cache) -> list[tuple[Tensor, Tensor]]:
    """Keys and values [R, heads, S, size] of every layer of a cache that an LM has filled.

    Raises:
        RuntimeError: a layer keeps something else, or nothing yet.
    """
    states = []
    for layer in cache.layers:
        if not isinstance(layer, CacheLayerMixin) or layer.keys is None or layer.values is None:
            raise RuntimeError(f"a layer of the LM's cache ({type(layer).__name__}) has no keys and values")
        states.append((layer.keys, layer.values))
    return states


def load_tokenizer(config: LMSettings) -> PreTrainedTokenizerBase:
    """The base LM's tokenizer.

    Raises:
        UserError: it cannot be loaded.
    """
    name = _base_lm(config)
    source = lm_source(name)
    at_hand = local_only(source)
    try:
        check_pretrained(source, at_hand)
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=at_hand, trust_remote_code=False)
    except Exception as error:  # the libraries below raise many kinds; each becomes one line
        raise cannot_load("tokenizer", name, error) from None
    if not tokenizer("text", add_special_tokens=False).input_ids:
        # for some families the library makes an empty tokenizer where there are no files of one
        raise cannot_load("tokenizer", name, ValueError("it has no vocabulary"))
    return tokenizer


def load_language_model(config: LMSettings, frozen: bool = True, partition: bool = True) -> LanguageModel:
    """The base LM in the configured precision.

    Args:
        config: which LM.
        frozen: see `LanguageModel`.
        partition: where `utils.partitioning` asks for it, each rank keeps its share only; False: all of it.

    Raises:
        UserError: it cannot be loaded, or lacks weights; with its name and how to give a local folder.
    """
    name = _base_lm(config)
    source = lm_source(name)
    at_hand = local_only(source)
    ds_config = partitioning() if partition else None
    try:
        check_pretrained(source, at_hand)
        lm_config = AutoConfig.from_pretrained(source, local_files_only=at_hand, trust_remote_code=False)
        check_family(lm_config, source)  # before gigabytes of weights are read
        check_sizes(AutoModelForCausalLM.from_config, lm_config, weight_files(source, at_hand))
        loaded = AutoModelForCausalLM.from_pretrained(
            source,
            config=lm_config,
            dtype=DTYPES[config.load_bit],
            local_files_only=at_hand,
            trust_remote_code=False,
            output_loading_info=True,
            # to be compared with its files first: once partitioned, a fault would be found on rank 0 only
            device_map=None if ds_config is None else "meta",
        )
        # a pair because of output_loading_info, which the library's annotation leaves out
        model, loading = cast(tuple[PreTrainedModel, dict[str, set[str]]], loaded)
    except UserError:
        raise
    except Exception as error:  # the libraries below raise many kinds; each becomes one line
        raise cannot_load("base LM", name, error) from None
    check_weights("base LM", name, loading)
    if ds_config is not None:
        try:
            model = load_partitioned(model, source, ds_config, at_hand)
        except Exception as error:
            raise cannot_load("base LM", name, error) from None
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return LanguageModel(model, frozen)


def base_lm_folder(run: str | Path) -> Path:
    """Where a run that keeps a whole LM has it, in the Hugging Face format."""
    return Path(run) / WHOLE_MODEL


def save_language_model(
    run: Path, lm: LanguageModel, tokenizer: PreTrainedTokenizerBase, state: Mapping[str, Tensor]
) -> None:
    """Write an LM and its tokenizer to a run folder in the Hugging Face format, see `base_lm_folder`.

    Args:
        run: the run folder.
        lm: gives names, precision, buffers and configuration.
        tokenizer: its tokenizer.
        state: every parameter of the LM as a `ConversationModel` names it, `lm.model.{name}`; what is written has
            the LM's own precision.

    Raises:
        UserError: it cannot be written; an earlier LM is as it was.
    """
    model = lm.model
    # tied weights stay one tensor: the library writes it once, under the name that it looks for
    values = {
        id(parameter): state[f"lm.model.{name}"].to(parameter.dtype)
        for name, parameter in model.named_parameters()
    }
    content = model.state_dict()  # buffers too
    for name, parameter in model.named_parameters(remove_duplicate=False):
        content[name] = values[id(parameter)]

    def fill(part: Path) -> None:
        model.save_pretrained(part, state_dict=content)
        tokenizer.save_pretrained(part)
        # of the settings that other programs generate by: without these a reply would not stop at eos
        ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
        GenerationConfig(**ids).save_pretrained(part)

    write_folder(base_lm_folder(run), fill)


def lm_source(name: str) -> str:
    """A run folder of a trained base LM stands for the LM inside it."""
    inside = base_lm_folder(name)  # os.path, as Path's own raise for a name that is too long
    return str(inside) if os.path.isfile(inside / "config.json") else name


def _base_lm(config: LMSettings) -> str:
    """The name of the base LM.

    Raises:
        UserError: the model stands on none.
    """
    if config.base_lm is None:
        raise UserError(f"model_type {config.model_type} has no base LM that could be loaded")
    return config.base_lm


def local_only(source: str) -> bool:
    """Whether only a folder or the cache can serve: one quick question instead of a minute of retries."""
    if os.path.isdir(source):
        return True
    try:
        HfApi().model_info(source, timeout=10)
    except Exception:  # whatever keeps the hub from answering, the cache may still hold the LM
        return True
    return False


def cannot_load(what: str, name: str, error: Exception, flag: str = _MODEL_FLAG) -> UserError:
    """One line on what a library says when it cannot load a model or tokenizer; `flag` gives it a local folder."""
    if os.path.isdir(name):
        return UserError(f"{what} in folder {name} cannot be read: {first_line(error)}")
    return UserError(
        f"{what} {shown(name)} is neither a local folder nor reachable on the Hugging Face hub; give a folder with "
        f"{flag}, or set HF_HOME to a cache that holds it ({first_line(error)})"
    )


def check_weights(
    what: str,
    name: str,
    loading: Mapping[str, Collection[str]],
    flag: str = _MODEL_FLAG,
    optional: str | None = None,
) -> None:
    """Files and configuration of a model have the same layers: the library goes on without, with a table on the screen.

    Weights outside of layers may be left over, such as the head that an encoder was trained with.

    Args:
        what: the model in words, for messages.
        name: of it, or its folder.
        loading: what the library says of a loading.
        flag: what gives another one, for messages.
        optional: what the names of weights begin with that the files may lack.

    Raises:
        UserError: weights are missing, which would be drawn at random, or whole layers would not be used.
    """
    unexpected = [key for key in loading["unexpected_keys"] if not key.endswith(_OLD_BUFFER)]
    beyond = sorted(key for key in unexpected if re.search(r"\.\d+\.", key))
    if beyond:
        more = f"its files hold weights that its config.json has no layer for, such as {beyond[0]}"
        raise cannot_load(what, name, ValueError(more), flag)
    missing = sorted(
        key for key in loading["missing_keys"] if optional is None or not key.startswith(optional)
    )
    if missing:
        lacks = f"its files lack {len(missing)} of its weights, such as {missing[0]}"
        raise cannot_load(what, name, ValueError(lacks), flag)


def weights_sha256(name: str) -> str | None:
    """sha256 over the weight files of a base LM, in the order of their names; None where they are not at hand."""
    folder = Path(lm_source(name))
    if not folder.is_dir():
        try:
            folder = Path(snapshot_download(name, local_files_only=True))
        except (OSError, ValueError):
            return None
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest() if files else None
