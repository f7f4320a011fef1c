"""What libraries print that the project says itself, or that means nothing to its users."""

import logging
import os
import warnings


def quiet_libraries() -> None:
    """Keep DeepSpeed's notes and one repeated warning of transformers off the screen; errors stay.

    To be called before torch and deepspeed are imported: the one reads its level then, the other speaks. The
    run's own first lines name the device.
    """
    # a lost connection is reported in one line by utils/liveness.py, not with the frames of torch's C++
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)
    # just that is wanted: no repetition among the new tokens
    warnings.filterwarnings("ignore", message=".*no_repeat_ngram_size.*inputs_embeds.*")
