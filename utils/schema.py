"""The typed sections of a configuration. Values come from config/default.yml; here stand types and meaning.

Every class refuses keys that it does not know. Cross-field rules are in `Config.contradictions`.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1, lt=2**31)]
Layers = Annotated[int, Field(ge=1, le=200)]
NonNegative = Annotated[float, Field(ge=0)]
Temperature = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """Base of every section: no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


class PeftConfig(Section):
    """Sizes of the trained part."""

    num_virtual_tokens: Positive
    """V, virtual tokens per soft prompt (and per layer for prefix tuning)"""
    r: Annotated[int, Field(ge=1, le=10_000)]
    """rank of LoRA's update"""
    lora_alpha: Positive
    """LoRA's scale; the update is multiplied by lora_alpha / r"""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)]
    """dropout on LoRA's input in training"""


class RetrieverConfig(Section):
    """An encoder in front of the retriever's linear layer."""

    retriever_type: Literal["transformer_encoder"] | None
    """null: mean of embeddings only; transformer_encoder: a trainable encoder first"""
    retriever_on: list[Literal["extra", "lm"]]
    """what passes through the encoder: the prompts (extra), the context (lm)"""
    n_head: Positive
    """attention heads of the encoder; must divide D"""
    num_layers: Layers
    """layers of the encoder"""


class InitConfig(Section):
    """A base LM to be made from scratch (`model_type: language_model`)."""

    architecture: Literal["opt", "llama", "gpt2"]
    """family of the base LM"""
    hidden_size: Positive
    """width of the LM; must be a multiple of num_heads"""
    num_layers: Layers
    """decoder layers"""
    num_heads: Positive
    """attention heads"""
    vocab_size: Annotated[int, Field(ge=260)]
    """size of the byte-level BPE that is trained on dataset.train (256 bytes and the special tokens at least)"""
    max_positions: Positive
    """longest input in tokens, soft prompt included"""


class ModelConfig(Section):
    """Which LM, which soft prompts, which retriever."""

    model_type: str
    """what is trained: see models/registry.py for the names"""
    model_name: str | None
    """Hugging Face name or local folder of the base LM, or the run folder of a trained base LM"""
    fidelity: Literal["paper", "released_code"]
    """paper: the method as published; released_code: the arithmetic of the authors' release, bug for bug"""
    load_bit: Literal[16, 32, "bf16"]
    """precision of the LM: 32 (float32), 16 (float16), bf16"""
    peft_type: Literal["prompt_tuning"]
    """kept from the released files; the kind of training is model_type"""
    K: Positive
    """number of soft prompts"""
    peft_config: PeftConfig
    """sizes of the trained part"""
    prompt_init: Literal["random", "vocab", "text"]
    """random: N(0, 1); vocab: embeddings of randomly drawn tokens; text: embeddings of prompt_init_text"""
    prompt_init_text: str | None
    """the text of `prompt_init: text`, repeated or cut to V tokens; prompts 1.. get noise of 0.5 embedding stds"""
    normalizer: Literal["linear"] | None
    """linear: one Linear(D, D) shared by prompts and context; null: cosine of the plain means"""
    normalizer_on: list[Literal["prompt", "lm"]]
    """what passes through the normalizer: the prompts, the context (lm)"""
    score_activation: Literal["softplus", "relu", "leaky_relu"]
    """activation on the cosine: softplus has beta 10, threshold 1"""
    retriever: RetrieverConfig
    """an encoder in front of the normalizer"""
    init: InitConfig | None
    """only for model_type language_model: the base LM to be made"""
    gradient_checkpointing: bool
    """trade time for memory: recompute the LM's activations in the backward pass"""


