"""The client's side of SMTP (RFC 5321, 2920, 3030, 3461, 6531) and LMTP (RFC 2033): commands out, answers in.

Knows how commands are written, which reply answers which command when they are pipelined, and that LMTP answers the end
of data once for each accepted recipient. Does not know sockets, time, or what to do about an answer: that is the
backend's. Sans-IO.

    client = SmtpClient(lmtp=True)
    send(client.mail("a@example.org") + client.rcpt("b@example.com") + client.data())
    client.receive(bytes_read)
    while (answer := client.next_answer()) is not None: ...
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from onedomain.model.failure import again
from onedomain.protocol import sasl
from onedomain.protocol.smtp.dot import DotStuffer
from onedomain.protocol.smtp.reply import BadReply, Reply, ReplyReader
from onedomain.protocol.smtp.xtext import encode_xtext

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f]")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_OUTSIDE = re.compile("[<> ]")  # may stand in quotes alone


class Step(Enum):
    """What a reply answers."""

    GREETING = "greeting"
    HELLO = "EHLO"        # also LHLO and HELO
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"         # one for each exchange
    XCLIENT = "XCLIENT"   # answered with a new greeting (220), after which EHLO is due again
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BODY = "end of data"  # the final dot; for LMTP one answer for each accepted recipient
    RSET = "RSET"
    NOOP = "NOOP"
    QUIT = "QUIT"


class Answer(NamedTuple):
    """`recipient` is the number of the RCPT in its transaction (from 0): for RCPT, and for BODY with LMTP; else -1."""

    step: Step
    reply: Reply
    recipient: int = -1


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What EHLO or LHLO announced: keyword in capitals -> its parameters. `name` is how the server calls itself."""

    name: str = ""
    keywords: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.keywords

    @property
    def size(self) -> int:
        """The announced limit in octets; 0 where there is none (RFC 1870)."""
        first = (self.keywords.get("SIZE") or ("0",))[0]
        return int(first) if first.isascii() and first.isdigit() and len(first) <= 20 else 0

    @property
    def auth(self) -> frozenset[str]:
        return frozenset(mechanism.upper() for mechanism in self.keywords.get("AUTH", ()))


def parse_capabilities(reply: Reply) -> Capabilities:
    """The lines of a positive EHLO or LHLO reply. The old spelling `AUTH=PLAIN` is read as AUTH."""
    keywords: dict[str, tuple[str, ...]] = {}
    for line in reply.lines[1:]:
        words = line.replace("=", " ", 1).split() if line[:5].upper() == "AUTH=" else line.split()
        if words:
            keyword = words[0].upper()
            keywords[keyword] = keywords.get(keyword, ()) + tuple(words[1:])
    name = reply.lines[0].split(" ", 1)[0] if reply.lines else ""
    return Capabilities(name, keywords)


@dataclass(slots=True)
class _Transaction:
    """Recipients said so far, and the numbers of those that were accepted."""

    recipients: int = 0
    accepted: list[int] = field(default_factory=list)


class _Awaited(NamedTuple):
    step: Step
    recipient: int = -1
    transaction: _Transaction | None = None  # for RCPT; for BODY with LMTP until it is known whom it answers


