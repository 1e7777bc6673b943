"""An account as imaplib shows it: folders, messages, subscriptions. Imports nothing of ours.

Names are paths without separator and prefix, so that two brands can be compared.
"""

from __future__ import annotations

import imaplib
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

_LIST = re.compile(rb'\(([^)]*)\) (?:"((?:[^"\\]|\\.)*)"|NIL) (?:"((?:[^"\\]|\\.)*)"|(\S+))')
Path = tuple[str, ...]


@dataclass(frozen=True)
class Seen:
    flags: frozenset[str]
    date: str
    digest: str
    subject: bytes


@dataclass
class Box:
    uidvalidity: int
    uidnext: int
    messages: dict[int, Seen] = field(default_factory=dict)

    @property
    def contents(self) -> Counter[tuple[str, frozenset[str], str]]:
        return Counter((each.digest, each.flags, each.date) for each in self.messages.values())


@dataclass
class Mailbox:
    boxes: dict[Path, Box]
    subscribed: set[Path]

    def bodies(self) -> Counter[str]:
        return Counter(each.digest for box in self.boxes.values() for each in box.messages.values())


@contextmanager
def client(lab: Any, user: str) -> Iterator[imaplib.IMAP4]:
    session = lab.imap(user)
    try:
        yield session
    finally:
        session.logout()


def done(answer: tuple[str, list[Any]]) -> list[Any]:
    assert answer[0] == "OK", answer
    return answer[1]


def quote(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def append(session: imaplib.IMAP4, name: str, raw: bytes, flags: str = "", date: str | None = None) -> None:
    done(session.append(quote(name), flags, f'"{date}"' if date else None, raw))  # type: ignore[arg-type]


def append_many(session: imaplib.IMAP4, name: str, raws: list[bytes]) -> None:
    """One command (MULTIAPPEND, RFC 3502) with literals that nobody waits for (RFC 7888)."""
    literals = b"".join(b" {%d+}\r\n%b" % (len(raw), raw) for raw in raws)
    session.send(b"many APPEND " + quote(name).encode() + literals + b"\r\n")
    while not (line := session.readline()).startswith(b"many "):
        assert line, "closed"
    assert line.startswith(b"many OK"), line


def store(session: imaplib.IMAP4, name: str, uids: str, how: str, flags: str) -> None:
    done(session.select(quote(name)))
    done(session.uid("STORE", uids, how, f"({flags})"))


def expunge(session: imaplib.IMAP4, name: str, uids: str) -> None:
    store(session, name, uids, "+FLAGS.SILENT", "\\Deleted")
    done(session.uid("EXPUNGE", uids))


def look(lab: Any, user: str, *, prefix: str = "") -> Mailbox:
    """Everything; bodies as SHA-256 of what `same` leaves of them."""
    with client(lab, user) as session:
        boxes: dict[Path, Box] = {}
        for flags, separator, name in _listed(done(session.list())):
            if "\\noselect" in flags or "\\nonexistent" in flags:
                continue
            boxes[_path(name, separator, prefix)] = _box(session, name)
        subscribed = {_path(name, separator, prefix) for _, separator, name in _listed(done(session.lsub()))}
        return Mailbox(boxes, subscribed)


def _path(name: str, separator: str, prefix: str) -> Path:
    if name.upper() == "INBOX":
        return ("INBOX",)
    return tuple(name.removeprefix(prefix).split(separator))


def _listed(lines: list[Any]) -> Iterator[tuple[set[str], str, str]]:
    for line in lines:
        if not line:
            continue
        if isinstance(line, tuple):  # a literal
            found = re.match(rb'\(([^)]*)\) "(.*)" ', line[0])
            assert found, line
            yield set(found[1].decode().lower().split()), found[2].decode(), line[1].decode()
            continue
        found = _LIST.match(line)
        assert found, line
        name = (found[3] if found[3] is not None else found[4]).decode()
        yield set(found[1].decode().lower().split()), found[2].decode(), re.sub(r"\\(.)", r"\1", name)


def _box(session: imaplib.IMAP4, name: str) -> Box:
    status = done(session.status(quote(name), "(UIDVALIDITY UIDNEXT)"))[0]
    if isinstance(status, tuple):
        status = b"".join(status)
    validity, uidnext = re.search(rb"UIDVALIDITY (\d+)", status), re.search(rb"UIDNEXT (\d+)", status)
    assert validity and uidnext, status
    box = Box(int(validity[1]), int(uidnext[1]))
    done(session.select(quote(name), readonly=True))
    for each in done(session.uid("FETCH", "1:*", "(FLAGS INTERNALDATE BODY.PEEK[])")):
        if not isinstance(each, tuple):
            continue
        uid, flags, date = (re.search(form, each[0]) for form in (
            rb"UID (\d+)", rb"FLAGS \(([^)]*)\)", rb'INTERNALDATE "([^"]*)"'))
        assert uid and flags and date, each[0]
        moment = imaplib.Internaldate2tuple(b'INTERNALDATE "' + date[1] + b'"')
        subject = re.search(rb"(?im)^Subject: ?([^\r\n]*)", each[1])
        box.messages[int(uid[1])] = Seen(
            frozenset(flags[1].decode().split()) - {"\\Recent"}, str(moment and tuple(moment)[:6]),
            sha256(same(each[1])).hexdigest(), subject[1] if subject else b"",
        )  # fmt: skip
    return box


def same(raw: bytes) -> bytes:
    """What brands don't change of a message."""
    head, blank, body = re.sub(rb"\r?\n", b"\r\n", raw).partition(b"\r\n\r\n")
    return bytes(c if c < 128 else 88 for c in head) + blank + body
