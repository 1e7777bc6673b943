"""Fixtures for everybody: real servers of the lab, each test's own, ended and removed when the test is over.

`dovecot`, `cyrus`, `postfix`, `sink` are running instances; `start_dovecot`, … make further ones with options.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from tests.lab.cyrus import Cyrus
from tests.lab.disk import SmallDisk
from tests.lab.dovecot import Dovecot
from tests.lab.netns import Network
from tests.lab.ours import Nursery
from tests.lab.postfix import Postfix
from tests.lab.postgres import Postgres
from tests.lab.process import Server
from tests.lab.relay import Relay
from tests.lab.sink import Sink
from tests.lab.tls import Authority, Certificate

# Two busy cores make any example slow now and then; that says nothing of the code.
settings.register_profile("lab", deadline=None)
settings.load_profile("lab")

TESTS = Path(__file__).parent
LONG = ("drill", "acceptance", "bench", "invariants")
LOG_TAIL = 4000
_running: list[Server] = []


def _new_folder() -> Path:
    """Short, because of unix socket paths, and open to the users that servers run as."""
    folder = Path(tempfile.mkdtemp(prefix="od-", dir="/tmp"))
    folder.chmod(0o755)
    return folder


def _remove(folder: Path) -> None:
    if os.environ.get("ONEDOMAIN_KEEP") != "1":
        shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Folders of long tests first: nobody is left alone with one at the end, as files are what is shared out."""
    items.sort(key=lambda item: item.path.relative_to(TESTS).parts[0] not in LONG)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Add the end of each server's log to the report of a test that failed."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for server in _running:
            report.sections.append((f"{server.kind} in {server.folder}", server.log()[-LOG_TAIL:]))


@pytest.fixture(scope="session", autouse=True)
def nursery() -> Iterator[None]:
    """Where the tests start `onedomain`, it need not be imported each time."""
    Nursery.of_this_run = Nursery()
    yield
    Nursery.of_this_run.close()
    Nursery.of_this_run = None


@pytest.fixture
def lab_folder() -> Iterator[Path]:
    """A folder with a short path that servers under other users can reach; ONEDOMAIN_KEEP=1 leaves it there."""
    folder = _new_folder()
    yield folder
    _remove(folder)


def factory(kind: type[Server]) -> Iterator[Callable[..., Server]]:
    with ExitStack() as stack:

        def start(*, start: bool = True, **options: object) -> Server:
            folder = _new_folder()
            stack.callback(_remove, folder)
            server = kind(folder, **options)  # type: ignore[arg-type]
            _running.append(server)
            stack.callback(_running.remove, server)
            stack.callback(server.kill)
            if start:
                server.start()
            return server

        yield start


@pytest.fixture
def start_dovecot() -> Iterator[Callable[..., Dovecot]]:
    """`start_dovecot(**options)`: another Dovecot; `start=False` leaves the start to the test."""
    yield from factory(Dovecot)  # type: ignore[misc]


@pytest.fixture
def start_cyrus() -> Iterator[Callable[..., Cyrus]]:
    yield from factory(Cyrus)  # type: ignore[misc]


@pytest.fixture
def start_postfix() -> Iterator[Callable[..., Postfix]]:
    yield from factory(Postfix)  # type: ignore[misc]


@pytest.fixture
def start_sink() -> Iterator[Callable[..., Sink]]:
    yield from factory(Sink)  # type: ignore[misc]


@pytest.fixture
def start_postgres() -> Iterator[Callable[..., Postgres]]:
    """`start_postgres(**options)`: a cluster of the test's own, to be crashed; takes about a second."""
    yield from factory(Postgres)  # type: ignore[misc]


@pytest.fixture
def dovecot(start_dovecot: Callable[..., Dovecot]) -> Dovecot:
    """Everybody exists, with the password "secret"."""
    return start_dovecot()


@pytest.fixture
def cyrus(start_cyrus: Callable[..., Cyrus]) -> Cyrus:
    """Everybody exists, any password will do."""
    return start_cyrus()


@pytest.fixture
def postfix(start_postfix: Callable[..., Postfix]) -> Postfix:
    """Keeps everything it is given."""
    return start_postfix()


@pytest.fixture
def sink(start_sink: Callable[..., Sink]) -> Sink:
    return start_sink()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One cluster for the whole run, not to be stopped by a test; for that there is `start_postgres`."""
    folder = _new_folder()
    server = None
    try:
        server = Postgres(folder, durable=False)
        server.start()
        yield server
    finally:
        if server:
            server.kill()
        _remove(folder)


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """The URL of a fresh, empty database: postgresql+asyncpg://…"""
    name = postgres.create_database()
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def authority() -> Iterator[Authority]:
    """A certificate authority for this run; `authority.issue("mx.example.com")`."""
    folder = _new_folder()
    yield Authority(folder)
    _remove(folder)


@pytest.fixture(scope="session")
def certificate(authority: Authority) -> Certificate:
    """For localhost, 127.0.0.1 and *.example.com."""
    return authority.issue("localhost", "*.example.com")


@pytest.fixture
def start_relay() -> Iterator[Callable[..., Relay]]:
    """`start_relay(host, port, delay=0.05)`: a line to a server that can be slow, hang, break or lose an answer."""
    with ExitStack() as stack:

        def start(to_host: str, to_port: int, **options: float | str) -> Relay:
            relay = Relay(to_host, to_port, **options)  # type: ignore[arg-type]
            stack.callback(relay.stop)
            relay.start()
            return relay

        yield start


@pytest.fixture
def make_network() -> Iterator[Callable[..., Network]]:
    """`make_network("edge", "primary", "replica")`: hosts whose cables can be pulled.

    Ask for it before the servers that run in it (fixtures end in reverse order).
    """
    with ExitStack() as stack:

        def make(*names: str) -> Network:
            network = Network(*names)
            stack.callback(network.close)
            return network

        yield make


@pytest.fixture
def small_disk(lab_folder: Path) -> Iterator[SmallDisk]:
    """Eight megabytes at `small_disk.folder`."""
    disk = SmallDisk(lab_folder / "disk")
    yield disk
    disk.close()
