"""Dovecot's administration over HTTP (doveadm, `service doveadm { inet_listener http … }`): one call at a time.

Knows the form of calls and their answers, and the few that links need. Does not know when to call: each takes Dovecot
about 12 ms, as it starts a process for it.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from contextlib import suppress

from onedomain.backend.trouble import Trouble, closed, troubles
from onedomain.model.failure import Failed, again
from onedomain.model.health import Seen
from onedomain.model.server import Endpoint
from onedomain.net.dial import dial
from onedomain.net.stream import Stream
from onedomain.net.tls import ClientContexts
from onedomain.protocol import http
from onedomain.protocol.imap import mutf7

PATH = "/doveadm/v1"
CONNECT_SECONDS = 5.0
CALL_SECONDS = 30.0
AT_ONCE = 4
READ = 65536


class Doveadm:
    """Calls may be made side by side. Raises Trouble and CancelledError."""

    def __init__(self, endpoint: Endpoint, key: str, contexts: ClientContexts) -> None:
        self._endpoint = endpoint
        self._authorization = f"X-Dovecot-API {b64encode(key.encode()).decode('ascii')}"
        self._contexts = contexts
        self._places = asyncio.Semaphore(AT_ONCE)
        self._idle: list[Stream] = []

    async def update_mailbox(
        self, user: str, mailbox: str, *, uidvalidity: int = 0, uidnext: int = 0, modseq: int = 0
    ) -> None:
        """`mailbox` in modified UTF-7, as IMAP spells it. UIDVALIDITY as given, the others never go down. Whoever has
        the folder open is sent away where UIDVALIDITY changes.
        """
        values = {"uidValidity": uidvalidity, "minNextUid": uidnext, "minHighestModseq": modseq}
        given = {key: str(value) for key, value in values.items() if value}
        with troubles(f"doveadm at {self._endpoint}"):
            name = mutf7.decode(mailbox)  # here it is UTF-8
        await self.call("mailboxUpdate", {"user": user, "mailbox": name, **given})

    async def probe(self) -> None:
        """Whether the interface is there, takes the key and knows what links need."""
        doing = f"doveadm at {self._endpoint}"
        async with self._places:
            with troubles(doing):
                response = await self._ask(self._question("GET", b""), doing)
        self._check_status(doing, response)
        if b'"mailboxUpdate"' not in response.body:
            raise self._refused(f"{doing}: it does not know mailboxUpdate")

    async def call(self, command: str, parameters: dict[str, str]) -> None:
        doing = f"doveadm {command} at {self._endpoint}"
        body = json.dumps([[command, parameters, "t"]]).encode("ascii")
        async with self._places:
            with troubles(doing):
                response = await self._ask(self._question("POST", body), doing)
        self._check(doing, response)

    def _question(self, method: str, body: bytes) -> bytes:
        headers = {"Authorization": self._authorization, "Content-Type": "application/json"}
        return http.request(method, PATH, str(self._endpoint), headers, body)

    async def _ask(self, question: bytes, doing: str) -> http.HttpResponse:
        """On an idle connection, if one is left that the server has not closed. Calls may be repeated without harm."""
        limit = asyncio.get_running_loop().time() + CALL_SECONDS
        while self._idle:
            stream = self._idle.pop()
            with suppress(OSError):
                if not stream.closed and stream.receive(READ) is None:
                    return await self._exchange(stream, question, limit, doing)
            stream.close()
        stream = await dial(self._endpoint, timeout=CONNECT_SECONDS, contexts=self._contexts)
        return await self._exchange(stream, question, limit, doing)

    async def _exchange(self, stream: Stream, question: bytes, limit: float, doing: str) -> http.HttpResponse:
        reader = http.ResponseReader()
        response: http.HttpResponse | None = None
        try:
            stream.deadline = limit
            await stream.write(question)
            while response is None:
                data = await stream.read(READ)
                if not data:
                    response = reader.end() if reader.begun else None
                    if response is None:
                        raise closed(doing)
                else:
                    response = reader.receive(data)
        finally:
            if response is None or response.last:
                stream.close()
            else:
                stream.deadline = None
                self._idle.append(stream)
        return response

    def _check_status(self, doing: str, response: http.HttpResponse) -> None:
        if response.status != 200:
            advice = " (is the key doveadm_api_key?)" if response.status in (401, 403) else ""
            raise self._refused(f"{doing}: HTTP status {response.status}{advice}")

    def _check(self, doing: str, response: http.HttpResponse) -> None:
        self._check_status(doing, response)
        try:
            [[kind, answer, _]] = json.loads(response.body)
        except (ValueError, TypeError):
            raise self._refused(f"{doing}: {response.body[:200]!r}") from None
        if kind != "doveadmResponse":
            raise self._refused(f"{doing}: {answer}")

    def _refused(self, reason: str) -> Failed:
        return Trouble(again(451, "4.3.0", "the mail server refuses", reason), Seen.OK)

    async def close(self) -> None:
        idle, self._idle = self._idle, []
        for stream in idle:
            stream.close()
