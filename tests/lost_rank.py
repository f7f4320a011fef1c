"""Started as two ranks by tests/utils/test_liveness.py: rank 1 fails and stays, rank 0 waits for it in a barrier."""

import threading

from utils.console import quiet_libraries
from utils.liveness import distributed_context


def main() -> None:
    """Fail on rank 1."""
    quiet_libraries()
    try:
        with distributed_context() as distributed:
            if distributed.rank == 1:
                raise KeyError("speed")
            distributed.barrier()
    except KeyError:
        threading.Event().wait()  # as a destructor that waits for the device


if __name__ == "__main__":
    main()
