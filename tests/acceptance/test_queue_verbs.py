"""The operator's commands on a running edge: what waits, what happened, how things are; and reading the file again."""

from __future__ import annotations

import hashlib
import imaplib
import os
import shutil
import signal
import socket
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.cluster import KINDS, PASSWORD, Cluster, Home, add_accounts, control, queued, verdict
from tests.acceptance.conftest import new_folder, started
from tests.lab.edge import Edge
from tests.lab.ours import run
from tests.lab.process import wait_until
from tests.lab.sink import Sink
from tests.lab.tls import Authority, Certificate


def letter(name: str) -> bytes:
    return f"Subject: {name}\r\nMessage-ID: <{name}@example.org>\r\n\r\nbody\r\n".encode()


@pytest.fixture(scope="module")
def pair() -> Iterator[Cluster]:
    """A node behind two edges, and a smarthost that puts everybody off; what is put off waits for an hour."""
    with ExitStack() as stack:
        folder = new_folder(stack)
        sink = Sink(folder, soft=["rcpt"])
        stack.callback(sink.kill)
        sink.start()
        extra = {
            "smarthost": {"host": sink.host, "port": sink.port, "tls": "none"},
            "retry": {"first": "1h", "longest": "2h"},
        }
        cluster = started(stack, [KINDS["node"](folder)], folder / "edges", people=2, edges=2, extra=extra)
        cluster.sink = sink  # type: ignore[attr-defined]
        for edge in cluster.edges:
            wait_until(lambda edge=edge: control(edge, "status")["peers"], "edges that know each other")
        yield cluster


def subjects(cluster: Cluster, account: str = "n1-0@example.com") -> list[str]:
    return [one.split(b"Subject: ")[1].split(b"\r\n")[0].decode() for one in cluster.messages(account)]


def test_what_waits_can_be_seen_held_released_and_deleted(pair: Cluster) -> None:
    edge, lab, names = pair.edge, pair.homes["n1"].lab, ("gone", "stays", "goes")
    lab.kill()
    try:
        with pair.smtp() as client:
            for name in names:
                client.sendmail(f"{name}@example.org", ["n1-0@example.com", "n1-1@example.com"], letter(name))
        wait_until(lambda: verdict(edge, "n1") == "refusing", "a verdict")
        listed = {entry["message_id"]: entry for entry in edge.ask("queue", "list")}
        assert set(listed) == {f"<{name}@example.org>" for name in names}
        ids = {name: listed[f"<{name}@example.org>"]["id"] for name in names}
        shown = edge.ask("queue", "show", ids["stays"])
        assert shown["sender"] == "stays@example.org" and shown["client"] == "127.0.0.1" and shown["size"] > 0
        assert [(one["address"], one["server"], one["state"]) for one in shown["targets"]] == [
            (f"n1-{number}@example.com", "n1", one["state"]) for number, one in enumerate(shown["targets"])]
        assert "stays@example.org" in edge.run("queue", "list")
        assert ids["stays"] in edge.run("queue", "show", ids["stays"])
        assert edge.ask("queue", "list", "--address", "goes@")[0]["id"] == ids["goes"]

        assert edge.ask("queue", "hold", ids["stays"]) == {"action": "hold", "done": [ids["stays"]], "missing": []}
        assert edge.ask("queue", "delete", ids["gone"], "no-such-id")["missing"] == ["no-such-id"]
        assert edge.ask("queue", "show", ids["stays"])["held"]
        assert "no-such-id" in failing(edge, "queue", "show", "no-such-id")
        # A restart forgets neither.
        edge.kill()
        edge.start()
        held = {entry["id"]: entry["held"] for entry in edge.ask("queue", "list")}
        assert held == {ids["stays"]: True, ids["goes"]: False}
    finally:
        lab.start()
    wait_until(lambda: queued(edge) == 1, "all but what is held")
    assert subjects(pair) == ["goes"]
    assert edge.ask("queue", "retry", "--all")["done"] == []  # held is held
    assert edge.ask("queue", "release", ids["stays"])["done"] == [ids["stays"]]
    pair.await_quiet()
    assert sorted(subjects(pair)) == ["goes", "stays"]
    assert edge.ask("queue", "list") == []


