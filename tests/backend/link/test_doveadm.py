"""Dovecot's HTTP interface, as it answers and as it should not."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from onedomain.backend.link.doveadm import Doveadm, Update
from onedomain.backend.trouble import Trouble
from onedomain.model.failure import Kind
from onedomain.model.server import Endpoint
from onedomain.net.tls import ClientContexts
from tests.backend.contract import local
from tests.backend.link import mailbox
from tests.backend.test_real import ACL
from tests.lab.process import wait_until

FINE = b'[["doveadmResponse",[],"t0"]]'
TWO = b'[["doveadmResponse",[],"t0"],["doveadmResponse",[],"t1"]]'
REFUSED = b'[["error",{"type":"exitCode","exitCode":68},"t0"]]'
RAISE = Update("INBOX", uidnext=3)


def answer(body: bytes, status: int = 200, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


@asynccontextmanager
async def interface(*answers: bytes) -> AsyncIterator[tuple[Doveadm, list[bytes], list[int]]]:
    """One answer per question; b"" closes instead. What was asked, and how many connections there were."""
    asked: list[bytes] = []
    connections: list[int] = []
    left = list(answers)
    writers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        writers.append(writer)
        try:
            while left:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                asked.append(head + await reader.readexactly(size))
                reply = left.pop(0)
                writer.write(reply)
                if not reply or b"close" in reply:
                    return
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    doveadm = Doveadm(local(server.sockets[0].getsockname()[1]), "the-key", ClientContexts())
    try:
        yield doveadm, asked, connections
    finally:
        await doveadm.close()
        server.close()


async def test_a_call() -> None:
    async with interface(answer(FINE), answer(FINE)) as (doveadm, asked, connections):
        update = Update("Lists/&ZeVnLIqe-", uidvalidity=7, uidnext=12, modseq=900)
        await doveadm.update_mailboxes("u@example.com", [update])
        await doveadm.update_mailboxes("u@example.com", [RAISE])
    head, _, body = asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /doveadm/v1 HTTP/1.1\r\n")
    assert b"Authorization: X-Dovecot-API " + base64.b64encode(b"the-key") in head
    values = {"uidValidity": "7", "minNextUid": "12", "minHighestModseq": "900"}
    assert json.loads(body) == [["mailboxUpdate", {"user": "u@example.com", "mailbox": "Lists/日本語", **values}, "t0"]]
    assert len(connections) == 1


def commands(question: bytes) -> list[tuple[str, str]]:
    return [(each[1]["mailbox"], each[2]) for each in json.loads(question.partition(b"\r\n\r\n")[2])]


async def test_many_folders_go_together() -> None:
    many = [Update(f"F{number}", uidnext=3) for number in range(2)]
    async with interface(answer(TWO), answer(FINE), answer(FINE), answer(FINE), answer(REFUSED)) as (doveadm, asked, _):
        await doveadm.update_mailboxes("u", many)
        assert [commands(each) for each in asked] == [[("F0", "t0"), ("F1", "t1")]]
        await doveadm.update_mailboxes("u", many)  # only the first is answered: the other goes alone
        assert [commands(each) for each in asked[1:]] == [[("F0", "t0"), ("F1", "t1")], [("F1", "t0")]]
        with pytest.raises(Trouble, match="refuses") as raised:
            await doveadm.update_mailboxes("u", many)
        assert "68" in raised.value.failure.reason
        assert [commands(each) for each in asked[3:]] == [[("F0", "t0")], [("F1", "t0")]], "each alone from then on"


async def test_a_connection_that_is_closed_is_not_used_again() -> None:
    replies = answer(FINE, headers="Connection: close\r\n"), answer(FINE)
    async with interface(*replies) as (doveadm, asked, connections):
        for _ in range(2):
            await doveadm.update_mailboxes("u", [RAISE])
    assert len(connections) == len(asked) == 2


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (answer(b"", 401), "doveadm_api_key"),
        (answer(b"", 500), "500"),
        (answer(REFUSED), "68"),
        (answer(b"hello"), "hello"),
        (answer(b"[]"), "no answer"),
        (answer(b"[1]"), "[1]"),
        (b"", "closed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhe close", "within"),
        (b"220 mail ESMTP close\r\n\r\n", "no HTTP"),
    ],
)
async def test_what_goes_wrong(reply: bytes, reason: str) -> None:
    async with interface(reply) as (doveadm, _, _):
        with pytest.raises(Trouble) as raised:
            await doveadm.update_mailboxes("u", [RAISE])
    failure = raised.value.failure
    assert failure.kind is Kind.AGAIN and reason in failure.reason and "the-key" not in failure.reason


async def test_a_name_that_is_no_modified_utf_7() -> None:
    with pytest.raises(Trouble):
        await Doveadm(Endpoint("127.0.0.1", 1), "k", ClientContexts()).update_mailboxes("u", [Update("&x", uidnext=3)])


@pytest.mark.real
@pytest.mark.parametrize("together", [True, False])
async def test_the_real_one(start_dovecot: Callable[..., Any], together: bool) -> None:
    """With `doveadm_port` it looks each user up in the password database, which only its first command may."""
    lab = start_dovecot(plugins=ACL, extra="" if together else "doveadm_port = 1")
    lab.prepare("u@example.com")
    doveadm = Doveadm(local(lab.doveadm_http_port), lab.api_key, ClientContexts())
    await doveadm.probe()
    updates = [Update("INBOX", uidnext=100 + n, uidvalidity=77) for n in range(6)]
    await asyncio.gather(*(doveadm.update_mailboxes("u@example.com", [each]) for each in updates))
    box = mailbox.look(lab, "u@example.com").boxes["INBOX",]
    assert (box.uidvalidity, box.uidnext) == (77, 105)
    names = ("Sent", "Drafts", "Trash")
    await doveadm.update_mailboxes("u@example.com", [Update(name, uidnext=50) for name in names])
    await doveadm.update_mailboxes("u@example.com", [Update(name, uidnext=51) for name in names])
    requests = 6 + (1 + 1 if together else 3 + 3)
    wait_until(lambda: lab.log().count('"POST /doveadm/v1') == requests, f"{requests} requests", 5)
    assert {mailbox.look(lab, "u@example.com").boxes[name,].uidnext for name in names} == {51}
    with pytest.raises(Trouble, match="refuses"):
        await doveadm.update_mailboxes("u@example.com", [Update("Sent", uidnext=60), Update("Missing", uidnext=3)])
    wrong = Doveadm(local(lab.doveadm_http_port), "wrong", ClientContexts())
    with pytest.raises(Trouble) as raised:
        await wrong.update_mailboxes("u@example.com", [RAISE])
    with pytest.raises(Trouble):
        await wrong.probe()
    assert "doveadm_api_key" in raised.value.failure.reason
    await doveadm.close()
