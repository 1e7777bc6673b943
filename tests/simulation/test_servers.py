"""The traps of the simulated servers are there: a simulation without them would show nothing."""

from __future__ import annotations

import pytest

from onedomain.decision.link.identity import filler, identity_of

from .driver import Disk, Driver
from .server import TRAITS, No, Server

NONE: frozenset[str] = frozenset()


def test_cyrus_refuses_nul_and_identical_messages_and_fillers_differ() -> None:
    server = Server("cyrus", 1)
    with pytest.raises(No, match="NUL"):
        server.append("INBOX", b"a: b\r\n\r\n\0", NONE, 0)
    for _ in range(10):
        server.append("INBOX", b"a: b\r\n\r\nsame", NONE, 0)
    with pytest.raises(No, match="identical"):
        server.append("INBOX", b"a: b\r\n\r\nsame", NONE, 0)
    for number in range(12):
        server.append("INBOX", filler("INBOX", number), NONE, 0)


def test_cyrus_munges_headers_and_the_copy_is_known_again() -> None:
    server = Server("cyrus", 1)
    raw = b"Subject: \x90\xbf\x8b\x81\r\n\r\n\x90 stays"
    uid = server.append("INBOX", raw, NONE, 0)
    stored = server.boxes["INBOX"].messages[uid].raw
    assert stored == b"Subject: XXXX\r\n\r\n\x90 stays"
    assert identity_of(stored) == identity_of(raw) != identity_of(raw.replace(b"stays", b"goes"))


def test_cyrus_suppresses_a_second_delivery_but_not_an_append() -> None:
    server = Server("cyrus", 1)
    for _ in range(2):
        server.deliver("INBOX", b"Message-ID: <1>\r\n\r\n", 0)
    assert len(server.boxes["INBOX"].messages) == 1
    server.append("INBOX", b"Message-ID: <1>\r\n\r\n", NONE, 0)
    assert len(server.boxes["INBOX"].messages) == 2


def test_dovecot_reports_no_change_above_its_own_modseq_and_no_uid_that_never_was() -> None:
    server = Server("dovecot", 1)
    server.append("INBOX", b"\r\n\r\n", NONE, 0)
    assert server.rows("INBOX", since=1) and not server.rows("INBOX", since=99)
    server.raise_uidnext("INBOX", 100)
    assert server.append("INBOX", b"\r\n\r\n2", NONE, 0) == 100
    assert not server.vanished("INBOX", 1)


def test_what_generic_servers_lack() -> None:
    imap, plain = Server("imap", 1), Server("plain", 1)
    assert imap.mark("INBOX").modseq == 0 and not imap.listing().folders[0].identity
    assert imap.create("INBOX.x", 77).uidvalidity != 77
    uid = imap.append("INBOX", b"\r\n\r\n", frozenset({"\\Seen", "Work"}), 0)
    assert imap.boxes["INBOX"].messages[uid].flags == {"\\Seen"}
    for name in ("\\Deleted", "\\Deleted"):
        plain.append("INBOX", name.encode() + b"\r\n\r\n", frozenset({name}), 0)
    plain.expunge_deleted("INBOX")
    assert not plain.boxes["INBOX"].messages


def test_an_append_under_way_keeps_its_bytes() -> None:
    from onedomain.decision.link.actions import Append, Copy

    source, target = Server("node", 1), Server("node", 1)
    uid = source.append("INBOX", b"x: y\r\n\r\nz", NONE, 0)
    driver = Driver(source, target, Disk())
    late = driver._under_way(Append("INBOX", "INBOX", (Copy(uid, NONE, 0, 5),)))
    source.expunge("INBOX", (uid,))
    late()
    assert target.boxes["INBOX"].messages[5].raw == b"x: y\r\n\r\nz"


@pytest.mark.parametrize("kind", TRAITS)
def test_rename_takes_what_lies_below_and_overwrites_nothing(kind: str) -> None:
    server = Server(kind, 1)
    for parts in (("a",), ("a", "b"), ("c", "b")):
        server.create(server.path(*parts))
    with pytest.raises(No):
        server.rename(server.path("a"), server.path("c"))
    server.rename(server.path("a"), server.path("d"))
    assert set(server.boxes) == {"INBOX", *(server.path(*parts) for parts in (("d",), ("d", "b"), ("c", "b")))}
