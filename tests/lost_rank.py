"""Started as two ranks by tests/test_liveness.py: rank 1 fails and stays, rank 0 waits for it in a barrier."""

import threading

from trainer.liveness import joined_world
from utils.console import quiet_libraries


def main() -> None:
    """Fail on rank 1."""
    quiet_libraries()
    try:
        with joined_world() as world:
            if world.rank == 1:
                raise KeyError("speed")
            world.barrier()
    except KeyError:
        threading.Event().wait()  # as a destructor that waits for the device


if __name__ == "__main__":
    main()
