"""Started as two ranks by tests/utils/test_liveness.py: rank 1 fails and stays, rank 0 waits for it in a barrier."""

import contextlib
import os
import time

from utils.console import quiet_libraries
from utils.liveness import distributed_context


def main() -> None:
    """Fail on rank 1, which stays until rank 0 has ended, as a destructor that waits for the device."""
    quiet_libraries()
    other = 0
    try:
        with distributed_context() as distributed:
            other = distributed.share(os.getpid())
            if distributed.rank == 1:
                raise KeyError("speed")
            distributed.barrier()
    except KeyError:
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(other, 0)  # no signal: only whether there is such a process
                time.sleep(0.1)
        print("rank 1 saw rank 0 end", flush=True)


if __name__ == "__main__":
    main()
