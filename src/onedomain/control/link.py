"""Requests, answers and news between our own processes: JSON lines over a stream socket, both ways.

Knows framing, matching of answers, limits. Does not know what the verbs mean: handlers are given by name.
A line is {"do": verb, "id": n, ...} for a request, the same without id for news, {"id": n, "ok": ...} or
{"id": n, "error": text} for an answer. A peer that doesn't read is cut off at MAX_UNSENT, not waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

MAX_LINE = 64 << 20    # a chunk of the directory is the longest
MAX_UNSENT = 256 << 20
MAX_WAITING = 20_000   # requests under way on one link: all of a dead server's people may wait for their promotions
RESERVED = frozenset({"do", "id"})

Handler = Callable[..., Awaitable[Any]]


class LinkError(Exception):
    """The other side said no, or is gone; the text is fit for an operator."""


class SilentLink(LinkError):
    """The other side is there, and did not answer in time."""


class Link:
    """One connection. `handlers` maps verbs to coroutines called with the request's other keys as arguments."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter,
                 handlers: Mapping[str, Handler]) -> None:
        self._reader = reader
        self._writer = writer
        self._handlers = handlers
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.attached: dict[str, Any] = {}  # what the owner wants to remember of this peer
        self.closed = False

    async def call(self, verb: str, *, timeout: float = 30.0, **arguments: Any) -> Any:
        """The peer's answer. Raises LinkError; SilentLink after `timeout`. "do" and "id" are no names for arguments."""
        if arguments.keys() & RESERVED:
            raise ValueError(f"{verb}: {', '.join(RESERVED)} are no names for arguments")
        if len(self._waiting) >= MAX_WAITING:
            raise LinkError("too many requests under way")
        number = next(self._ids)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._send({"do": verb, "id": number, **arguments})
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise SilentLink(f"no answer to {verb} within {timeout:g} s") from None
        finally:
            self._waiting.pop(number, None)

    def tell(self, verb: str, **arguments: Any) -> None:
        """News: no answer is expected, a dead link is noticed by `serve`."""
        with contextlib.suppress(LinkError):
            self._send({"do": verb, **arguments})

    def _send(self, message: Mapping[str, Any]) -> None:
        if self.closed or self._writer.is_closing():
            raise LinkError("the other side is gone")
        if self._writer.transport.get_write_buffer_size() > MAX_UNSENT:
            self._writer.transport.abort()
            raise LinkError("the other side does not read")
        self._writer.write(json.dumps(message, separators=(",", ":"), default=str).encode() + b"\n")

    async def serve(self) -> None:
        """Reads until the link ends; then every waiting call fails."""
        try:
            while line := await self._reader.readline():
                await self._take(json.loads(line))
                # Reading what stands in the buffer does not give way to others, and a whole directory may stand there.
                await asyncio.sleep(0)
        except (ConnectionError, ValueError, RecursionError, asyncio.LimitOverrunError):
            pass  # a broken line or a broken connection: the link is over either way
        finally:
            self.close()

    async def _take(self, message: Any) -> None:
        if not isinstance(message, dict):
            raise ValueError("not a request")
        if "do" in message:
            verb, number = message.pop("do"), message.pop("id", None)
            if number is None:
                # News is taken in order: a delta of the directory must not overtake another.
                await self._handle(verb, None, message)
                return
            task = asyncio.create_task(self._handle(verb, number, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        answer = self._waiting.get(message.get("id", 0))
        if answer is None or answer.done():
            return
        if "error" in message:
            answer.set_exception(LinkError(str(message["error"])))
        else:
            answer.set_result(message.get("ok"))

    async def _handle(self, verb: str, number: int | None, arguments: dict[str, Any]) -> None:
        handler = self._handlers.get(verb)
        try:
            if handler is None:
                raise LinkError(f"unknown verb {verb!r}")
            result = {"id": number, "ok": await handler(self, **arguments)}
        except (LinkError, TypeError, ValueError, KeyError, LookupError, OSError) as error:
            result = {"id": number, "error": f"{error}" if isinstance(error, LinkError) else f"{verb}: {error!r}"}
        if number is not None:
            with contextlib.suppress(LinkError):
                self._send(result)

    def close(self) -> None:
        self.closed = True
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(LinkError("the other side is gone"))
        for task in self._tasks:
            task.cancel()
        self._writer.close()


async def connect(path: str, handlers: Mapping[str, Handler] | None = None) -> tuple[Link, asyncio.Task[None]]:
    """A link to a Unix socket and the task that serves it. Raises OSError."""
    reader, writer = await asyncio.open_unix_connection(path, limit=MAX_LINE)
    link = Link(reader, writer, handlers or {})
    return link, asyncio.create_task(link.serve())


async def ask(path: str, verb: str, *, timeout: float = 30.0, **arguments: Any) -> Any:
    """One request to a running edge, as the command line makes it. Raises OSError, LinkError."""
    link, task = await connect(path)
    try:
        return await link.call(verb, timeout=timeout, **arguments)
    finally:
        link.close()
        task.cancel()
