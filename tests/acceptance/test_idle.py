"""Five thousand people who are logged in and say nothing."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.cluster import PASSWORD, Cluster, control

SESSIONS = 5000
AT_ONCE = 50
USUAL = 1024
"""The soft limit of open files that shells and services begin with."""

Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def open_files() -> Iterator[None]:
    """What is started in the test has the usual soft limit; the test itself takes what it may have."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < SESSIONS + 1000:
        pytest.skip(f"needs a hard limit of open files above {SESSIONS + 1000}, it is {before[1]}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (USUAL, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def resident(pid: int) -> int:
    """Octets of memory that the process has now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.slow
async def test_five_thousand_idle_sessions(open_files: None, make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster("node", people=50)
    edge, people = cluster.edge, cluster.people
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    pids = [one["pid"] for one in control(edge, "status")["workers"]]
    gate = asyncio.Semaphore(AT_ONCE)

    async def enter(number: int) -> Line:
        async with gate:
            line = reader, writer = await asyncio.open_connection(edge.host, edge.port["imap"])
            assert (await reader.readline()).startswith(b"* OK")
            writer.write(f'a LOGIN {people[number % len(people)]} "{PASSWORD}"\r\n'.encode())
            assert (answer := await reader.readline()).startswith(b"a OK"), answer
            return line

    async def ask(line: Line) -> float:
        reader, writer = line
        async with gate:
            began = time.monotonic()
            writer.write(b"b NOOP\r\n")
            assert (answer := await reader.readline()).startswith(b"b OK"), answer
            return time.monotonic() - began

    first = await enter(0)  # what everybody shares is there before anybody is counted
    before = sum(map(resident, pids))
    began = time.monotonic()
    lines = [first, *await asyncio.gather(*map(enter, range(1, SESSIONS)))]
    took = time.monotonic() - began
    each = (sum(map(resident, pids)) - before) / SESSIONS
    status = control(edge, "status")
    assert status["sessions"]["imap"] == SESSIONS and len(status["workers"]) == 2
    seconds = sorted(await asyncio.gather(*map(ask, lines)))
    print(f"{SESSIONS} sessions in {took:.1f} s; {each / 1024:.1f} kB of each is in the workers; slowest NOOP of "
          f"{AT_ONCE} at once {seconds[-1] * 1000:.0f} ms")
    assert each < 16 * 1024
    assert seconds[-1] < 5
    stopping = asyncio.create_task(asyncio.to_thread(edge.stop))
    farewells = await asyncio.gather(*(reader.read() for reader, _ in lines))
    await stopping
    assert all(text.startswith(b"* BYE") and text.endswith(b"\r\n") for text in farewells)
    for _, writer in lines:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for _, writer in lines), return_exceptions=True)
