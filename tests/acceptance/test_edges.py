"""Several edges: what one has done the other explains; and how an edge ends."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import socket
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.acceptance.cluster import KINDS, PASSWORD, Cluster, control
from tests.acceptance.conftest import new_folder, started
from tests.acceptance.load import acknowledged, load
from tests.lab.edge import Edge
from tests.lab.ours import command
from tests.lab.process import wait_until


@pytest.fixture(scope="module")
def pair() -> Iterator[Cluster]:
    """Two edges that know each other. They meet at their second look: one of them was first."""
    with ExitStack() as stack:
        folder = new_folder(stack)
        cluster = started(stack, [KINDS["node"](folder)], folder / "edges", people=3, edges=2)
        wait_until(lambda: all(_knows_its_peer(edge) for edge in cluster.edges), "edges that know each other")
        yield cluster


def _knows_its_peer(edge: Edge) -> bool:
    peers = control(edge, "status")["peers"]
    return len(peers) == 1 and "error" not in peers[0]


def test_what_one_edge_took_the_other_explains(pair: Cluster) -> None:
    one, two = pair.edges
    to = pair.people[0]
    with pair.smtp(one) as client:
        client.ehlo()
        client.mail("writer@example.org")
        client.rcpt(to)
        said = client.data(b"Subject: where\r\nMessage-ID: <where.is.it@example.org>\r\n\r\nhere\r\n")[1].decode()
    pair.await_quiet()
    queue_id = next(event["queue_id"] for event in one.events() if event.get("queue_id", "?") in said)
    for needle in ("<where.is.it@example.org>", "where.is.it@example.org", queue_id, to):
        answer = two.ask("trace", needle)
        assert sorted(answer["edges"]) == [one.name, two.name] and not answer["unreachable"]
        mine = [event for event in answer["events"] if event.get("queue_id") == queue_id]
        assert mine and {event["edge"] for event in mine} == {one.name}, (needle, answer)
        steps = [event["event"] for event in mine]
        assert steps == ["received", "attempt", "delivered"]
        done = next(event for event in mine if event["event"] == "delivered")
        assert done["server"] == "n1" and "250" in json.dumps(done)
        assert [event["time"] for event in mine] == sorted(event["time"] for event in mine)
    assert queue_id in two.run("trace", queue_id)
    nothing = two.run("trace", "no.such@message", check=False)
    assert one.name in nothing and two.name in nothing


def test_status_shows_the_other_edge_and_says_when_it_is_gone(pair: Cluster) -> None:
    one, two = pair.edges
    (peer,) = control(two, "status")["peers"]
    assert peer["edge"] == one.name and len(peer["workers"]) == 2 and peer["servers"][0]["verdict"] == "up"
    assert one.name in two.run("status")
    one.kill()
    try:
        (peer,) = control(two, "status")["peers"]
        assert peer["edge"] == one.name and f"127.0.0.1:{one.peer_port}" in peer["error"]
        assert str(one.peer_port) in two.run("status")
        answer = two.ask("trace", pair.people[0])
        assert list(answer["unreachable"]) == [one.name]
    finally:
        one.start()
    wait_until(lambda: _knows_its_peer(two), "the other edge again")


def test_a_stranger_is_not_answered(pair: Cluster, tmp_path: Path) -> None:
    """Neither without a certificate, nor with one of its own under a known name; the real one is."""
    one, two = pair.edges
    request = b'{"do":"status","id":1}\n'

    def asked(certificate: Path | None) -> bytes:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if certificate is not None:
            context.load_cert_chain(certificate)
        with socket.create_connection((one.host, one.peer_port), timeout=10) as line:
            try:
                with context.wrap_socket(line) as secure:
                    secure.sendall(request)
                    return secure.recv(65536)
            except (ssl.SSLError, ConnectionError):
                return b""

    (tmp_path / "stranger.pem").write_bytes(_own_certificate(two.name))
    assert b'"ok"' in asked(two.state / "edge.pem")
    assert asked(tmp_path / "stranger.pem") == b""
    assert asked(None) == b""
    with socket.create_connection((one.host, one.peer_port), timeout=10) as line:
        line.sendall(request)
        assert b"ok" not in line.recv(65536)


def _own_certificate(name: str) -> bytes:
    """Key and self-signed certificate, as an edge makes them."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def metric(edge: Edge, name: str) -> float:
    """The sum over its labels."""
    with urllib.request.urlopen(f"http://{edge.host}:{edge.metrics_port}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].partition(" ")[0] == name)


def test_each_edge_counts_its_own(pair: Cluster) -> None:
    one, two = pair.edges
    received, delivered = "onedomain_smtp_messages_total", "onedomain_recipients_delivered_total"
    before = [(metric(edge, received), metric(edge, delivered)) for edge in (one, two)]
    with pair.smtp(two) as client:
        client.sendmail("writer@example.org", pair.people, b"Subject: counted\r\n\r\n")
    wait_until(lambda: metric(two, delivered) == before[1][1] + 3, "three more deliveries on the page")
    assert metric(two, received) == before[1][0] + 1
    assert (metric(one, received), metric(one, delivered)) == before[0]
    for edge in (one, two):  # each counts anew twice a second, and one was started just now
        wait_until(lambda edge=edge: metric(edge, "onedomain_accounts") == 3, "all accounts on the page", 10)
    assert metric(one, "onedomain_server_usable") == 1
    logged_in = metric(two, "onedomain_logins_total")
    with socket.create_connection((two.host, two.port["imap"])) as line:
        line.recv(100)
        line.sendall(f'a LOGIN {pair.people[0]} "{PASSWORD}"\r\n'.encode())
        line.recv(4096)
        wait_until(lambda: metric(two, "onedomain_sessions") >= 1, "the session on the page")
        wait_until(lambda: metric(two, "onedomain_logins_total") == logged_in + 1, "the log-in on the page")


# -- an orderly end


async def test_an_edge_that_is_stopped_says_goodbye_and_loses_nothing(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster("node", "dovecot", people=2)
    edge = cluster.edge
    account = cluster.people[0]
    async with load(cluster, sessions=8, rate=200) as running:
        await acknowledged(running, 50)
        idle = await asyncio.to_thread(sessions, edge, account)
        stopping = asyncio.create_task(asyncio.to_thread(edge.stop))
        said = await asyncio.gather(*(asyncio.to_thread(rest, line) for line in idle.values()))
        await stopping
        farewells = dict(zip(idle, said, strict=True))
        assert farewells["imap"].startswith(b"* BYE") and b"\r\n* BYE" in b"\r\n" + farewells["imap idle"]
        assert farewells["smtp"].startswith(b"421 ") and farewells["submission"].startswith(b"421 ")
        assert farewells["pop3"].startswith(b"-ERR [SYS/TEMP]")
        assert farewells["imap stranger"].startswith(b"* BYE") and farewells["pop3 stranger"].startswith(b"-ERR")
        assert all(text.endswith(b"\r\n") for text in said)
        await asyncio.to_thread(edge.start)
        await acknowledged(running, 50)
    assert not running.outcome.refused and not running.outcome.unknown, running.outcome.summary()
    cluster.assert_exact()
    assert not edge.events("session failed")
    assert {event["status"] for event in edge.events("process ended")} == {0} and not edge.events("process died")


def sessions(edge: Edge, account: str) -> dict[str, socket.socket]:
    """One of each kind, doing nothing."""
    lines = {name: socket.create_connection((edge.host, edge.port[name.split()[0]]), timeout=30)
             for name in ("imap", "imap idle", "imap stranger", "pop3", "pop3 stranger", "smtp", "submission")}
    for line in lines.values():
        line.recv(4096)
    login = f'a LOGIN {account} "{PASSWORD}"\r\n'.encode()
    for name, *commands in (
        ("imap", login), ("imap idle", login, b"b SELECT INBOX\r\n", b"c IDLE\r\n"),
        ("pop3", f"USER {account}\r\n".encode(), f"PASS {PASSWORD}\r\n".encode()),
        ("smtp", b"EHLO x\r\n", b"MAIL FROM:<a@example.org>\r\n"), ("submission", b"EHLO x\r\n"),
    ):
        for words in commands:
            lines[name].sendall(words)
            answer = lines[name].recv(65536)
            while words.startswith(b"b ") and b"b OK" not in answer:
                answer += lines[name].recv(65536)
            assert b"NO" not in answer[:5] and not answer.startswith((b"-ERR", b"5")), answer
    return lines


def rest(line: socket.socket) -> bytes:
    """What still comes until the other side hangs up."""
    said = b""
    with line:
        while more := line.recv(65536):
            said += more
    return said


def test_what_is_being_said_is_said_to_the_end(make_cluster: Callable[..., Cluster]) -> None:
    """A message whose body is on its way when the edge is told to stop is taken, and there after the next start."""
    cluster = make_cluster("node", people=1)
    edge, (account,) = cluster.edge, cluster.people
    line = socket.create_connection((edge.host, edge.port["smtp"]), timeout=30)
    answers = line.makefile("rb")
    answers.readline()
    line.sendall(f"HELO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<{account}>\r\nDATA\r\n".encode())
    assert [answers.readline()[:3] for _ in range(4)] == [b"250", b"250", b"250", b"354"]
    line.sendall(b"Subject: half\r\n\r\nfirst half\r\n")
    stopping = threading.Thread(target=edge.stop)
    stopping.start()
    wait_until(lambda: edge.events("stopping"), "the beginning of the end")
    line.sendall(b"second half\r\n.\r\n")
    answer = answers.readline()
    line.close()
    stopping.join()
    assert answer.startswith(b"250")
    edge.start()
    cluster.await_quiet()
    (found,) = cluster.messages(account)
    assert b"first half\r\nsecond half" in found


# -- the demonstration


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_demonstration_ends_clean(tmp_path: Path) -> None:
    done = subprocess.run(command("demo", "--exit", "--json", "--folder", tmp_path / "demo"), capture_output=True,
                          text=True, timeout=380, env={**os.environ, "ONEDOMAIN_LANG": "en"})
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["clean"] and not result["lost"] and not result["doubled"] and result["acknowledged"] > 500
    assert "the 4 people of node-branch go on at node-sales" in " ".join(done.stderr.split()), done.stderr
    assert result["readers"]["looks"] > 50 and not result["readers"]["contradictions"]
