"""Transcripts: `C:` lines go in, `S:` lines must come out, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

from onedomain.model.failure import refuse
from onedomain.protocol.smtp.event import (
    Auth,
    BodyChunk,
    BodyEnd,
    Event,
    Rcpt,
    StartTls,
)
from onedomain.protocol.smtp.server import SmtpServer

NO_USER = refuse(550, "5.1.1", "no such mailbox")


class Peer:
    """Drives a server with yes to everything, but `nobody@…` as a recipient and the password "wrong"."""

    def __init__(self, server: SmtpServer) -> None:
        self.server = server
        self.events: list[Event] = []
        self.bodies: list[bytes] = []
        self._body: list[bytes] = []

    def send(self, data: bytes) -> bytes:
        self.server.receive(data)
        while (event := self.server.next_event()) is not None:
            self.events.append(event)
            self._answer(event)
        return self.server.take_output()

    def _answer(self, event: Event) -> None:
        match event:
            case Rcpt() if event.address.local.startswith("nobody"):
                self.server.refuse(NO_USER)
            case Auth() if event.credentials.password == "wrong":
                self.server.refuse(refuse(535, "5.7.8", "authentication failed"))
            case BodyChunk():
                self._body.append(event.data)
            case BodyEnd():
                if event.failure is None:
                    self.bodies.append(b"".join(self._body))
                    self.server.accept("taken")
                self._body.clear()
            case StartTls():
                self.server.accept()
            case _ if self.server.waits:
                self.server.accept()
            case _:
                pass


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def converse(make: Callable[[], SmtpServer], transcript: str, *, one_by_one: bool = False) -> Peer:
    """Plays a transcript; text is Latin-1, and CRLF is put at the end of each line."""
    peer = Peer(make())
    said = b""
    batch: list[str] = []
    for line in [*transcript.strip("\n").split("\n"), "C: "]:
        who, _, text = line.replace("{nothing}", "").partition(":")
        if who == "S" and batch:
            said += _say(peer, batch, one_by_one)
            batch.clear()
        if who == "S":
            expected = text.removeprefix(" ").encode("latin-1")
            got, _, said = said.partition(b"\r\n")
            assert got == expected, f"expected {expected!r}, got {got!r}, then {said!r}"
        elif who == "C":
            assert said == b"", f"unexpected {said!r} before {text!r}"
            batch.append(text.removeprefix(" "))
    return peer


def _say(peer: Peer, lines: list[str], one_by_one: bool) -> bytes:
    data = "".join(line + "\r\n" for line in lines).encode("latin-1")
    if one_by_one:
        return b"".join(peer.send(data[i:i + 1]) for i in range(len(data)))
    return peer.send(data)
