"""Reads every folder of every account straight from the servers and holds it against the ledger.

Also a program: `python -m onedomain.ledger.verify --help`. Logs in to the servers themselves, never through an edge.
"""

from __future__ import annotations

import argparse
import hashlib
import imaplib
import json
import re
import ssl
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from onedomain.ledger.corpus import TOKEN_HEADER
from onedomain.ledger.expect import Expected, canonical, expectations
from onedomain.ledger.ledger import Act, Sent, body_of, read

TOKEN = re.compile(rb"^" + TOKEN_HEADER.encode() + rb":[ \t]*(\S+)", re.IGNORECASE | re.MULTILINE)
AT_ONCE = 100
"""Messages in one FETCH: a bound on what is held in memory."""

imaplib._MAXLINE = 1 << 26  # type: ignore[attr-defined]  # UID SEARCH ALL answers in one line


@dataclass(frozen=True)
class Mailbox:
    """Where to read an account: log-in with `user`, or with `authority` as the one who logs in on the user's behalf."""

    account: str
    host: str
    port: int
    user: str
    password: str
    server: str = ""
    tls: bool = False
    authority: str | None = None

    def open(self) -> imaplib.IMAP4:
        if self.tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            session: imaplib.IMAP4 = imaplib.IMAP4_SSL(self.host, self.port, ssl_context=context, timeout=120)
        else:
            session = imaplib.IMAP4(self.host, self.port, timeout=120)
        if self.authority:
            word = "\0".join((self.user, self.authority, self.password)).encode()
            session.authenticate("PLAIN", lambda _: word)
        else:
            session.login(self.user, self.password)
        return session


