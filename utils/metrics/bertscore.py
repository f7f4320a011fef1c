"""BERTScore: cosine similarity of contextual embeddings, matched greedily (Zhang et al. 2020).

The arithmetic is bert-score's own. The model is loaded here, from this computer only: a report must not stop
to fetch gigabytes, nor wait for a network that is not there.
"""

import os
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from utils.errors import first_line
from utils.metrics.registry import Corpus, Settings, Unavailable, register, require
from utils.pretrained_files import check_pretrained, check_sizes, weight_files

DEFAULT_MODEL = "microsoft/deberta-xlarge-mnli"
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def _model_name(settings: Settings) -> str:
    return settings.get("bertscore_model", DEFAULT_MODEL)


def _signature(settings: Settings) -> str:
    model = _model_name(settings)
    libraries = f"{require('bert-score', 'bert_score')}, {require('transformers', 'transformers')}"
    return (
        f"{libraries}: {model}, layer {tuned_layer(model)}, float32, no idf weights, "
        "no rescaling with a baseline, x100; 0 for an empty text"
    )


@register("bert_f1", "bert_p", "bert_r", direction="higher", level="example", signature=_signature)
def bertscore(corpus: Corpus) -> tuple[list[float], list[float], list[float]]:
    """F1, precision and recall of each example, in percent.

    An empty prediction or target has no token to match and scores 0, as in bert-score.

    Raises:
        Unavailable: bert-score is not installed, or the model is not on this computer, or it is damaged.
    """
    require("bert-score", "bert_score")
    name = _model_name(corpus.settings)
    model, tokenizer = _load(local_folder(name), tuned_layer(name))
    from bert_score.utils import bert_cos_score_idf

    pairs = list(zip(corpus.predictions, corpus.targets, strict=True))
    scored = [i for i, (prediction, target) in enumerate(pairs) if prediction.strip() and target.strip()]
    f1, precision, recall = ([0.0] * len(pairs) for _ in range(3))
    if not scored:
        return f1, precision, recall
    weights = defaultdict(lambda: 1.0, {tokenizer.cls_token_id: 0.0, tokenizer.sep_token_id: 0.0})
    result = bert_cos_score_idf(  # [examples, 3]: precision, recall, F1
        model,
        [pairs[i][1] for i in scored],
        [pairs[i][0] for i in scored],
        tokenizer,
        weights,
        device=model.device,
    )
    if not result.isfinite().all():  # bert-score turns an F1 that is NaN into 0, but not P and R
        raise Unavailable(
            f"the model {name} gives scores that are not finite: its weights are damaged; download it again"
        )
    for i, (p, r, f) in zip(scored, (100 * result).tolist(), strict=True):
        f1[i], precision[i], recall[i] = f, p, r
    return f1, precision, recall


def local_folder(model: str) -> Path:
    """The folder that holds `model`: itself, or where the Hugging Face cache of this computer keeps it.

    Raises:
        Unavailable: there is none with a config and weights.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    folder = Path(model)
    if not os.path.isdir(folder):  # Path's own raises for a name that is too long
        try:
            config = try_to_load_from_cache(model, "config.json")
        except HFValidationError:
            config = None  # a path that does not exist, which is no name of the hub either
        # Not only None, but also a marker object stands for "not in the cache".
        if not isinstance(config, str):
            raise Unavailable(
                f"the model {model} is not in the local Hugging Face cache; run: hf download {model}, "
                "or give a folder with --bertscore_model"
            )
        folder = Path(config).parent
    if not (folder / "config.json").is_file() or not any((folder / name).is_file() for name in WEIGHTS):
        raise Unavailable(f"the folder of the model {model} lacks config.json or weights; download it again")
    return folder


def tuned_layer(model: str) -> int:
    """The layer whose embeddings agree best with human judgement, by bert-score's own table.

    A folder is looked up by its name, so that a copy of a known model scores as the model itself.

    Raises:
        Unavailable: the table lacks the model. Any other layer would give numbers that compare with none.
    """
    from bert_score.utils import model2layers

    layers = {known.rsplit("/", 1)[-1]: layer for known, layer in model2layers.items()}
    layer = model2layers.get(model) or layers.get(Path(model).name)
    if layer is None:
        raise Unavailable(
            f"bert-score knows no layer for {model}; a folder must be named as the model is, "
            f"e.g. {DEFAULT_MODEL.rsplit('/', 1)[-1]}"
        )
    return layer


@lru_cache(maxsize=1)
def _load(folder: Path, layer: int) -> tuple[Any, Any]:
    """The model, cut after `layer`, and its tokenizer; kept, so that many result files load it once.

    bert-score's own loader is not used: with transformers 5 it takes whatever precision the checkpoint has,
    and its tokenizer overflows where no maximal length is stated, as for the default model.

    Raises:
        Unavailable: the model cannot be loaded, lacks weights, or is not an encoder of at least `layer` layers.
    """
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    try:
        check_pretrained(folder, local_files_only=True)
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        check_sizes(AutoModel.from_config, config, weight_files(folder, local_files_only=True))
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model, loading = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            dtype=torch.float32,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # the libraries below raise many kinds; each becomes one line
        raise Unavailable(f"cannot load the model in {folder}: {first_line(error)}") from error
    # The library draws missing weights at random. Many checkpoints have no pooler, which the score does not use.
    missing = sorted(key for key in loading["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise Unavailable(
            f"the model in {folder} lacks {len(missing)} of its weights, such as {missing[0]}; download it again"
        )
    if not hasattr(getattr(model, "encoder", None), "layer"):
        raise Unavailable(f"{type(model).__name__} in {folder} is not an encoder in the way of BERT")
    if len(model.encoder.layer) < layer:
        raise Unavailable(
            f"the model in {folder} has {len(model.encoder.layer)} layers, its score is defined on layer {layer}: "
            "the folder must be named as the model is"
        )
    model.encoder.layer = model.encoder.layer[:layer]
    tokenizer.model_max_length = min(tokenizer.model_max_length, 512, model.config.max_position_embeddings)
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    return model.eval().to(device), tokenizer
