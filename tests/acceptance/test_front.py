"""What clients meet: whom the edge believes, what it refuses, where submitted mail goes, what a big message costs."""

from __future__ import annotations

import imaplib
import poplib
import smtplib
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from onedomain.ledger.ledger import Sent
from onedomain.ledger.verify import compare
from tests.acceptance.cluster import KINDS, PASSWORD, Cluster, control, verdict
from tests.acceptance.conftest import new_folder, started
from tests.lab.process import wait_until
from tests.lab.sink import Sink
from tests.lab.tls import Certificate

PROXY, GATEWAY, STRANGER = "127.0.0.9", "127.0.0.8", "127.0.0.7"
"""Source addresses: whose PROXY header is believed, whose XCLIENT, and neither."""
MEGABYTE = 1 << 20
LIMIT = 104 * MEGABYTE
SESSIONS = 6


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    with ExitStack() as stack:
        sink = Sink(new_folder(stack))
        stack.callback(sink.kill)
        sink.start()
        yield sink


@pytest.fixture(scope="module")
def front(certificate: Certificate, sink: Sink) -> Iterator[Cluster]:
    with ExitStack() as stack:
        folder = new_folder(stack)
        yield started(
            stack,
            [KINDS["dovecot"](folder), KINDS["node"](folder)],
            folder / "edges",
            people=2,
            certificate=certificate,
            listener={
                "smtp": {"proxy_trusted": [PROXY], "xclient_trusted": [GATEWAY]},
                "imap": {"proxy_trusted": [PROXY]},
                "pop3": {"max_sessions_per_address": SESSIONS},
                "submission": {"max_sessions_per_address": SESSIONS},
            },
            extra={
                "limits": {"message_size": LIMIT, "recipients": 100},
                "smarthost": {"host": sink.host, "port": sink.port, "tls": "none"},
            },
        )


@contextmanager
def line(front: Cluster, protocol: str = "smtp", source: str = STRANGER, first: bytes = b"") -> Iterator[socket.socket]:
    """A bare connection, on which `first` has been sent and the greeting not yet read."""
    edge = front.edge
    with socket.create_connection((edge.host, edge.port[protocol]), 30, source_address=(source, 0)) as connection:
        connection.sendall(first)
        yield connection


def talk(connection: socket.socket, *commands: str) -> list[str]:
    """Send each command when the answer to the one before is there; the last line of each answer. "" is no command."""
    answers = []
    reader = connection.makefile("rb")
    for command in commands:
        if command:
            connection.sendall(command.encode() + b"\r\n")
        while True:
            text = reader.readline().decode("utf-8", "replace").rstrip()
            if text[3:4] != "-":
                break
        answers.append(text)
    return answers


def codes(answers: list[str]) -> list[str]:
    return [answer[:3] for answer in answers]


def letter(subject: str) -> list[str]:
    return ["MAIL FROM:<sender@example.org>", "RCPT TO:<n1-0@example.com>", "DATA", f"Subject: {subject}\r\n\r\nx\r\n."]


def kept(front: Cluster, subject: str, account: str = "n1-0@example.com") -> bytes:
    front.await_quiet()
    (found,) = [one for one in front.messages(account) if f"Subject: {subject}\r\n".encode() in one]
    return found


def received(message: bytes) -> str:
    """The topmost Received field, unfolded."""
    return message.split(b"Received: ", 1)[1].split(b"\r\n\r\n")[0].decode().replace("\r\n\t", " ").split("\r\n")[0]


# -- whom it believes

V1 = b"PROXY TCP4 192.0.2.77 127.0.0.1 12345 25\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 77, 127, 0, 0, 1, 0x30, 0x39, 0, 25])


@pytest.mark.parametrize("name, header", [("v1", V1), ("v2", V2)], ids=["v1", "v2"])
def test_a_proxy_that_is_trusted_is_believed(front: Cluster, name: str, header: bytes) -> None:
    with line(front, source=PROXY, first=header) as connection:
        assert codes(talk(connection, "", "EHLO far.example.org", *letter(f"proxy {name}"))) == [
            "220", "250", "250", "250", "354", "250"]  # fmt: skip
    message = kept(front, f"proxy {name}")
    assert "from far.example.org ([192.0.2.77]) by mx1.example.com" in received(front_only(message))
    (event,) = [one for one in front.edge.events("received") if one["queue_id"].encode() in message]
    assert event["client"] == "192.0.2.77"


def front_only(message: bytes) -> bytes:
    """From the field that the edge put in: the home's own Received stands above it."""
    start = message.rindex(b"Received: ", 0, message.index(b"(OneDomain)"))
    return message[start:]