class TrainingConfig(Section):
    """How the trained part learns."""

    learning_rate: Annotated[float, Field(gt=0)]
    """Adam's learning rate (--lr)"""
    batch_size: Positive
    """examples per step and rank (--batch)"""
    num_epochs: Positive
    """passes over the training data (--epoch)"""
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    """seed of initialisation, shuffling and noise (--seed)"""
    rows: Literal["example", "dialogue"]
    """example: one text per example; dialogue: examples that are prefixes of one text share its forward pass"""
    mode: Literal["causal"]
    """kept from the released files"""
    task_type: Literal["generate_response"]
    """kept from the released files"""
    only_longest: bool
    """train and validate on the last turn of each dialogue only"""
    log_dir: str
    """folder of the run folders (--log_dir)"""
    log_every: Positive
    """optimiser steps between two rows of metrics.jsonl"""
    num_workers: Annotated[int, Field(ge=0)]
    """processes that prepare batches (--num_workers)"""
    training_ratio: Annotated[float, Field(gt=0, le=1)]
    """share of the training dialogues that is used (--training_ratio)"""
    shuffle_train: bool
    """new order in every epoch (--shuffle_train)"""
    save_model: bool
    """keep checkpoints (--save_model)"""
    grad_clip: NonNegative
    """largest gradient norm; 0 switches clipping off (--grad_clip)"""
    warmup_type: Literal["WarmupLR", "WarmupDecayLR", "WarmupCosineLR", "OneCycle", "LRRangeTest"] | None
    """a DeepSpeed learning-rate scheduler (--warmup_type)"""
    warmup_min: NonNegative
    """learning rate at the start of the warm-up (--warmup_min)"""
    warmup_ratio: Annotated[float, Field(ge=0, le=1)]
    """share of all steps that is warm-up (--warmup_ratio)"""
    freeze_persona: bool
    """keep the persona's tokens out of the LM loss"""
    freeze_context: bool
    """keep the context's tokens out of the LM loss"""
    only_nll: bool
    """train with the LM loss alone"""
    disable_nll: bool
    """train without the LM loss"""
    selective_loss: bool
    """the retriever learns from the LM's losses (L_selection)"""
    selective_loss_weight: NonNegative
    """weight of L_selection"""
    tau_gold: Temperature
    """temperature of the LM's preference over prompts"""
    tau_sim: Temperature
    """temperature of the retriever's scores"""
    adding_noise: NonNegative | None
    """standard deviation of the noise added to the LM's preference (--adding_noise)"""
    ensemble: bool
    """cross-entropy of the score-weighted sum of all prompts' logits (L_fusion)"""
    contrastive: bool
    """kept from the released files: false switches L_contrastive off"""
    contrastive_metric: Literal["bleu"] | None
    """how alike two personas are; null switches L_contrastive off"""
    contrastive_threshold: Annotated[float, Field(ge=0, le=100)]
    """sentence-BLEU (0 to 100) above which two personas count as alike"""
    contrastive_weight: NonNegative
    """weight of L_contrastive"""
    skip_retrieval: bool
    """no retriever: prompts are chosen at random at decoding, and only L_LLM trains them"""
    all_tunable: bool
    """train the LM's own parameters too"""
    annealing_nll: bool
    """weight each prompt's token losses by clamp(scalar * (1 - progress) * softmax(scores))"""
    annealing_scalar: NonNegative
    """scalar of the annealing"""
    annealing_min: NonNegative
    """lower end of the clamp"""
    annealing_max: NonNegative
    """upper end of the clamp"""


class DatasetConfig(Section):
    """Which dialogues, and how much of each."""

    format: str
    """reader of the files: see dataset/readers.py for the names"""
    train: str
    """training file"""
    valid: str
    """validation file"""
    max_context_turns: Annotated[int, Field(ge=-1)]
    """utterances of context that are kept, newest first; -1 keeps all"""
    max_token_length: Positive
    """longest text in tokens, soft prompt not counted; the oldest turns are dropped to fit"""


class Config(Section):
    """A whole configuration: `model`, `training`, `dataset`."""

    model: ModelConfig
    """the model"""
    training: TrainingConfig
    """the training"""
    dataset: DatasetConfig
    """the data"""

    def contradictions(self) -> list[str]:
        """Pairs of settings that cannot hold together, one sentence each."""
        model, training = self.model, self.training
        pairs = training.contrastive and training.contrastive_metric is not None
        whole_text = not (training.freeze_persona and training.freeze_context)
        rules = [
            (
                model.fidelity == "released_code" and training.rows == "dialogue",
                "training.rows: dialogue needs model.fidelity: paper (the release's retriever reads padding, "
                "which a shared row does not have)",
            ),
            (
                whole_text and training.rows == "dialogue",
                "training.rows: dialogue needs freeze_persona and freeze_context (a shared prefix would be "
                "counted once per example)",
            ),
            (
                training.only_nll and training.disable_nll,
                "training.only_nll and training.disable_nll leave no loss",
            ),
            (
                training.disable_nll
                and (training.skip_retrieval or not (training.selective_loss or training.ensemble or pairs)),
                "training.disable_nll leaves no loss: selection, fusion and contrastive loss are off too",
            ),
            (
                model.prompt_init == "text" and not model.prompt_init_text,
                "model.prompt_init: text needs model.prompt_init_text",
            ),
            (
                model.model_type == "language_model" and model.init is None,
                "model.model_type: language_model needs the section model.init",
            ),
            (
                model.model_type != "language_model" and not model.model_name,
                "model.model_name is missing: a Hugging Face name or a local folder",
            ),
            (
                model.gradient_checkpointing and model.model_type == "prefix_tuning",
                "model.gradient_checkpointing has no cache, which is where prefix_tuning puts its prefix",
            ),
            (
                model.K * model.peft_config.num_virtual_tokens > 100_000,
                "model.K times model.peft_config.num_virtual_tokens is more than 100,000 virtual tokens",
            ),
            (
                model.model_type == "language_model" and not training.save_model,
                "training.save_model: false would throw the new LM away",
            ),
            (
                model.init is not None and model.init.hidden_size % model.init.num_heads != 0,
                "model.init.hidden_size must be a multiple of model.init.num_heads",
            ),
            (
                training.warmup_type is not None and training.warmup_min > training.learning_rate,
                "training.warmup_min is larger than training.learning_rate, which the warm-up rises to",
            ),
            (
                training.annealing_min > training.annealing_max,
                "training.annealing_min is larger than training.annealing_max",
            ),
        ]
        return [sentence for broken, sentence in rules if broken]
