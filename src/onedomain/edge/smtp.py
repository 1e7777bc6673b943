"""An SMTP session as a task: from any point of the conversation to its end.

Knows how to read, write and wait, and what a client is told whose session ends before its time. Does not know what
follows from what was said (smtp_talk.py). Sessions begin without a task (smtp_visit.py), and most never need one.

Replies are written once for a whole batch of pipelined commands, when nothing more can be done without the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from onedomain.edge.smtp_ports import SmtpParts, SmtpRules
from onedomain.edge.smtp_talk import SmtpTalk
from onedomain.model.failure import Failure, again
from onedomain.net.stream import Stream

READ = 65536
READ_COMMANDS = 4096
"""What the kernel gives is first put into as much memory as was asked for."""


class SmtpEdge:
    """What a listener speaks. The stream is the listener's to close."""

    def __init__(self, parts: SmtpParts, rules: SmtpRules) -> None:
        self.parts = parts
        self.rules = rules

    async def __call__(self, stream: Stream) -> None:
        """A whole session. Raises ConnectionError when the client is gone, ssl.SSLError when TLS does not come about.
        """
        talk = SmtpTalk(stream, self.parts, self.rules)
        talk.greet()
        await self.go_on(stream, talk)

    async def go_on(self, stream: Stream, talk: SmtpTalk, work: Coroutine[Any, Any, None] | None = None) -> None:
        """From where it is, beginning with what `take` left to be done. Raises as above."""
        try:
            if work is not None:
                await work
            await self._converse(stream, talk)
        except TimeoutError:
            self._say_goodbye(stream, talk, again(421, "4.4.2", f"{self.rules.offer.name} waited too long"))
        except asyncio.CancelledError:
            self._say_goodbye(stream, talk, again(421, "4.3.2", f"{self.rules.offer.name} is shutting down"))
            raise
        finally:
            talk.forget_message()

    async def _converse(self, stream: Stream, talk: SmtpTalk) -> None:
        server = talk.server
        while True:
            while not talk.over and (event := server.next_event()) is not None:
                if (work := talk.take(event)) is not None:
                    await work
            output = talk.take_output()
            stream.deadline = talk.deadline()
            if output:
                await stream.write(output)
            talk.told()
            if talk.over:
                return
            data = await (stream.read(READ) if talk.message is not None else stream.rest(READ_COMMANDS))
            if not data:
                return
            server.receive(data)

    def _say_goodbye(self, stream: Stream, talk: SmtpTalk, failure: Failure) -> None:
        talk.end(failure)
        try:
            stream.write_nowait(talk.take_output())
        except ConnectionError:
            pass  # nobody is there to hear it
