"""Stand-ins that make journals deterministic: threads that run at once or on demand, and a nonce drawn from a seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any


class InlineThreads(Executor):
    """Runs what is submitted before `submit` returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - a power loss is none of Exception, and has to arrive
            future.set_exception(error)
        return future


class HeldThreads(InlineThreads):
    """What is submitted is done when the test says so: a device that hangs until then."""

    def __init__(self) -> None:
        self._held: asyncio.Queue[tuple[Future[Any], Callable[[], Any]]] = asyncio.Queue()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._held.put_nowait((future, partial(fn, *args, **kwargs)))
        return future

    async def begun(self) -> Callable[[], None]:
        """Waits until something is submitted -> does it."""
        async with asyncio.timeout(5):
            future, work = await self._held.get()

        def do() -> None:
            done = InlineThreads.submit(self, work)
            if (error := done.exception()) is not None:
                future.set_exception(error)
            else:
                future.set_result(done.result())

        return do


class SeededNonce:
    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def token(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def random(self) -> float:
        return self._random.random()