@dataclass(frozen=True)
class Found:
    """One message in one folder. `verdict` says what its octets are: same, headers (altered), body (altered)."""

    account: str
    server: str
    folder: str
    uid: int
    token: str | None
    flags: frozenset[str]
    verdict: str = "same"

    @property
    def place(self) -> str:
        return f"{self.server}/{self.account}/{self.folder}/{self.uid}"


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it must be."""

    kind: str
    account: str
    token: str
    detail: str


RED = ("lost", "doubled", "altered", "misdelivered", "misplaced", "misflagged", "unasked", "unread")
MEANING = {
    "lost": "acknowledged, and not there",
    "doubled": "there more often than acknowledged or in doubt",
    "altered": "octets below the headers that were sent differ",
    "misdelivered": "in an account it was never sent to",
    "misplaced": "in another folder than acknowledged",
    "misflagged": "flags other than acknowledged",
    "unasked": "there although every try was refused",
    "unread": "accounts that could not be read, so nothing is known",
}


@dataclass
class Report:
    """`ok` if nothing is red. `doubt_present` and `doubt_absent` count acts whose answer never came."""

    acknowledged: int = 0
    found: int = 0
    doubt_present: int = 0
    doubt_absent: int = 0
    strangers: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.findings

    def of(self, kind: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.kind == kind]

    def counts(self) -> dict[str, int]:
        return {kind: len(self.of(kind)) for kind in RED}

    def as_json(self) -> dict[str, Any]:
        head = {name: getattr(self, name) for name in ("ok", "acknowledged", "found", "strangers")}
        doubt = {"doubt_present": self.doubt_present, "doubt_absent": self.doubt_absent}
        return head | doubt | self.counts() | {"findings": [asdict(finding) for finding in self.findings]}

    def table(self, most: int = 20) -> str:
        lines = [
            f"{self.acknowledged:8} acknowledged and expected",
            f"{self.found:8} found with a token, {self.strangers} without",
            f"{self.doubt_present:8} in doubt and there, {self.doubt_absent} in doubt and not there",
        ]
        lines += [f"{count:8} {kind}: {MEANING[kind]}" for kind, count in self.counts().items()]
        lines += [f"  {f.kind}: {f.account} {f.token}: {f.detail}" for f in self.findings[:most]]
        if len(self.findings) > most:
            lines.append(f"  … and {len(self.findings) - most} more")
        return "\n".join([*lines, "clean" if self.ok else "NOT CLEAN"])


def verify(
    acts: Iterable[Act] | Path | str,
    mailboxes: Sequence[Mailbox],
    *,
    normalise: bool = False,
    delivery_folder: str = "INBOX",
    workers: int = 8,
) -> Report:
    """Read all `mailboxes` and judge. `normalise` forgives a server that turned bare LF into CRLF."""
    acts = read(acts) if isinstance(acts, (Path, str)) else list(acts)
    sent = {act.token: act.sent for act in acts if act.sent}
    found: list[Found] = []
    report = Report()
    with ThreadPoolExecutor(workers) as pool:
        for mailbox, result in zip(
            mailboxes, pool.map(lambda m: _try_read(m, sent, normalise), mailboxes), strict=True
        ):
            if isinstance(result, str):
                report.findings.append(Finding("unread", mailbox.account, "-", f"{mailbox.server}: {result}"))
            else:
                found += result
    judge(report, expectations(acts, delivery_folder), found, unread={f.account for f in report.findings})
    return report


def judge(
    report: Report,
    expected: dict[tuple[str, str], Expected],
    found: Iterable[Found],
    unread: set[str] = frozenset(),  # type: ignore[assignment]
) -> None:
    """Fill the report. Pure. Accounts in `unread` are not called empty."""
    held: dict[tuple[str, str], list[Found]] = defaultdict(list)
    for message in found:
        if message.token is None:
            report.strangers += 1
            continue
        report.found += 1
        held[message.account, message.token].append(message)
    for key, copies in held.items():
        if key not in expected:
            report.findings.append(Finding("misdelivered", *key, _places(copies)))
        for copy in copies:
            if copy.verdict != "same":
                report.findings.append(Finding("altered", *key, f"{copy.verdict} at {copy.place}"))
    for key, it in expected.items():
        report.acknowledged += it.total.least
        if it.account in unread:
            continue
        _count_doubt(report, it, len(held.get(key, ())))
        _judge_one(report, it, held.get(key, []))


def _count_doubt(report: Report, it: Expected, count: int) -> None:
    if it.in_doubt:
        present = min(max(count - it.total.least, 0), it.total.most - it.total.least)
        report.doubt_present += present
        report.doubt_absent += it.total.most - it.total.least - present


def _judge_one(report: Report, it: Expected, copies: list[Found]) -> None:
    def add(kind: str, detail: str) -> None:
        report.findings.append(Finding(kind, it.account, it.token, detail))

    count = len(copies)
    if count < it.total.least:
        add("lost", f"{count} of {it.total.least}; {_last(it)}")
    elif count > it.total.most:
        add("doubled" if it.total.most else "unasked", f"{count} where {it.total.most} may be: {_places(copies)}")
    else:
        folders: dict[str, list[Found]] = defaultdict(list)
        for copy in copies:
            folders[canonical(copy.folder)].append(copy)
        wrong = [f for f in sorted({*it.folders, *folders}) if len(folders[f]) not in it.folders[f]]
        if wrong:
            add("misplaced", f"{'; '.join(_count(it, f, len(folders[f])) for f in wrong)}; {_last(it)}")
        for folder, here in folders.items():
            if len(here) == it.folders[folder].most == 1:
                for flag in _wrong_flags(it, folder, here[0]):
                    add("misflagged", f"{flag} at {here[0].place}; {_last(it)}")


def _count(it: Expected, folder: str, count: int) -> str:
    range_ = it.folders[folder]
    return f"{count} in {folder}, {range_.least} to {range_.most} expected"


def _wrong_flags(it: Expected, folder: str, message: Found) -> Iterator[str]:
    for (where, flag), value in it.flags.items():
        if where == folder and value is not None and (flag in message.flags) != value:
            yield f"{flag} {'missing' if value else 'set'}"


def _places(copies: list[Found]) -> str:
    return ", ".join(copy.place for copy in copies)


def _last(it: Expected) -> str:
    act = it.acts[-1]
    return f"last {act.op} {act.state} by {act.server or '?'} at {act.ended or act.began:.3f}: {act.reply[:80]}"


def _try_read(mailbox: Mailbox, sent: dict[str, Sent], normalise: bool) -> list[Found] | str:
    try:
        return list(read_mailbox(mailbox, sent, normalise))
    except (OSError, imaplib.IMAP4.error) as failure:
        return repr(failure)


def read_mailbox(mailbox: Mailbox, sent: dict[str, Sent], normalise: bool = False) -> Iterator[Found]:
    """Every message of every folder that can be selected."""
    with mailbox.open() as session:
        for folder in list(_folders(session)):
            _must(session.select(_quoted(folder), readonly=True), f"EXAMINE {folder}")
            uids = _must(session.uid("SEARCH", "ALL"), "SEARCH")[0].split()
            for start in range(0, len(uids), AT_ONCE):
                wanted = b",".join(uids[start : start + AT_ONCE]).decode()
                answer = _must(session.uid("FETCH", wanted, "(UID FLAGS BODY.PEEK[])"), "FETCH")
                yield from (_found(mailbox, folder, about, data, sent, normalise) for about, data in _messages(answer))


def _must(answer: tuple[str, list[Any]], what: str) -> list[Any]:
    status, data = answer
    if status != "OK":
        raise imaplib.IMAP4.error(f"{what}: {data!r}")
    return [] if data == [None] else data


LISTED = re.compile(rb'^\((?P<flags>[^)]*)\) (?:NIL|"(?:\\.|[^"\\])*") (?P<name>.*)$', re.DOTALL)


def _folders(session: imaplib.IMAP4) -> Iterator[str]:
    for line in _must(session.list('""', "*"), "LIST"):
        literal = line[1] if isinstance(line, tuple) else None
        if not (line := line[0] if literal is not None else line):
            continue
        match = LISTED.match(line)
        if match is None:
            raise imaplib.IMAP4.error(f"LIST: {line!r}")
        name = literal if literal is not None else match["name"]
        if name.startswith(b'"') and literal is None:
            name = re.sub(rb"\\(.)", rb"\1", name[1:-1])
        if b"\\noselect" not in match["flags"].lower() and b"\\nonexistent" not in match["flags"].lower():
            yield name.decode("utf-8", "surrogateescape")


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _messages(answer: list[Any]) -> Iterator[tuple[bytes, bytes]]:
    """imaplib gives (line up to the literal, literal), then the rest of the line, per message."""
    for position, item in enumerate(answer):
        if isinstance(item, tuple):
            rest = answer[position + 1] if position + 1 < len(answer) else b""
            yield item[0] + b" " + (rest if isinstance(rest, bytes) else b""), item[1]


def _found(mailbox: Mailbox, folder: str, about: bytes, data: bytes, sent: dict[str, Sent], normalise: bool) -> Found:
    uid = re.search(rb"UID (\d+)", about)
    flags = re.search(rb"FLAGS \(([^)]*)\)", about)
    if uid is None or flags is None:
        raise imaplib.IMAP4.error(f"FETCH: {about!r}")
    head = data.partition(b"\r\n\r\n")[0]
    token = TOKEN.search(head)
    name = token[1].decode("ascii", "replace") if token else None
    return Found(
        account=mailbox.account,
        server=mailbox.server or f"{mailbox.host}:{mailbox.port}",
        folder=folder,
        uid=int(uid[1]),
        token=name,
        flags=frozenset(flag.decode().lower() for flag in flags[1].split()),
        verdict=compare(data, sent[name], normalise) if name in sent else "same",
    )


def compare(stored: bytes, sent: Sent, normalise: bool = False) -> str:
    """Whether what was sent is the end of what is stored: "same", else "headers" or "body" for what was altered."""
    candidates = [stored]
    if normalise:
        candidates.append(re.sub(rb"(?<!\r)\n", b"\r\n", stored))
    if not sent.final_newline:  # DATA and many stores can't but end the last line
        candidates += [data[:-2] for data in candidates if data.endswith(b"\r\n")]
    for data in candidates:
        tail = data[-sent.size :] if sent.size else b""
        # The tail must begin a line, or a header of ours could have been glued to somebody else's.
        begins_line = len(data) == sent.size or data[: -sent.size or None].endswith(b"\n")
        if begins_line and hashlib.sha256(tail).hexdigest() == sent.sha256:
            return "same"
    if any(hashlib.sha256(body_of(data)).hexdigest() == sent.body_sha256 for data in candidates):
        return "headers"
    return "body"


def main() -> int:
    """Exit status 0 if clean, 1 if not. The mailboxes file is a JSON list of objects with the fields of Mailbox."""
    parser = argparse.ArgumentParser(
        prog="python -m onedomain.ledger.verify", description="Hold servers against a ledger.")
    parser.add_argument("--ledger", required=True, type=Path)
    parser.add_argument("--mailboxes", required=True, type=Path)
    parser.add_argument("--normalise", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    mailboxes = [Mailbox(**fields) for fields in json.loads(given.mailboxes.read_text())]
    report = verify(given.ledger, mailboxes, normalise=given.normalise)
    print(json.dumps(report.as_json()) if given.json else report.table())
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