def failing(edge: Edge, *words: str, status: int = 1) -> str:
    """What a verb says on standard error when it ends with that status."""
    done = run(*words, "--config", edge.config)
    assert done.returncode == status, (done.stdout, done.stderr)
    return done.stderr


def test_retry_ends_a_long_pause(pair: Cluster) -> None:
    edge = pair.edge
    with_login = pair.smtp(protocol="submission")
    with_login.login("n1-0@example.com", PASSWORD)
    with_login.sendmail("n1-0@example.com", ["far@example.net"], letter("far"))
    with_login.quit()
    wait_until(lambda: any(one["targets"][0]["reason"] for one in control(edge, "queue_list")), "a first try")
    (waiting,) = edge.ask("queue", "list")
    assert waiting["login"] == "n1-0@example.com"
    assert waiting["targets"][0]["next_in"] > 1800 and waiting["targets"][0]["reason"].startswith("450")
    old = pair.sink  # type: ignore[attr-defined]
    old.kill()
    new = Sink(old.folder / "again" if (old.folder / "again").mkdir() is None else old.folder)
    new.port = old.port
    new.start()
    try:
        assert edge.ask("queue", "retry", waiting["id"])["done"] == [waiting["id"]]
        pair.await_quiet(20)
        assert [one.recipients for one in new.caught()] == [("far@example.net",)]
    finally:
        new.kill()


def test_trace_finds_a_message_by_all_its_names_at_every_edge(pair: Cluster) -> None:
    first, second = pair.edges
    with pair.smtp(first) as client:
        client.sendmail("traced@example.org", ["n1-1@example.com"], letter("traced"))
    pair.await_quiet()
    (received,) = [one for one in first.events("received") if one["sender"] == "traced@example.org"]
    steps = []
    for needle in ("<traced@example.org>", "traced@example.org", received["queue_id"]):
        for edge in pair.edges:
            answer = edge.ask("trace", needle)
            assert sorted(answer["edges"]) == ["mx1.example.com", "mx2.example.com"] and not answer["unreachable"]
            events = [one["event"] for one in answer["events"] if one.get("queue_id") == received["queue_id"]]
            steps.append(events)
            assert {one["edge"] for one in answer["events"]} == {"mx1.example.com"}
    assert all(events[0] == "received" and events[-1] == "delivered" for events in steps), steps
    delivered = answer["events"][-1]
    assert (delivered["server"], delivered["recipient"]) == ("n1", "n1-1@example.com") and delivered["reply"]
    assert "delivered" in second.run("trace", received["queue_id"])
    failing(first, "trace", "nobody-ever@example.org")


def test_trace_says_why_somebody_was_refused(pair: Cluster) -> None:
    with pair.smtp() as client:
        client.ehlo()
        client.mail("sender@example.org")
        assert client.rcpt("no-such-person@example.com")[0] == 550
    (event,) = pair.edge.ask("trace", "no-such-person@example.com")["events"]
    assert event["event"] == "refused" and event["reply"].startswith("550 5.1.1")


def test_trace_says_which_edge_could_not_be_asked(pair: Cluster) -> None:
    first, second = pair.edges
    second.kill()
    try:
        answer = first.ask("trace", "anybody@example.org")
        assert list(answer["unreachable"]) == ["mx2.example.com"]
        status = first.ask("status")
        assert [(one["edge"], "error" in one) for one in status["peers"]] == [("mx2.example.com", True)]
    finally:
        second.start()