def test_a_proxy_header_from_a_stranger_is_no_command(front: Cluster) -> None:
    with line(front, first=b"PROXY TCP4 192.0.2.78 127.0.0.1 12345 25\r\n") as connection:
        answers = talk(connection, "", "", "EHLO far.example.org", *letter("no proxy"))
    assert codes(answers[:3]) == ["220", "500", "250"]
    assert f"([{STRANGER}])" in received(front_only(kept(front, "no proxy")))


def test_a_trusted_proxy_has_to_say_so(front: Cluster) -> None:
    with line(front, source=PROXY, first=b"EHLO far.example.org\r\n") as connection:
        assert connection.recv(100) == b""


def test_xclient_from_a_trusted_gateway(front: Cluster) -> None:
    with line(front, source=GATEWAY) as connection:
        answers = talk(connection, "", "EHLO gateway", "XCLIENT ADDR=203.0.113.5 PORT=999 HELO=far.example.org",
                       "EHLO gateway", *letter("xclient"))  # fmt: skip
    assert codes(answers) == ["220", "250", "220", "250", "250", "250", "354", "250"]
    message = kept(front, "xclient")
    assert "from far.example.org ([203.0.113.5])" in received(front_only(message))
    assert any(event["client"] == "203.0.113.5" for event in front.edge.events("received"))


def test_xclient_from_a_stranger(front: Cluster) -> None:
    with line(front) as connection:
        answers = talk(connection, "", "EHLO me", "XCLIENT ADDR=203.0.113.6", *letter("no xclient"))
    assert answers[2].startswith("5")
    assert f"([{STRANGER}])" in received(front_only(kept(front, "no xclient")))


def test_imap_behind_a_proxy(front: Cluster) -> None:
    with line(front, "imap", PROXY, b"PROXY TCP4 192.0.2.79 127.0.0.1 12345 143\r\n") as connection:
        connection.sendall(f"a LOGIN n1-0@example.com {PASSWORD}\r\n".encode())
        read = connection.makefile("rb")
        assert any(answer.startswith(b"a OK") for answer in iter(read.readline, b""))
        # The log is written at the end of the turn that sent the answer.
        wait_until(lambda: "192.0.2.79" in {one.get("client") for one in front.edge.events()}, "the trace of it", 20)


# protocol: first, the command, what is put behind it, what would follow from that, and the answer if it was ignored
INJECTIONS = {
    "smtp": ("EHLO x", "STARTTLS", "MAIL FROM:<evil@example.org>", "RCPT TO:<n1-0@example.com>", "503"),
    "imap": ("", "a STARTTLS", f"b LOGIN n1-0@example.com {PASSWORD}", "c SELECT INBOX", "c BAD"),
    "pop3": ("", "STLS", "USER n1-0@example.com", f"PASS {PASSWORD}", "-ERR"),
}


@pytest.mark.parametrize("protocol", list(INJECTIONS))
def test_what_comes_with_starttls_is_thrown_away(front: Cluster, certificate: Certificate, protocol: str) -> None:
    hello, start, injected, after, answer = (f"{word}\r\n" if word else "" for word in INJECTIONS[protocol])
    answer = answer.rstrip()
    with line(front, protocol) as connection:
        connection.recv(4096)
        if hello:
            connection.sendall(hello.encode())
            while b"250 " not in connection.recv(4096):
                pass
        connection.sendall((start + injected).encode())
        said = connection.recv(4096)
        assert said.count(b"\r\n") == 1 and b"BAD" not in said, said  # the go-ahead and nothing else
        with certificate.client_context().wrap_socket(connection, server_hostname="localhost") as secure:
            secure.sendall(after.encode())
            assert secure.recv(4096).decode().startswith(answer)
    if protocol == "smtp":
        wait_until(lambda: front.edge.events("injection before TLS"), "the trace of it", 20)
        assert front.edge.events("injection before TLS")[-1]["discarded"] == len(injected)


# -- what it refuses


def test_too_many_recipients(front: Cluster) -> None:
    people = [f"n1-1+{number}@example.com" for number in range(103)]
    with line(front) as connection:
        answers = talk(connection, "", "EHLO x", "MAIL FROM:<sender@example.org>",
                       *(f"RCPT TO:<{one}>" for one in people), "DATA", "Subject: many\r\n\r\nx\r\n.")  # fmt: skip
    assert codes(answers[3:103]) == ["250"] * 100
    assert [answer[:9] for answer in answers[103:106]] == ["452 4.5.3"] * 3
    assert codes(answers[106:]) == ["354", "250"]
    front.await_quiet()
    assert 1 <= sum(b"Subject: many\r\n" in one for one in front.messages("n1-1@example.com")) <= 100


