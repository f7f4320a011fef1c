"""The configuration of `model_type: personagpt`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from dataset.settings import DatasetSettings
from models.decoding.settings import Beams, ChatSettings
from models.settings import Config, PretrainedSettings, TrainingSettings
from utils.config.schema import Flag, NonNegative, Positive


class PersonaModelSettings(PretrainedSettings):
    """Which LM, and how it is steered; keys of `model`."""

    action_prompt: Literal["A", "B"] = "B"
    """layout of the action prompt: B, or A as the published weights were used with"""


class PersonaDatasetSettings(DatasetSettings):
    """Which dialogues and which examples of action codes."""

    train: str = "data_file/ConvAI2/train_both_original_no_cands.txt"
    """training file, with the personas of both speakers; or what preprocess_dataset wrote"""
    valid: str = "data_file/ConvAI2/valid_both_original_no_cands.txt"
    """validation file, of the same kind"""
    actions: str | None = None
    """examples of action codes, .csv or .jsonl; the control stage needs them"""
    valid_actions: str | None = None
    """further ones to validate on"""
    goals: str | None = None
    """phrases of the action codes, one per line; null for the eleven of PersonaGPT"""
    max_utterances: Positive = 20
    """utterances of a dialogue that are used, both speakers counted"""
    speakers: Literal["both", "self"] = "both"
    """whose turns are answers: those of both speakers, or of the modelled one ("your persona") alone"""
    drop_duplicates: bool = True
    """leave out examples that came before: ConvAI2's training file holds each dialogue from both sides"""
    max_token_length: Positive = 1024
    """longest text in tokens; the oldest turns are dropped to fit, facts or action code stay"""


class PersonaTrainingSettings(TrainingSettings):
    """How the LM is trained; keys of `training`."""

    stage: Literal["pretrain", "control"] = "pretrain"
    """pretrain: on dialogues; control: on action codes too, one new example beside one old"""
    rows: Literal["example", "dialogue"] = "dialogue"
    """dialogue: all answers of one speaker in a dialogue share a forward pass; example: each has its own"""
    special_rows_rate: Annotated[float, Field(gt=0)] = 5.0e-4
    """control: learning rate of the rows of <|start|>, <|p1|>, <|p2|>, <|act|> in the token table"""
    other_rows_rate: NonNegative = 1.0e-8
    """control: learning rate of the other rows"""
    positions_rate: NonNegative = 1.0e-6
    """control: learning rate of the position table"""
    weight_decay: NonNegative = 0.0
    """decoupled weight decay (AdamW)"""


class PersonaChatSettings(ChatSettings):
    """How the agents of a conversation reply; keys of `chat`, with the defaults of the original's interaction."""

    max_new_tokens: Annotated[Positive, Flag("max_new_tokens")] = 1000
    """tokens of a reply, at most; max_length may leave fewer"""
    num_beams: Annotated[Beams, Flag("num_beams")] = 1
    """beams of the search; 1 is greedy decoding, or sampling with do_sample"""
    do_sample: Annotated[bool, Flag("do_sample")] = True
    """draw each token from the LM's distribution instead of taking the likeliest"""
    top_k: Annotated[int, Field(ge=0), Flag("top_k", short=("-k",))] = 10
    """draw from the k likeliest tokens only; 0 for no such limit"""
    top_p: Annotated[float, Field(gt=0, le=1), Flag("top_p", short=("-p",))] = 0.92
    """draw from the likeliest tokens that have this probability together; 1 for no such limit"""
    no_repeat_ngram_size: Annotated[int, Field(ge=0), Flag("no_repeat_ngram_size")] = 0
    """n-grams of this size come once in a reply at most; 0 for no such rule"""
    max_length: Annotated[Positive, Flag("max_length", short=("-maxlen",))] = 1000
    """tokens of prompt and reply together"""
    reply_room: Positive = 64
    """tokens that stay free for a reply, half of max_length at most: the oldest turns are dropped until they are"""
    num_turns: Annotated[Positive, Flag("num_turns", short=("-turns",))] = 8
    """exchanges of a conversation, of two lines each"""
    num_facts: Positive = 5
    """facts that are typed where none are given"""


class PersonaConfig(Config):
    """The configuration of PersonaGPT."""

    released_reads_padding: ClassVar[bool] = False
    """all texts are read from their start"""

    model: PersonaModelSettings = PersonaModelSettings()
    """the model"""
    training: PersonaTrainingSettings = PersonaTrainingSettings()
    """the training"""
    dataset: PersonaDatasetSettings = PersonaDatasetSettings()
    """the data"""
    chat: PersonaChatSettings = PersonaChatSettings()
    """how the agents of a conversation reply"""

    def rules(self) -> list[tuple[bool, str]]:
        """The control stage has examples of action codes; silence is no setting."""
        return [
            (
                self.training.stage == "control" and not self.dataset.actions,
                "training.stage: control needs dataset.actions, a file with examples of action codes",
            ),
            (
                self.dataset.silence != "keep",
                "dataset.silence is not of PersonaGPT, which always leaves out a __SILENCE__ that opens a dialogue",
            ),
        ]
