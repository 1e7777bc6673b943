"""Dovecot's administration over HTTP (doveadm, `service doveadm { inet_listener http … }`).

Knows the form of calls and their answers, and the few that links need. Does not know when to call: each request takes
Dovecot about 12 ms, as it starts a process for it; each further command in it 2 to 3 ms. That process gives root's
rights up with its first command: where the user database may then not be asked (`doveadm_port` is set, and auth-userdb
does not belong to the mail user), all others are refused, and each needs a request of its own.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

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
PER_REQUEST = 50
READ = 65536


@dataclass(frozen=True, slots=True)
class Update:
    """What a folder is given. `mailbox` in modified UTF-7, as IMAP spells it. Zeros: as it is."""

    mailbox: str
    uidvalidity: int = 0
    uidnext: int = 0
    modseq: int = 0


class Doveadm:
    """Calls may be made side by side. Raises Trouble and CancelledError."""

    def __init__(self, endpoint: Endpoint, key: str, contexts: ClientContexts) -> None:
        self._endpoint = endpoint
        self._authorization = f"X-Dovecot-API {b64encode(key.encode()).decode('ascii')}"
        self._contexts = contexts
        self._places = asyncio.Semaphore(AT_ONCE)
        self._idle: list[Stream] = []
        self._together = True

    async def update_mailboxes(self, user: str, updates: Sequence[Update]) -> None:
        """UIDVALIDITY as given, the others never go down. Whoever has a folder open is sent away where its UIDVALIDITY
        changes. After a failure any of them may have been made.
        """
        commands = [("mailboxUpdate", self._parameters(user, each)) for each in updates]
        while commands:
            some = commands[: PER_REQUEST if self._together else 1]
            answers = await self._call(some)
            refused = [command for command, answer in zip(some, answers, strict=True) if answer]
            if refused and len(some) == 1:
                raise self._refused(f"doveadm mailboxUpdate at {self._endpoint}: {answers[0]}")
            commands = refused + commands[len(some) :]
            self._together = self._together and not refused

    def _parameters(self, user: str, update: Update) -> dict[str, str]:
        values = {"uidValidity": update.uidvalidity, "minNextUid": update.uidnext, "minHighestModseq": update.modseq}
        given = {key: str(value) for key, value in values.items() if value}
        with troubles(f"doveadm at {self._endpoint}"):
            name = mutf7.decode(update.mailbox)  # here it is UTF-8
        return {"user": user, "mailbox": name, **given}

    async def probe(self) -> None:
        """Whether the interface is there, takes the key and knows what links need."""
        doing = f"doveadm at {self._endpoint}"
        async with self._places:
            with troubles(doing):
                response = await self._ask(self._question("GET", b""), doing)
        self._check_status(doing, response)
        if b'"mailboxUpdate"' not in response.body:
            raise self._refused(f"{doing}: it does not know mailboxUpdate")

    async def _call(self, commands: Sequence[tuple[str, dict[str, str]]]) -> list[str]:
        """Carried out in their order; why each of them was refused, or ""."""
        names = ", ".join(dict.fromkeys(name for name, _ in commands))
        doing = f"doveadm {names} at {self._endpoint}"
        body = json.dumps([[name, parameters, f"t{n}"] for n, (name, parameters) in enumerate(commands)])
        async with self._places:
            with troubles(doing):
                response = await self._ask(self._question("POST", body.encode("ascii")), doing)
        self._check_status(doing, response)
        try:
            answers = {tag: "" if kind == "doveadmResponse" else str(answer)
                       for kind, answer, tag in json.loads(response.body)}
        except (ValueError, TypeError):
            raise self._refused(f"{doing}: {response.body[:200]!r}") from None
        return [answers.get(f"t{number}", "no answer") for number in range(len(commands))]

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

    def _refused(self, reason: str) -> Failed:
        return Trouble(again(451, "4.3.0", "the mail server refuses", reason), Seen.OK)

    async def close(self) -> None:
        idle, self._idle = self._idle, []
        for stream in idle:
            stream.close()
