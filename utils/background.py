"""A value that is computed beside everything else, on a thread."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Later(Generic[T]):
    """The value of a function that runs on a thread from now on.

    A process that ends does not wait for it.

    Args:
        function: frees Python's lock while it works, as hashing and reading do; otherwise nothing runs beside it.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        self._future: Future[T] = Future()
        threading.Thread(target=self._run, args=(function,), daemon=True).start()

    def _run(self, function: Callable[[], T]) -> None:
        try:
            self._future.set_result(function())
        except BaseException as error:  # for whoever asks for the value
            self._future.set_exception(error)

    def result(self) -> T:
        """The value, once it is there; what the function raised is raised here."""
        return self._future.result()