class SmtpClient:
    """One connection. Every method that builds a command also notes that its reply is awaited; nothing is sent here.

    The next transaction may be begun before the last is answered. Methods raise ValueError where an argument would
    smuggle a line end or another control character into a command.
    """

    def __init__(self, *, lmtp: bool = False, reader: ReplyReader | None = None) -> None:
        self.lmtp = lmtp
        self._reader = reader or ReplyReader()
        self._awaited: deque[_Awaited] = deque([_Awaited(Step.GREETING)])
        self._stuffer = DotStuffer()
        self._transaction = _Transaction()

    @property
    def awaited(self) -> int:
        """Replies still to come for what was sent; with LMTP as far as the replies to RCPT let it be known."""
        return sum(
            max(1, len(due.transaction.accepted)) if due.step is Step.BODY and due.transaction else 1
            for due in self._awaited)

    @property
    def buffered(self) -> int:
        """Octets received and not yet taken as answers; more than 0 before TLS starts is an attack (RFC 3207)."""
        return self._reader.buffered

    @property
    def accepted(self) -> tuple[int, ...]:
        """Numbers of the recipients of the current transaction that were accepted so far."""
        return tuple(self._transaction.accepted)

    # ---- bytes in, answers out

    def receive(self, data: bytes) -> None:
        self._reader.receive(data)

    def next_answer(self) -> Answer | None:
        """The next answer, or None when more bytes are needed. Raises BadReply on what is no SMTP."""
        reply = self._reader.next_reply()
        if reply is None:
            return None
        if not self._awaited:
            # RFC 5321 section 3.8: a server that shuts down may say 421 at any time
            raise BadReply(again(451, "4.4.2", "the next server spoke without being asked", f"unasked: {reply}"))
        due = self._awaited.popleft()
        if due.step is Step.RCPT and due.transaction and reply.is_done:
            due.transaction.accepted.append(due.recipient)
        if due.step is Step.BODY and due.transaction and due.transaction.accepted:
            # RFC 2033 section 4.2: one reply per accepted recipient, in their order
            first, *others = due.transaction.accepted
            self._awaited.extendleft(_Awaited(Step.BODY, number) for number in reversed(others))
            return Answer(Step.BODY, reply, first)
        return Answer(due.step, reply, due.recipient)

    # ---- commands

    def _command(self, step: Step, *words: str) -> bytes:
        line = " ".join(word for word in words if word)
        if _FORBIDDEN.search(line):
            raise ValueError(f"control character in {step.value} command")
        self._awaited.append(_Awaited(step))
        return line.encode() + b"\r\n"

    def hello(self, name: str, *, extended: bool = True) -> bytes:
        """LHLO for LMTP, else EHLO, or HELO where the server knows no better."""
        return self._command(Step.HELLO, "LHLO" if self.lmtp else "EHLO" if extended else "HELO", name)

    def start_tls(self) -> bytes:
        return self._command(Step.STARTTLS, "STARTTLS")

    def auth_plain(self, login: str, password: str, authzid: str = "") -> bytes:
        """AUTH PLAIN with its initial response (RFC 4954, 4616)."""
        return self._command(Step.AUTH, "AUTH PLAIN", sasl.encode(sasl.plain(login, password, authzid)).decode("ascii"))

    def auth_login(self) -> bytes:
        """AUTH LOGIN; after each 334 comes an `auth_response` with the login, then with the password."""
        return self._command(Step.AUTH, "AUTH LOGIN")

    def auth_response(self, answer: bytes) -> bytes:
        return self._command(Step.AUTH, sasl.encode(answer).decode("ascii") or "=")

    def xclient(self, attributes: dict[str, str]) -> bytes:
        """Postfix XCLIENT: NAME, ADDR, PORT, PROTO, HELO, LOGIN, DESTADDR, DESTPORT; "" is said as [UNAVAILABLE]."""
        pairs = (f"{key}={encode_xtext(value) or '[UNAVAILABLE]'}" for key, value in attributes.items())
        return self._command(Step.XCLIENT, "XCLIENT", *pairs)

    def mail(self, sender: str, *, size: int = 0, body: str = "", smtputf8: bool = False,
             ret: str = "", envid: str = "") -> bytes:
        """MAIL FROM; `sender` "" is the null reverse-path; `body` is "", "7BIT" or "8BITMIME". Begins a transaction."""
        _check_path(sender, smtputf8)
        command = self._command(
            Step.MAIL, f"MAIL FROM:<{sender}>", f"SIZE={size}" if size else "", f"BODY={body}" if body else "",
            "SMTPUTF8" if smtputf8 else "", f"RET={ret}" if ret else "",
            f"ENVID={encode_xtext(envid)}" if envid else "")
        self._transaction = _Transaction()
        return command

    def rcpt(self, address: str, *, notify: str = "", orcpt: str = "", smtputf8: bool = False) -> bytes:
        """RCPT TO; `orcpt` is `type;encoded-address` as RFC 3461 section 4.2 has it (already encoded)."""
        _check_path(address, smtputf8)
        command = self._command(
            Step.RCPT, f"RCPT TO:<{address}>", f"NOTIFY={notify}" if notify else "", f"ORCPT={orcpt}" if orcpt else "")
        self._awaited[-1] = _Awaited(Step.RCPT, self._transaction.recipients, self._transaction)
        self._transaction.recipients += 1
        return command

    def data(self) -> bytes:
        self._stuffer = DotStuffer()
        return self._command(Step.DATA, "DATA")

    def body(self, chunk: bytes) -> bytes:
        """A piece of the body after 354, dot-stuffed; chunks may be cut anywhere."""
        return self._stuffer.stuff(chunk)

    def end(self) -> bytes:
        """The end of the body. Replies to it are answers of step BODY."""
        self._awaited.append(_Awaited(Step.BODY, transaction=self._transaction if self.lmtp else None))
        return self._stuffer.end()

    def rset(self) -> bytes:
        return self._command(Step.RSET, "RSET")

    def noop(self) -> bytes:
        return self._command(Step.NOOP, "NOOP")

    def quit(self) -> bytes:
        return self._command(Step.QUIT, "QUIT")


def _check_path(path: str, smtputf8: bool) -> None:
    if not smtputf8 and not path.isascii():
        raise ValueError("address outside ASCII needs SMTPUTF8")
    if _OUTSIDE.search(path) and _OUTSIDE.search(_QUOTED.sub("", path)):
        raise ValueError("blank or angle bracket in address")
