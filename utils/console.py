"""What libraries print that the project says itself, or that means nothing to its users."""

import logging
import warnings


def quiet_libraries() -> None:
    """Keep DeepSpeed's notes and one repeated warning of transformers off the screen; errors stay.

    To be called before deepspeed is imported: it speaks at import. The run's own first lines name the device.
    """
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)
    # the chat wants just that: no repetition within a reply
    warnings.filterwarnings("ignore", message=".*no_repeat_ngram_size.*inputs_embeds.*")
