"""A thread that does one thing after the other, for journals: syncs of one file never overtake each other.

Knows a queue and a thread. Does not know files. ThreadPoolExecutor does the same and counts idle threads besides, which
a busy worker would pay for at every sync.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_Work = tuple[Future[Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class OneThread(Executor):
    """The thread begins with the first thing to do. It keeps no process from ending."""

    def __init__(self, name: str) -> None:
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._name = name
        self._thread: threading.Thread | None = None
        self._ended = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        if self._ended:
            raise RuntimeError(f"{self._name} has ended")
        if self._thread is None:
            self._thread = threading.Thread(target=_work, args=(self._queue,), name=self._name, daemon=True)
            self._thread.start()
        future: Future[T] = Future()
        self._queue.put((future, fn, args, kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """What was submitted is still done, unless it is cancelled here."""
        self._ended = True
        while cancel_futures and not self._queue.empty():
            if (work := self._queue.get()) is not None:
                work[0].cancel()
        self._queue.put(None)
        if wait and self._thread is not None:
            self._thread.join()


def _work(queue: SimpleQueue[_Work | None]) -> None:
    while (work := queue.get()) is not None:
        future, fn, args, kwargs = work
        if not future.set_running_or_notify_cancel():
            continue
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001  it belongs to whoever waits for the future
            future.set_exception(error)
        else:
            future.set_result(result)
        del work, future, fn, args, kwargs  # nothing is kept alive while the queue is empty
