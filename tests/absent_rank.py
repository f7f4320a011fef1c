"""Started as two ranks by tests/utils/test_liveness.py: the one that is named waits for one that never comes."""

import os
import sys
from datetime import timedelta

from utils import distributed
from utils.console import quiet_libraries
from utils.errors import run_main


def main() -> None:
    """Wait for two seconds."""
    quiet_libraries()
    if os.environ["RANK"] == sys.argv[-1]:
        distributed.JOINING = timedelta(seconds=2)
        distributed.start_distributed()


if __name__ == "__main__":
    run_main(main)
