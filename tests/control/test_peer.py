"""Edges know each other by certificate; nobody else gets in."""

from __future__ import annotations

import asyncio
import ssl
import stat
import time
from pathlib import Path

import pytest

from onedomain.control.link import Link, LinkError
from onedomain.control.peer import Identity, context, dial, identity


def make(path: Path, name: str) -> Identity:
    (path / name).mkdir(exist_ok=True)
    return identity(path / name, name, time.time())


def test_identity_is_made_once_and_the_key_is_private(tmp_path: Path) -> None:
    first = make(tmp_path, "a")
    assert make(tmp_path, "a") == first
    assert stat.S_IMODE(first.key_file.stat().st_mode) == 0o600
    assert "PRIVATE" not in first.certificate
    other = identity(tmp_path / "a", "b", time.time())
    assert other.certificate != first.certificate


async def test_a_known_edge_is_answered_and_a_stranger_is_not(tmp_path: Path) -> None:
    a, b, stranger = (make(tmp_path, name) for name in ("a", "b", "stranger"))

    async def name(link: Link) -> str:
        return "a"

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Link(reader, writer, {"name": name}).serve()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context(a, [b.certificate], server=True))
    port = server.sockets[0].getsockname()[1]
    link, task = await dial(b, "127.0.0.1", port, a.certificate)
    assert await link.call("name") == "a"
    link.close()
    await asyncio.gather(task, return_exceptions=True)

    with pytest.raises(ssl.SSLError):  # the server is not who we expect
        await dial(b, "127.0.0.1", port, stranger.certificate)

    link, task = await dial(stranger, "127.0.0.1", port, a.certificate)  # TLS 1.3: refused after our handshake
    with pytest.raises(LinkError):
        await link.call("name", timeout=5)
    link.close()
    await asyncio.gather(task, return_exceptions=True)
    server.close()
