"""Names by a resolver of one's own: a small real DNS server on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import dns.message
import dns.rcode
import dns.rrset
import pytest
import pytest_asyncio

from onedomain.net.names import Names, NoSuchName

RECORDS = {
    ("mail.example.", "A"): ["192.0.2.1", "192.0.2.2"], ("mail.example.", "AAAA"): ["2001:db8::1"],
    ("four.example.", "A"): ["192.0.2.4"],
}


class Server(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.silent = False

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        key = (question.name.to_text(), dns.rdatatype.to_text(question.rdtype))
        self.asked.append(key)
        if self.silent:
            return
        answer = dns.message.make_response(query)
        if key in RECORDS:
            answer.answer.append(dns.rrset.from_text(question.name, 300, "IN", key[1], *RECORDS[key]))
        elif not any(name == key[0] for name, _ in RECORDS):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(), address)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    transport, made = await asyncio.get_running_loop().create_datagram_endpoint(Server, ("127.0.0.1", 0))
    yield made
    transport.close()


def names(server: Server, timeout: float = 5.0) -> Names:
    made = Names(["127.0.0.1"], timeout)
    assert made._resolver is not None
    made._resolver.port = server.transport.get_extra_info("sockname")[1]
    return made


async def test_both_families_and_kept_answers(server: Server) -> None:
    ours = names(server)
    for _ in range(2):
        # The order within a family is the server's, and this one shuffles.
        assert sorted(await ours.look_up("mail.example", 25)) == [
            (socket.AF_INET, ("192.0.2.1", 25)), (socket.AF_INET, ("192.0.2.2", 25)),
            (socket.AF_INET6, ("2001:db8::1", 25, 0, 0)),
        ]
    assert sorted(server.asked) == [("mail.example.", "A"), ("mail.example.", "AAAA")], "asked once"


async def test_one_family_is_enough(server: Server) -> None:
    assert await names(server).look_up("four.example", 25) == [(socket.AF_INET, ("192.0.2.4", 25))]


async def test_a_name_that_is_not_there(server: Server) -> None:
    with pytest.raises(NoSuchName, match="does not exist"):
        await names(server).look_up("nobody.example", 25)


async def test_a_resolver_that_says_nothing(server: Server) -> None:
    server.silent = True
    with pytest.raises(NoSuchName, match=r"timed out|lifetime"):
        await names(server, 0.3).look_up("mail.example", 25)


async def test_short_names_are_the_systems(server: Server) -> None:
    assert (socket.AF_INET, ("127.0.0.1", 25)) in await names(server).look_up("localhost", 25)
    assert server.asked == []


@pytest.mark.parametrize("name", ["a..b.example", "x" * 70 + ".example", "\udcff.example"])
async def test_what_is_no_name(server: Server, name: str) -> None:
    with pytest.raises(NoSuchName):
        await names(server).look_up(name, 25)
    with pytest.raises(NoSuchName):
        await Names().look_up(name, 25)
