"""Lines that are slow, silent or broken, cables pulled, disks full: each fault happens, and is undone."""

from __future__ import annotations

import errno
import os
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from tests.lab.disk import SmallDisk
from tests.lab.dovecot import Dovecot
from tests.lab.netns import Network
from tests.lab.ports import FIRST, LAST, free_port, release_port
from tests.lab.process import answers, need, wait_until
from tests.lab.relay import Relay

StartRelay = Callable[..., Relay]


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets."""
    with socket.create_server(("127.0.0.1", free_port())) as listener:

        def serve(connection: socket.socket) -> None:
            with connection:
                try:
                    while data := connection.recv(65536):
                        connection.sendall(data)
                except OSError:
                    return

        def accept() -> None:
            while True:
                try:
                    Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
                except OSError:
                    return

        Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def line(relay: Relay) -> socket.socket:
    return socket.create_connection((relay.host, relay.port), timeout=5)


def test_relay_delays_each_way_without_slowing_the_flow(start_relay: StartRelay, echo: int) -> None:
    relay = start_relay("127.0.0.1", echo, delay=0.05)
    with line(relay) as connection:
        began = time.monotonic()
        for _ in range(50):
            connection.sendall(b"x" * 1000)
        left = 50_000
        while left:
            left -= len(connection.recv(65536))
        assert 0.1 <= time.monotonic() - began < 1.0
    assert relay.bytes_up == relay.bytes_down == 50_000


def test_relay_hangs_and_goes_on(start_relay: StartRelay, echo: int) -> None:
    relay = start_relay("127.0.0.1", echo)
    with line(relay) as old:
        old.sendall(b"a")
        assert old.recv(1) == b"a"
        relay.hang()
        old.sendall(b"b")
        with line(relay) as new:
            new.sendall(b"c")
            for connection in (old, new):
                connection.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    connection.recv(1)
                connection.settimeout(5)
            relay.mend()
            assert (old.recv(1), new.recv(1)) == (b"b", b"c")


def test_relay_is_cut_and_mended(start_relay: StartRelay, echo: int) -> None:
    relay = start_relay("127.0.0.1", echo)
    with line(relay) as connection:
        connection.sendall(b"a")
        assert connection.recv(1) == b"a"
        relay.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with pytest.raises(ConnectionRefusedError):
        line(relay)
    relay.mend()
    with line(relay) as connection:
        connection.sendall(b"b")
        assert connection.recv(1) == b"b"
    wait_until(lambda: relay.open == 0, "the end of the line")


@pytest.mark.real
def test_relay_loses_the_answer_to_a_message_that_was_taken(dovecot: Dovecot, start_relay: StartRelay) -> None:
    relay = start_relay(dovecot.host, dovecot.lmtp_port)
    relay.lose(b"Saved")
    message = b"Subject: in doubt\r\n\r\n"
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionResetError)):
        smtplib.LMTP(relay.host, relay.port, local_hostname="lab").sendmail("a@b.example", ["c@d.example"], message)
    assert relay.still_to_lose == 0
    session = dovecot.imap("c@d.example")
    assert session.select("INBOX")[1] == [b"1"]
    session.logout()


@pytest.mark.real
def test_a_pulled_cable_is_silent(make_network: Callable[..., Network], start_dovecot: Callable[..., Dovecot]) -> None:
    network = make_network("one", "two")
    host = network["one"]
    dovecot = start_dovecot(host=host.address, namespace=host.namespace, trusted="198.18.0.0/15")
    session = dovecot.imap("bob@example.com")
    session.sock.settimeout(0.5)
    network.cut("one")
    with pytest.raises(TimeoutError):
        session.noop()
    assert not answers(network["two"].address, 1)
    network.mend("one")
    wait_until(lambda: answers(dovecot.host, dovecot.imap_port), "the mended line")
    session.shutdown()


@pytest.mark.real
def test_a_host_that_is_deaf_to_one_other(
    make_network: Callable[..., Network], start_dovecot: Callable[..., Dovecot]
) -> None:
    network = make_network("one", "other")
    dovecot = start_dovecot(host=network["one"].address, namespace=network["one"].namespace)
    knock = ["ip", "netns", "exec", network["other"].namespace, sys.executable, "-c",
             f"import socket; socket.create_connection(({dovecot.host!r}, {dovecot.imap_port}), 2).recv(9)"]
    assert subprocess.run(knock, check=False).returncode == 0
    network.part("one", "other")
    silent = subprocess.run(knock, check=False, capture_output=True, text=True)
    assert silent.returncode and "TimeoutError" in silent.stderr, "nothing comes back, not even a refusal"
    assert answers(dovecot.host, dovecot.imap_port), "others are answered"
    network.join("one", "other")
    assert subprocess.run(knock, check=False).returncode == 0


@pytest.mark.real
def test_a_full_disk_is_full_until_relieved(small_disk: SmallDisk) -> None:
    small_disk.fill()
    with pytest.raises(OSError) as failure:
        (small_disk.folder / "more").write_bytes(b"x" * 8192)
    assert failure.value.errno == errno.ENOSPC
    small_disk.relieve()
    (small_disk.folder / "more").write_bytes(b"x" * 8192)
    small_disk.fill(leave=1 << 20)
    assert 1 << 19 < small_disk.free() <= 1 << 20


def test_ports_are_free_and_claimed_once() -> None:
    free_port()
    files = len(os.listdir("/proc/self/fd"))
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == 200
    assert all(FIRST <= port <= LAST for port in ports)
    assert len(os.listdir("/proc/self/fd")) == files, "test processes claim more than they may have files open"
    assert not claimed_by_another_process(ports[0])
    for port in ports:
        release_port(port)
    assert claimed_by_another_process(ports[0])


def claimed_by_another_process(port: int) -> bool:
    code = f"from tests.lab import ports; print(ports._claim({port}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout == "True\n"


def test_a_missing_program_skips_here_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDOMAIN_CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs a unicorn"):
        need("a unicorn", Path("/nowhere/unicornd"))
    monkeypatch.setenv("ONEDOMAIN_CI", "1")
    with pytest.raises(pytest.fail.Exception, match="needs a unicorn"):
        need("a unicorn", Path("/nowhere/unicornd"))
