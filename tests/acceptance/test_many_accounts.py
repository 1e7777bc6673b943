"""A server with many accounts dies: how long until the first, the median and the last of them is served again.

By default 100 accounts with 20 folders each; ONEDOMAIN_LONG=1 makes it 2,000 on nodes. Everybody tries to log in from
the moment of the kill, through one edge, as mail programs do that have lost their connection.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cluster import PASSWORD, Cluster, Home, add_accounts
from tests.acceptance.test_failover import LONG, failover, home, log_in
from tests.acceptance.test_links import await_whole, mailbox
from tests.lab.process import wait_until

SOME = 100
ACCOUNTS = 2000 if LONG else SOME
FOLDERS = 20
PATIENCE = 300.0
TRY_AGAIN = 0.25
FILLERS = 50
SAMPLE = 25
"""Mailboxes that are read at their new server."""
TEXT = b"Subject: here\r\n\r\nsince before\r\n"


async def fill_node(server: Home, accounts: Sequence[str]) -> None:
    """Each with its folders, and a message in each of them; the same wherever it is done."""

    def commands(number: int, account: str) -> Iterator[bytes]:
        yield b'XLINK ACCOUNT "%b"' % account.encode()
        for folder in range(FOLDERS):
            name = b"Project-%d" % folder if folder else b"INBOX"
            at = b'"%b" f%dx%d %d' % (account.encode(), number, folder, 1_700_000_000 + folder)
            yield b'XLINK FOLDER %b "%b" 1 1 NIL' % (at, name)
            yield b"XLINK APPEND %b (1 2 1700000000 () NIL) {%d+}\r\n%b" % (at, len(TEXT), TEXT)

    async def fill(some: Sequence[tuple[int, str]]) -> None:
        reader, writer = await asyncio.open_connection(server.lab.host, server.lab.imap_port)
        await reader.readline()
        replication = server.table["replication"]
        words = [f"LOGIN {replication['user']} {replication['password']}".encode()]
        for number, account in some:
            words += commands(number, account)
            writer.write(b"".join(b"c%d %b\r\n" % each for each in enumerate(words)))
            for tag, command in enumerate(words):
                while (answer := await reader.readline()).startswith(b"* "):
                    pass
                assert answer.startswith(b"c%d OK" % tag), command[:200] + answer
            words.clear()
        writer.close()

    numbered = list(enumerate(accounts))
    await asyncio.gather(*(fill(numbered[start::FILLERS]) for start in range(FILLERS)))


def fill_dovecot(server: Home, accounts: Sequence[str]) -> None:
    """The first one's mailbox, for all the others: Dovecot finds what it is like in its folder."""
    first, *others = (server.lab.folder / "mail" / "example.com" / account.partition("@")[0] for account in accounts)
    for other in others:
        subprocess.run(["cp", "-rp", first, other], check=True)


def make_folders(cluster: Cluster, account: str) -> None:
    """As its user does, who tries until the edge has its first lease."""
    with log_in(cluster, account) as session:
        for folder in range(FOLDERS - len(session.list()[1])):
            session.create(f"Project-{folder}")
        for line in session.list()[1]:
            assert session.append(line.split()[-1].decode(), None, None, TEXT)[0] == "OK"  # type: ignore[arg-type]


def link_as_the_first(database: Path, accounts: Sequence[str]) -> None:
    """All are the same on both sides, and so are their links: 40,000 first copies would take longer than the rest."""
    with closing(sqlite3.connect(database)) as connection, connection:
        (row,) = connection.execute("SELECT target, source, epoch, state, saved FROM link WHERE account = ?",
                                    accounts[:1])
        target, source, epoch, state, saved = row
        assert state.count("source_name") == FOLDERS
        connection.executemany(
            "INSERT INTO link (account, target, source, epoch, state, saved) VALUES (?, ?, ?, ?, ?, ?)",
            [(account, target, source, epoch, state.replace('"f0x', f'"f{number}x'), saved)
             for number, account in enumerate(accounts) if number])


async def served(host: str, port: int, account: str) -> float:
    """When its INBOX could be selected, on the monotonic clock."""
    until = time.monotonic() + PATIENCE
    login = f'a LOGIN {account} "{PASSWORD}"\r\n'.encode()
    while True:
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await asyncio.open_connection(host, port)
            await reader.readline()
            for tag, command in ((b"a", login), (b"b", b"b SELECT INBOX\r\n")):
                writer.write(command)
                while not (line := await reader.readline()).startswith(tag + b" "):
                    if not line:
                        raise ConnectionError("ended")
                if not line.startswith(tag + b" OK"):
                    raise ConnectionError(line.decode())
            return time.monotonic()
        except OSError:
            if time.monotonic() > until:
                raise
        finally:
            if writer is not None:
                writer.transport.abort()
        await asyncio.sleep(TRY_AGAIN)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["node", *["dovecot"] * LONG])
async def test_a_server_with_many_accounts_dies(
    make_cluster: Callable[..., Cluster], make_home: Callable[..., Any], kind: str
) -> None:
    old, new = make_home(kind, "a"), make_home(kind, "b")
    cluster = make_cluster(old, new, people=0, replicas={"a": "b"}, prepared=False,
                           extra={"failover": {"automatic": True}})
    accounts = [f"a-{number}@example.com" for number in range(ACCOUNTS if kind == "node" else SOME)]
    began = time.monotonic()
    if kind == "node":
        await asyncio.gather(fill_node(old, accounts), fill_node(new, accounts))
    cluster.add([(accounts[0], "a")], replicas={"a": "b"})
    if kind == "dovecot":
        old.lab.prepare(accounts[0])
        await asyncio.to_thread(make_folders, cluster, accounts[0])
    await asyncio.to_thread(await_whole, cluster)
    cluster.edge.stop()
    if kind == "dovecot":
        for server in (old, new):
            fill_dovecot(server, accounts)
    filled = time.monotonic()
    add_accounts(cluster.edge, [(account, "a") for account in accounts], replicas={"a": "b"})
    link_as_the_first(cluster.folder / "directory.db", accounts)
    cluster.edge.start()
    await asyncio.to_thread(await_whole, cluster, 300)
    print(f"filled in {filled - began:.1f} s, linked in {time.monotonic() - filled:.1f} s")
    await asyncio.sleep(2)

    edge = cluster.edge
    old.lab.kill()
    died = time.monotonic()
    times = sorted(await asyncio.gather(*(served(edge.host, edge.port["imap"], account) for account in accounts)))
    took = [each - died for each in times]
    wait_until(lambda: not failover(cluster)["pending"], "all promotions", PATIENCE)
    print(f"{len(accounts)} x {FOLDERS} folders on {kind}s: served again after {took[0]:.2f} s (first), "
          f"{statistics.median(took):.2f} s (median), {took[-1]:.2f} s (last); {failover(cluster)['recent']}")
    [last] = failover(cluster)["recent"]
    assert (last["accounts"], last["settled"], last["renumbered"]) == (len(accounts), len(accounts), 0), last
    assert home(cluster, accounts[-1])[0] == "b"
    for account in accounts[:: len(accounts) // SAMPLE]:
        shown = mailbox(cluster, "b", account)
        assert len(shown) == FOLDERS and all(len(messages) == 1 for _, messages in shown.values())
