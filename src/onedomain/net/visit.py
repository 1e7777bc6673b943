"""A session without a task: what it does, it does when something happens, and it can go on as a task at any time.

Knows its stream and who counts it (a listener). Does not know what is spoken. For the sessions of which there are many
and that are all alike: a task, its futures and its coroutines cost more than what they carry.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from onedomain.net.stream import Stream


class Host(Protocol):
    """Where visits are counted; net/listen.py."""

    def visit_ended(self, visit: Visit, error: BaseException | None) -> None: ...
    def visit_becomes(self, visit: Visit, then: Visit) -> None: ...
    def visit_goes_on(self, visit: Visit, work: Coroutine[Any, Any, None]) -> None: ...


class Visit:
    """`begin` is called once, with `stream` ready for use; after that its events are the visit's.

    Exactly once it says `end`, or `go_on`. `place` is the host's own.
    """

    __slots__ = ("_host", "place", "stream")

    def __init__(self, host: Host, place: str) -> None:
        self._host = host
        self.place = place
        self.stream: Stream

    def begin(self) -> None:
        """Never raises."""
        raise NotImplementedError

    def heard(self, mask: int) -> None:
        """An event of the stream. Never raises."""
        raise NotImplementedError

    def leave(self) -> None:
        """The host stops: go on as a task, which will be asked to leave, unless the session may last until it ends."""
        raise NotImplementedError

    def abort(self) -> None:
        """At once, whatever is lost."""
        raise NotImplementedError

    def end(self, error: BaseException | None = None, *, done: bool = False) -> None:
        """Close the stream in an orderly way. `done`: the peer has said that it says nothing more; `error` is told."""
        if self.stream.backlog:
            self.stream.give_back()  # else the visit, which is over, would hear of what comes now
            self._host.visit_goes_on(self, _nothing(error))
            return
        self.stream.part(done=done)
        self._host.visit_ended(self, error)

    def go_on(self, work: Coroutine[Any, Any, None]) -> None:
        """The rest of the session is `work`, with the stream given back; the stream is closed when it returns."""
        self.stream.give_back()
        self._host.visit_goes_on(self, work)


async def _nothing(error: BaseException | None) -> None:
    if error is not None:
        raise error
