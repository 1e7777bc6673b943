"""What an SMTP client did, as values: the events of server.py.

Knows shapes only. Events marked "answer" wait for the session's accept() or refuse(); the rest are news.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from onedomain.model.address import Address
from onedomain.model.failure import Failure
from onedomain.protocol.sasl import Credentials


class Verb(Enum):
    __hash__ = object.__hash__  # Enum's own is Python, and the state table is asked all the time

    EHLO = "EHLO"
    HELO = "HELO"
    LHLO = "LHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    XCLIENT = "XCLIENT"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BDAT = "BDAT"
    RSET = "RSET"
    NOOP = "NOOP"
    VRFY = "VRFY"
    EXPN = "EXPN"
    HELP = "HELP"
    QUIT = "QUIT"


@dataclass(frozen=True, slots=True)
class Hello:
    """EHLO, HELO or LHLO was said and answered; an open transaction is gone. `name` is as the client gave it."""

    name: str
    verb: Verb


@dataclass(frozen=True, slots=True)
class StartTls:
    """Answer. After accept() and once the handshake is done, tell the server by tls_started().

    `discarded` octets came behind the command in the clear and were thrown away: somebody tried to inject them.
    """

    discarded: int = 0


@dataclass(frozen=True, slots=True)
class Auth:
    """Answer."""

    mechanism: str
    credentials: Credentials


@dataclass(frozen=True, slots=True)
class Xclient:
    """Answer. Attribute names in capitals; a value the hop does not know is ""."""

    attributes: dict[str, str]


@dataclass(frozen=True, slots=True)
class Mail:
    """Answer. `sender` None is the null reverse-path; `size` 0 where none was said."""

    sender: Address | None
    size: int = 0
    eight_bit: bool = False
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""


@dataclass(frozen=True, slots=True)
class Rcpt:
    """Answer. `address.domain` is "" for `<Postmaster>` alone. `orcpt` is decoded, without its type."""

    address: Address
    notify: str = ""
    orcpt: str = ""


@dataclass(frozen=True, slots=True)
class BodyStart:
    """Answer. DATA, or the first BDAT (`chunked`), with at least one recipient accepted."""

    chunked: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Answer. Mail, its Rcpts and BodyStart in one: accept() takes all of them. Where any is to be refused, apart()
    has them come one by one instead.
    """

    mail: Mail
    rcpts: Sequence[Rcpt]


@dataclass(frozen=True, slots=True)
class BodyChunk:
    """Some of the message, in order: dots unstuffed, the listener's policy on line ends applied."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class BodyEnd:
    """Answer. With a `failure` the message is refused already: what came is to be dropped, and no answer is due."""

    size: int
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Reset:
    """RSET ended an open transaction."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """Something was refused by the server itself, and answered. `line` is what came, cut short and without secrets."""

    failure: Failure
    line: bytes = b""


@dataclass(frozen=True, slots=True)
class End:
    """The conversation is over: send what is left and close. `failure` None after QUIT."""

    failure: Failure | None = None


Event = (
    Hello | StartTls | Auth | Xclient | Mail | Rcpt | BodyStart | Group | BodyChunk | BodyEnd | Reset | Malformed
    | End)
ASKING = frozenset((StartTls, Auth, Xclient, Mail, Rcpt, BodyStart, Group, BodyEnd))
"""Those that wait for an answer (BodyEnd only where it has no failure)."""