@pytest.mark.parametrize("protocol, farewell", [("submission", b"421 4.3.2"), ("pop3", b"-ERR [SYS/TEMP]")])
def test_too_many_sessions_from_one_address(front: Cluster, protocol: str, farewell: bytes) -> None:
    """Over all workers together."""
    with ExitStack() as stack:
        crowd = f"127.0.1.{len(protocol)}"  # an address of its own: others' sessions may still be ending
        open_now = [stack.enter_context(line(front, protocol, crowd)) for _ in range(SESSIONS)]
        assert all(one.recv(100).startswith((b"220", b"+OK")) for one in open_now)
        with line(front, protocol, crowd) as one_more:
            assert one_more.recv(200).startswith(farewell)
        with line(front, protocol, source="127.0.0.6") as neighbour:
            assert neighbour.recv(100).startswith((b"220", b"+OK"))
        open_now[0].close()

        def let_in() -> bool:
            with line(front, protocol, crowd) as again:
                return again.recv(100).startswith((b"220", b"+OK"))

        wait_until(let_in, "room for another", 5)


def workers(front: Cluster) -> list[int]:
    return [one["pid"] for one in control(front.edge, "status")["workers"]]


@contextmanager
def flat(front: Cluster, most: int) -> Iterator[None]:
    """No worker needs at any moment `most` octets more than it did before: VmHWM, proc(5)."""
    pids = workers(front)
    before = {}
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        before[pid] = peak(pid)
    yield
    assert workers(front) == pids
    grown = {pid: peak(pid) - before[pid] for pid in pids}
    print({pid: f"{octets / MEGABYTE:.1f} MB more than {before[pid] / MEGABYTE:.1f}" for pid, octets in grown.items()})
    assert max(grown.values()) < most


def peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def test_too_many_bytes(front: Cluster) -> None:
    with line(front) as connection:
        answers = talk(connection, "", "EHLO x", f"MAIL FROM:<sender@example.org> SIZE={LIMIT + 1}")
        assert answers[2].startswith("552 5.3.4")
    block = (b"x" * 76 + b"\r\n") * 13444  # one megabyte
    with flat(front, 24 * MEGABYTE), line(front) as connection:
        answers = talk(connection, "", "EHLO x", *letter("")[:3])
        assert codes(answers) == ["220", "250", "250", "250", "354"]
        connection.sendall(b"Subject: too big\r\n\r\n")
        for _ in range(LIMIT // len(block) + 2):
            connection.sendall(block)
        assert talk(connection, ".")[0].startswith("552 5.3.4")
        assert codes(talk(connection, "NOOP")) == ["250"]
    front.await_quiet()
    assert not any(b"Subject: too big" in one for one in front.messages("n1-0@example.com"))


def test_endless_commands_and_headers(front: Cluster) -> None:
    """No line and no header section without an end is gathered."""
    with flat(front, 8 * MEGABYTE):
        with line(front) as connection:
            connection.recv(1000)
            try:
                for _ in range(200):
                    connection.sendall(b"x" * 100_000)
            except OSError:
                pass  # it has hung up, as it may
        with line(front) as connection:
            talk(connection, "", "EHLO x", *letter("")[:3])
            for _ in range(20):
                connection.sendall(b"".join(b"X-%d: %s\r\n" % (number, b"y" * 900) for number in range(1000)))
            (answer,) = talk(connection, ".")
            assert answer[0] == "5" or answer.startswith("250"), answer


# -- a big message


def test_a_hundred_megabytes_in_and_out(front: Cluster, certificate: Certificate, tmp_path: Path) -> None:
    """To two homes at once, by curl; read again through the edge."""
    upload, download = tmp_path / "up", tmp_path / "down"
    text = b"Subject: big\r\nMessage-ID: <big@example.org>\r\n\r\n" + (b"y" * 76 + b"\r\n") * (100 * MEGABYTE // 78)
    upload.write_bytes(text)
    edge = front.edge
    people = ["d1-1@example.com", "n1-1@example.com", "n1-0@example.com"]
    curl = ["curl", "-sS", "--max-time", "120", "--cacert", str(certificate.ca)]
    with flat(front, 40 * MEGABYTE):
        to = [word for one in people for word in ("--mail-rcpt", one)]
        url = f"smtp://localhost:{edge.port['smtp']}"
        subprocess.run([*curl, "--mail-from", "a@example.org", *to, "-T", upload, url], check=True)
        front.await_quiet(120)
        for home in ("d1", "n1"):
            url = f"imaps://localhost:{edge.port['imaps']}/INBOX;MAILINDEX=*"
            subprocess.run([*curl, "-u", f"{home}-1@example.com:{PASSWORD}", url, "-o", download], check=True)
            assert compare(download.read_bytes(), Sent.of(text)) == "same"
        url = f"pop3://localhost:{edge.port['pop3']}/"
        login = ["-u", f"n1-1@example.com:{PASSWORD}"]
        listing = subprocess.run([*curl, *login, url], check=True, capture_output=True).stdout.decode()
        sizes = {int(size): number for number, size in (one.split() for one in listing.splitlines() if one)}
        subprocess.run([*curl, *login, url + sizes[max(sizes)], "-o", download], check=True)
        assert compare(download.read_bytes(), Sent.of(text)) == "same"


# -- submission


def submit(front: Cluster, certificate: Certificate, way: str, user: str = "d1-0@example.com") -> smtplib.SMTP:
    edge = front.edge
    if way == "submissions":
        client: smtplib.SMTP = smtplib.SMTP_SSL(
            "localhost", edge.port[way], context=certificate.client_context(), source_address=("127.0.0.5", 0))
    else:
        client = smtplib.SMTP("localhost", edge.port[way], source_address=("127.0.0.5", 0))
        client.starttls(context=certificate.client_context())
    client.login(user, PASSWORD)
    return client


@pytest.mark.parametrize("way", ["submission", "submissions"])
def test_submitted_mail_goes_home_or_to_the_smarthost(
    front: Cluster, certificate: Certificate, sink: Sink, way: str
) -> None:
    before = len(sink.caught())
    with submit(front, certificate, way) as client:
        client.sendmail("d1-0@example.com", ["n1-0@example.com", "d1-1+tag@example.com", "far@example.net"],
                        f"Subject: {way}\r\n\r\nx\r\n".encode())  # fmt: skip
    for account in ("n1-0@example.com", "d1-1@example.com"):
        message = front_only(kept(front, way, account))
        assert "with ESMTPSA id" in received(message)
        assert message.count(b"\r\nDate: ") == message.count(b"\r\nMessage-ID: ") == 1
    wait_until(lambda: len(sink.caught()) > before, "the smarthost's copy")
    front.await_quiet()
    (sent,) = sink.caught()[before:]
    assert (sent.sender, sent.recipients) == ("d1-0@example.com", ("far@example.net",))


def test_who_may_submit_what(front: Cluster, certificate: Certificate) -> None:
    with line(front, "submission", source="127.0.0.4") as connection:
        answers = talk(connection, "", "EHLO x", "MAIL FROM:<d1-0@example.com>")
        assert answers[2].startswith("530 5.7.0")
    with submit(front, certificate, "submission") as client:
        assert client.mail("n1-0@example.com")[0] // 100 == 5  # somebody else
        assert client.mail("d1-0@example.com")[0] == 250
        assert client.rcpt("nobody@example.com")[0] == 550
    with front.smtp() as client:
        assert client.ehlo()[0] == 250
        client.mail("a@example.org")
        code, text = client.rcpt("far@example.net")
        assert code // 100 == 5 and text.startswith(b"5.7."), (code, text)  # no open relay
    with pytest.raises(smtplib.SMTPAuthenticationError) as wrong:
        edge = front.edge
        with smtplib.SMTP("localhost", edge.port["submission"], source_address=("127.0.0.3", 0)) as client:
            client.login("d1-0@example.com", "wrong")
    assert wrong.value.smtp_code == 535


def test_imap_and_pop3_of_a_home_that_is_down(front: Cluster) -> None:
    """A clear answer within a second, and nothing hangs."""
    lab, edge = front.homes["n1"].lab, front.edge
    lab.kill()
    try:
        wait_until(lambda: verdict(edge, "n1") == "refusing", "a verdict")
        session = imaplib.IMAP4(edge.host, edge.port["imap"], timeout=5)
        with pytest.raises(imaplib.IMAP4.error, match="UNAVAILABLE"):
            session.login("n1-0@example.com", PASSWORD)
        session.logout()
        mailbox = poplib.POP3(edge.host, edge.port["pop3"], timeout=5)
        mailbox.user("n1-0@example.com")
        with pytest.raises(poplib.error_proto, match=r"SYS/TEMP"):
            mailbox.pass_(PASSWORD)
        mailbox.close()
    finally:
        lab.start()
