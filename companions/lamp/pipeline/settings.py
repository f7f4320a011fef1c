"""The configuration of the whole chain; config/lamp/sample.yml is that of the embedded sample."""

from collections.abc import Sequence

from companions.lamp.lm.settings import GenerationSettings, LMTrainingSettings
from companions.lamp.rankers import CONTRIEVER
from companions.lamp.ropg.settings import KDSettings, RLSettings
from companions.lamp.rspg.settings import RspgTrainingSettings
from companions.lamp.tasks import task_of
from utils.config.loading import COMMAND_LINE, parse_assignments, read_layers, validated
from utils.config.schema import Positive, Section


class DataSettings(Section):
    """Which questions, and where everything is written; keys of `data`."""

    folder: str = "runs_lamp/pipeline"
    """folder of what the steps make; what stands in it is not made again"""
    task: str
    """LaMP-1 to LaMP-7"""
    train_questions: str
    """questions file: LM, retrievers and scorers are trained on it"""
    train_outputs: str
    """its golds"""
    dev_questions: str
    """questions file: chooses the best checkpoints, and is what the table is about"""
    dev_outputs: str
    """its golds"""


class ModelSettings(Section):
    """What is started from; keys of `models`."""

    tiny: bool = False
    """models of a few ten thousand weights, made for the training questions, instead of pretrained ones"""
    lm: str = "google/flan-t5-base"
    """Hugging Face name or local folder of the LM"""
    encoder: str = CONTRIEVER
    """likewise, of the retriever"""
    scorer: str = "allenai/longformer-base-4096"
    """likewise, of the scorer of retrieval strategies; or ropg-kd, ropg-rl: it starts from that retriever"""
    train_lm: bool = True
    """the LM is trained, with the items that BM25 finds; false: it answers as it is (zero-shot)"""


class RetrievalSettings(Section):
    """What of the profiles is used; keys of `retrieval`."""

    num_retrieved: Positive = 4
    """k: items in a prompt, at most"""
    use_date: bool = True
    """documents of the dense retrievers end with their date, where items have one"""
    ctx_size: Positive = 16
    """first items of each profile that the LM scores, from which ROPG learns"""
    max_length: Positive = 512
    """tokens of a prompt, at most"""
    max_length_input: Positive = 1024
    """tokens of the scorer's input, at most"""


class PipelineConfig(Section):
    """The whole configuration; keys that are left out have the values of the steps' own commands."""

    data: DataSettings
    """questions and folder"""
    models: ModelSettings = ModelSettings()
    """the models"""
    retrieval: RetrievalSettings = RetrievalSettings()
    """the profiles"""
    lm: LMTrainingSettings = LMTrainingSettings()
    """training of the LM"""
    generation: GenerationSettings = GenerationSettings()
    """its outputs"""
    ropg_kd: KDSettings = KDSettings()
    """training of the retriever by distillation"""
    ropg_rl: RLSettings = RLSettings()
    """training of the retriever by policy gradient"""
    rspg: RspgTrainingSettings = RspgTrainingSettings()
    """training of both scorers"""

    def rules(self) -> list[tuple[bool, str]]:
        """Each step has a folder of its own."""
        return [
            (
                "log_dir" in getattr(self, section).model_fields_set,
                f"{section}.log_dir is not used: data.folder says where everything is written",
            )
            for section in ("lm", "ropg_kd", "ropg_rl", "rspg")
        ]


def read_config(path: str, assignments: Sequence[str] = ()) -> PipelineConfig:
    """The configuration of a file, with `section.key=value` of the command line over it.

    Raises:
        UserError: what is wrong with it.
    """
    layers = [*read_layers(path), (COMMAND_LINE, parse_assignments(assignments))]
    config = validated(layers, PipelineConfig, "the pipeline")
    task_of(config.data.task)
    return config
