"""Started as two ranks by tests/utils/test_liveness.py: train.py, where the system kills one rank in its training.

The arguments are those of train.py, and at the end the rank.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import train
from utils.errors import run_main


def kill_in_training(runs: Path) -> None:
    """End this process as the system does, once the training has logged a step."""
    while not any(path.stat().st_size for path in runs.glob("*/metrics.jsonl")):
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    victim = sys.argv.pop()
    if victim == os.environ["RANK"]:
        folder = next(word for word in sys.argv if word.startswith("--log_dir=")).partition("=")[2]
        threading.Thread(target=kill_in_training, args=(Path(folder),), daemon=True).start()
    run_main(train.main)