def test_status_and_metrics(pair: Cluster) -> None:
    edge = pair.edge
    status = edge.ask("status")
    assert status["edge"] == "mx1.example.com" and len(status["workers"]) == 2
    assert status["directory"] == {**status["directory"], "accounts": 2, "source": "database"}
    (server,) = status["servers"]
    assert (server["name"], server["kind"], server["verdict"], server["accounts"]) == ("n1", "node", "up", 2)
    assert [peer["edge"] for peer in status["peers"]] == ["mx2.example.com"]
    with pair.smtp() as client:
        client.sendmail("a@example.org", ["n1-0@example.com", "n1-1@example.com"], letter("counted"))
    pair.await_quiet()

    def page() -> dict[str, float]:
        with urllib.request.urlopen(f"http://{edge.host}:{edge.metrics_port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    def delivered() -> float:
        return page().get('onedomain_recipients_delivered_total{server="n1"}', 0)

    # The page counts from the start of the processes, and agrees with the log.
    started_at = edge.events("starting")[-1]["time"]
    logged = sum(event["time"] > started_at and event["server"] == "n1" for event in edge.events("delivered"))
    assert logged >= 2
    wait_until(lambda: delivered() == logged, "what the log says", 10)
    assert page()['onedomain_server_usable{server="n1"}'] == 1
    assert "n1" in edge.run("status") and "up" in edge.run("status")


# -- reading the file again


@pytest.fixture
def secure(make_cluster: Callable[..., Cluster], authority: Authority, lab_folder: Path) -> Cluster:
    """An edge whose certificate is a file of the test's own, "live"."""
    issued = authority.issue("mx1.example.com", file="first")
    live = Certificate(lab_folder / "live.crt", lab_folder / "live.key", issued.ca)
    put(issued, live)
    return make_cluster("node", people=2, certificate=live)


def put(issued: Certificate, live: Certificate) -> None:
    """As certbot does: new contents under the old names."""
    for source, target in ((issued.cert, live.cert), (issued.key, live.key)):
        shutil.copy(source, target.with_suffix(".new"))
        os.replace(target.with_suffix(".new"), target)


def live(cluster: Cluster) -> Certificate:
    table = cluster.edge.tables["tls"]["certificate"][0]
    return Certificate(table["certificate"], table["key"], Path())


def shown(edge: Edge, protocol: str = "imaps") -> str:
    """The fingerprint of the certificate that a new connection sees."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((edge.host, edge.port[protocol]), 10) as plain, context.wrap_socket(plain) as tls:
        return hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()


def fingerprint(certificate: Certificate) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.cert.read_text())).hexdigest()


def everywhere(edge: Edge, certificate: Certificate) -> bool:
    """Whether ten connections, over whichever workers, all see it."""
    return {shown(edge) for _ in range(10)} == {fingerprint(certificate)}


def session(edge: Edge, account: str = "n1-0@example.com") -> imaplib.IMAP4:
    opened = imaplib.IMAP4(edge.host, edge.port["imap"], timeout=20)
    opened.login(account, PASSWORD)
    return opened


def hang_up(edge: Edge) -> None:
    """SIGHUP, as `systemctl reload` sends it."""
    assert edge.tree
    edge.tree.signal_first(signal.SIGHUP)


def replace_worker(edge: Edge) -> None:
    workers = {one["slot"]: one["pid"] for one in control(edge, "status")["workers"]}
    os.kill(workers[0], signal.SIGKILL)

    def replaced() -> bool:
        now = {one["slot"]: one["pid"] for one in control(edge, "status")["workers"]}
        return len(now) == len(workers) and now[0] != workers[0]

    wait_until(replaced, "another worker", 20)


def test_a_new_certificate_without_losing_a_session(secure: Cluster, authority: Authority) -> None:
    edge = secure.edge
    open_now = [session(edge) for _ in range(6)]
    second = authority.issue("mx1.example.com", file="second")
    put(second, live(secure))
    hang_up(edge)
    wait_until(lambda: everywhere(edge, second), "the new certificate at every worker", 10)
    assert all(one.noop()[0] == "OK" for one in open_now)
    # What is started from now on shows it, too.
    replace_worker(edge)
    assert everywhere(edge, second)


def test_a_certificate_that_does_not_fit_its_key_changes_nothing(secure: Cluster, authority: Authority) -> None:
    edge = secure.edge
    first, third = live(secure).cert.read_text(), authority.issue("mx1.example.com", file="third")
    shutil.copy(third.cert, live(secure).cert)
    assert "tls.certificate" in failing(edge, "reload", status=2)
    hang_up(edge)
    wait_until(lambda: edge.events("configuration refused"), "a complaint", 10)
    assert shown(edge) == hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest()
    replace_worker(edge)
    assert {shown(edge) for _ in range(10)} == {hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest()}


def test_a_broken_file_changes_nothing(secure: Cluster) -> None:
    edge = secure.edge
    open_now = session(edge)
    good = edge.config.read_text()
    edge.config.write_text(good.replace('kind = "node"', 'kind = "nod"').replace("[edge]", "[edge]\nno_such_key = 1"))
    hang_up(edge)
    wait_until(lambda: edge.events("configuration refused"), "a complaint", 10)
    assert "no_such_key" in edge.events("configuration refused")[0]["reason"]
    assert "no_such_key" in failing(edge, "reload", status=2)
    assert open_now.noop()[0] == "OK"  # now: it may be at the worker that is killed next
    # Processes that have to be replaced meanwhile come back as they were.
    replace_worker(edge)
    with secure.smtp() as client:
        client.sendmail("a@example.org", ["n1-0@example.com"], letter("still"))
    secure.await_quiet()
    assert subjects(secure) == ["still"]
    edge.config.write_text(good)
    edge.run("reload")


def test_a_new_server_and_a_new_unit(secure: Cluster, make_home: Callable[..., Home]) -> None:
    edge = secure.edge
    open_now = [session(edge) for _ in range(6)]
    other = make_home("node", "n2")
    other.lab.start()
    try:
        edge.tables["server"].append(dict(other.table))
        edge.tables["unit"].append({"name": "branch", "servers": ["n2"]})
        edge.write()
        assert edge.ask("reload") == {"restart_needed": []}
        wait_until(lambda: len(control(edge, "status")["servers"]) == 2, "the server", 10)
        wait_until(lambda: verdict(edge, "n2") == "up", "its verdict", 10)
        add_accounts(edge, [("new@example.com", "n2")], unit="branch")
        secure.accounts["new@example.com"] = "n2"
        secure.homes["n2"] = other
        wait_until(lambda: control(edge, "status")["directory"]["accounts"] == 3, "the account", 5)
        control(edge, "status")  # which workers answer after what they were told before
        with secure.smtp() as client:
            client.sendmail("a@example.org", ["new@example.com", "n1-0@example.com"], letter("hello"))
        secure.await_quiet()
        assert subjects(secure, "new@example.com") == subjects(secure) == ["hello"]
        session(edge, "new@example.com").logout()
        assert all(one.noop()[0] == "OK" for one in open_now)
    finally:
        other.lab.kill()


def test_what_needs_a_restart_is_said(secure: Cluster) -> None:
    edge = secure.edge
    edge.tables["limits"] = {"message_size": "20MB"}
    edge.write()
    assert edge.ask("reload") == {"restart_needed": ["limits"]}


def test_verbs_without_an_edge(tmp_path: Path, pair: Cluster) -> None:
    """Nobody to ask: status 3, and where one would have been."""
    config = tmp_path / "onedomain.toml"
    config.write_text(pair.edge.config.read_text().replace(str(pair.edge.state), str(tmp_path / "state")))
    done = run("status", "--config", config)
    assert done.returncode == 3 and "control.sock" in done.stderr
