"""The configurations of per-user adapters: which LM, which users, which adapters, how they learn and are asked."""

from typing import Annotated, Literal

from pydantic import Field

from companions.lamp.lm.settings import AnsweringConfig, LMSettings, PromptSettings
from utils.config.schema import Flag, NonNegative, Positive, Section


class BaseLMSettings(LMSettings):
    """The LM that the users share; keys of `model`."""

    model_name: Annotated[str | None, Flag("model_name")] = "google/flan-t5-xxl"
    """Hugging Face name or local folder of an encoder-decoder or decoder-only LM, or the run folder of a trained one"""


class UserSettings(Section):
    """Which users; keys of `users`."""

    user_ids: Annotated[str | None, Flag("user_ids")] = None
    """file with a JSON array of their ids; null: all users of the file"""
    num_shards: Annotated[Positive, Flag("num_shards")] = 1
    """parts that the users are divided into, a process for each"""
    shard_id: Annotated[int, Field(ge=0), Flag("shard_id")] = 0
    """the part that is taken, from 0"""

    def rules(self) -> list[tuple[bool, str]]:
        """There is such a part."""
        return [
            (
                self.shard_id >= self.num_shards,
                "users.shard_id (--shard_id) is not below users.num_shards (--num_shards): the first part is 0",
            )
        ]


class AdapterSettings(Section):
    """LoRA on the projections of the attention; keys of `adapter`."""

    r: Annotated[int, Field(ge=1, le=10_000), Flag("lora_r")] = 8
    """rank of LoRA's update"""
    lora_alpha: Positive = 32
    """LoRA's scale; the update is multiplied by lora_alpha / r"""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """dropout on LoRA's input in training"""


class UserDataSettings(Section):
    """Keys of `dataset` of train_peft."""

    train: Annotated[str | None, Flag("train_data")] = None
    """questions or merged file with users; the first question of each gives the profile"""
    task: Annotated[str | None, Flag("task")] = None
    """LaMP-1 to LaMP-7"""
    max_length: Annotated[Positive, Flag("max_length")] = 512
    """L: tokens of a source and of a target, at most"""

    def rules(self) -> list[tuple[bool, str]]:
        """File and task are named."""
        return [
            (not self.train, "dataset.train (--train_data) is missing: a questions file with user_id"),
            (not self.task, "dataset.task (--task) is missing: LaMP-1 to LaMP-7"),
        ]


class UserTrainingSettings(Section):
    """How each adapter is trained; keys of `training`."""

    learning_rate: Annotated[float, Field(gt=0), Flag("learning_rate")] = 5.0e-5
    """Adam's learning rate"""
    num_epochs: Annotated[Positive, Flag("num_train_epochs")] = 30
    """passes over a user's profile"""
    batch_size: Annotated[Positive, Flag("per_device_batch_size")] = 16
    """items per batch"""
    accumulation_steps: Annotated[Positive, Flag("gradient_accumulation_steps")] = 1
    """batches per optimiser step"""
    weight_decay: Annotated[NonNegative, Flag("weight_decay")] = 1.0e-4
    """decoupled weight decay (AdamW)"""
    grad_clip: Annotated[NonNegative, Flag("grad_clip")] = 1.0
    """largest gradient norm; 0 switches clipping off"""
    warmup_type: Annotated[
        Literal["WarmupLR", "WarmupDecayLR", "WarmupCosineLR", "Linear", "LinearWarmup"] | None,
        Flag("warmup_type"),
    ] = "Linear"
    """how the learning rate changes: one of DeepSpeed's schedulers, Linear, down to 0, or LinearWarmup, which stays"""
    warmup_ratio: Annotated[float, Field(ge=0, le=1), Flag("warmup_ratio")] = 0.05
    """share of a user's steps that is warm-up"""
    seed: Annotated[int, Field(ge=0, lt=2**31), Flag("seed")] = 42
    """seed of start, order, dropout and, with LaMP-7, cuts; each user's own comes from it and the id"""


class UserTrainConfig(Section):
    """The configuration of train_peft."""

    model: BaseLMSettings = BaseLMSettings()
    """the LM"""
    dataset: UserDataSettings
    """the profiles"""
    users: UserSettings = UserSettings()
    """the users"""
    adapter: AdapterSettings = AdapterSettings()
    """the adapters"""
    training: UserTrainingSettings = UserTrainingSettings()
    """the training"""

    def rules(self) -> list[tuple[bool, str]]:
        """Gradients in float16 would need a scale that is looked for anew with each user."""
        return [(self.model.load_bit == 16, "model.load_bit: adapters are trained with 32 or bf16")]


class EvaluatedDataSettings(PromptSettings):
    """Keys of `dataset` of evaluate_llm."""

    test: Annotated[str | None, Flag("test_data")] = None
    """questions or merged file with users; without outputs there are predictions and no metrics"""
    golds: Annotated[str | None, Flag("golds_addr")] = None
    """outputs file with the right outputs; null: those of the test file, where it has them"""
    max_length: Annotated[Positive, Flag("max_length")] = 512
    """L: tokens of a prompt and of a target, at most"""

    def rules(self) -> list[tuple[bool, str]]:
        """The file is named."""
        return [(not self.test, "dataset.test (--test_data) is missing: a questions file with user_id")]


class EvaluatedUserSettings(UserSettings):
    """Keys of `users` of evaluate_llm."""

    checkpoints: Annotated[str | None, Flag("user_checkpoints")] = None
    """folder with an adapter per user: `adaptors` of train_peft's output folder"""

    def rules(self) -> list[tuple[bool, str]]:
        """The folder is named."""
        return [
            (not self.checkpoints, "users.checkpoints (--user_checkpoints) is missing: a folder of adapters")
        ]


class UserEvaluationConfig(AnsweringConfig):
    """The configuration of evaluate_llm."""

    model: BaseLMSettings = BaseLMSettings()
    """the LM"""
    dataset: EvaluatedDataSettings
    """the questions"""
    users: EvaluatedUserSettings
    """the users"""
