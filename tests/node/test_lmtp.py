"""LMTP conversations with a running node."""

from __future__ import annotations

from pathlib import Path

import pytest

from onedomain.model.failure import again
from onedomain.node.server import Node
from onedomain.node.store.store import Store
from tests.node.lab import Lmtp, Wire, imap, lmtp, message, start_node


async def stored(node: Node, account: str) -> list[bytes]:
    client = await imap(node, account, select="INBOX")
    lines = await client("UID FETCH 1:* BODY.PEEK[]")
    await client.close()
    return [line.partition(b"}\r\n")[2][:-1] for line in lines[:-1]]


async def test_each_recipient_has_its_answer(node: Node) -> None:
    client = await lmtp(node)
    await client.send(
        b"MAIL FROM:<> SIZE=50 BODY=8BITMIME\r\nRCPT TO:<one@x.jp>\r\nRCPT TO:<One+tag@x.jp>\r\n"
        b"RCPT TO:<two@x.jp>\r\nDATA\r\n"
    )
    assert [(await client.reply())[:9] for _ in range(5)] == [b"250 2.1.0", *[b"250 2.1.5"] * 3, b"354 go ah"]
    await client.send(b"X-OneDomain-Delivery: d\r\n\r\n..dots\r\n\xff\x00bare\nLF\r\n.\r\nNOOP\r\n")
    assert [await client.reply() for _ in range(4)] == [
        b"250 2.0.0 stored", b"250 2.0.0 stored already", b"250 2.0.0 stored", b"250 2.0.0 ok",
    ]  # fmt: skip
    whole = b"Return-Path: <>\r\nX-OneDomain-Delivery: d\r\n\r\n.dots\r\n\xff\x00bare\nLF\r\n"
    assert await stored(node, "one@x.jp") == [whole] == await stored(node, "two@x.jp")


async def test_addresses_as_they_are_in_japan(node: Node) -> None:
    client = await lmtp(node)
    for address in ("a..b@docomo.ne.jp", "a.@ezweb.ne.jp"):
        assert await client.deliver(message(1), address) == [b"250 2.0.0 stored"]
        assert len(await stored(node, address)) == 1


async def test_nobody_unknown_is_taken(tmp_path: Path) -> None:
    node = await start_node(tmp_path, autocreate=False)
    await node.store.create_account("known@x.jp")
    client = await lmtp(node)
    assert await client.deliver(message(1), "unknown@x.jp") == [b"550 5.1.1 no such account here"]
    assert await client.deliver(message(1), "unknown@x.jp", "known+tag@x.jp") == [b"250 2.0.0 stored"]
    await client.close()
    await node.close()


async def test_accounts_are_made_in_the_domains_that_are_ours(tmp_path: Path) -> None:
    node = await start_node(tmp_path, domains=("x.jp",))
    client = await lmtp(node)
    assert (await client.deliver(message(1), "a+b@X.jp", "a@y.jp"))[0] == b"250 2.0.0 stored"
    assert (await client.deliver(message(1), "a@y.jp"))[0] == b"550 5.1.1 no such account here"
    assert await node.store.account("a@x.jp") is not None and await node.store.account("a+b@x.jp") is None
    await client.close()
    await node.close()


async def test_what_is_over_the_limit_is_refused(tmp_path: Path) -> None:
    node = await start_node(tmp_path, max_message=1024 * 1024)
    client = await lmtp(node)
    await client.send(b"MAIL FROM:<a@x.jp> SIZE=2000000\r\n")
    assert (await client.reply()).startswith(b"552 5.3.4")
    assert (await client.deliver(b"x" * 1100 * 1024 + b"\r\n", "a@x.jp"))[0].startswith(b"552 5.3.4")
    assert await client.deliver(message(1), "a@x.jp") == [b"250 2.0.0 stored"]
    await client.close()
    await node.close()


async def test_a_large_message_and_a_client_that_leaves_in_the_middle(node: Node, tmp_path: Path) -> None:
    client = await lmtp(node)
    large = message(1, 1_000_000)
    assert await client.deliver(large, "a@x.jp") == [b"250 2.0.0 stored"]
    assert await stored(node, "a@x.jp") == [b"Return-Path: <a@example.org>\r\n" + large]
    segments = set((tmp_path / "node" / "bodies").iterdir())
    leaving = await lmtp(node)
    await leaving.send(b"MAIL FROM:<a@x.jp>\r\nRCPT TO:<a@x.jp>\r\nDATA\r\n" + large)
    assert (await leaving.reply(), await leaving.reply(), (await leaving.reply())[:3])[2] == b"354"
    await leaving.close()
    assert await client.deliver(message(2), "a@x.jp") == [b"250 2.0.0 stored"]
    # what was begun for the large one is gone; the small one has opened a shared segment
    while len(set((tmp_path / "node" / "bodies").iterdir()) - segments) > 1:
        await node.store.read(lambda _: None)


async def test_a_full_disk_is_told_before_the_message(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "room", lambda _: again(452, "4.3.1", "insufficient system storage"))
    client = await lmtp(node)
    await client.send(b"MAIL FROM:<a@x.jp>\r\nRCPT TO:<a@x.jp>\r\nDATA\r\n")
    assert [(await client.reply())[:9] for _ in range(3)][2] == b"452 4.3.1"
    session = await imap(node, "a@x.jp")
    assert (await session(b"APPEND INBOX {3+}\r\nabc"))[-1].startswith(b"NO [OVERQUOTA]")


async def test_it_says_goodbye_when_the_node_stops(tmp_path: Path) -> None:
    node = await start_node(tmp_path)
    sender, reader = await lmtp(node), await imap(node, select="INBOX")
    await reader.send(b"i IDLE\r\n")
    await reader.line()
    await node.close()
    assert (await sender.line()).startswith(b"421 4.3.2 ")
    assert await reader.line() == b"* BYE Shutting down\r\n"


async def test_smtp_is_not_spoken(node: Node) -> None:
    client = await Lmtp.open(node.addresses["lmtp"][0])
    assert isinstance(client, Wire)
    assert (await client.line()).startswith(b"220 ")
    await client.send(b"EHLO x\r\n")
    assert (await client.line()).startswith(b"500 5.5.1 this is LMTP")
