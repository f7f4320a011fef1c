"""PersonaGPT: an LM that speaks for a persona and is steered by action codes (Tang et al., 2021, arXiv 2110.12949).

A model type of its own (`model_type: personagpt`) on the floors below; README.md beside this file says how to use it.
"""

from models.registry import MODEL_TYPES, register_model_type

NAME = "personagpt"
"""the model type"""


def register_personagpt() -> None:
    """Make `model_type: personagpt` known; every command of this folder calls it first."""
    if NAME not in MODEL_TYPES:
        register_model_type(NAME, "companions.personagpt.model_type")
