"""What a listener offers and allows: extensions, limits, and the replies that say so.

Knows the EHLO lines and how a reply is written. Does not know the state of any conversation.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from onedomain.model.failure import Failure
from onedomain.protocol.smtp.body import BodyPolicy

MAX_REPLY = 500  # RFC 5321 section 4.5.3.1.5: 512 with code and line end


@dataclass(frozen=True, slots=True)
class Limits:
    """Octets and counts of one session.

    `line` is above the 512 of RFC 5321 section 4.5.3.1.4, as extensions lengthen MAIL and RCPT. `errors` are 5xx
    answers and `idle` commands that lead nowhere (NOOP, RSET, VRFY …), both since the last message that was taken.
    """

    line: int = 2048
    auth_line: int = 12288  # RFC 4954 section 4
    errors: int = 20
    idle: int = 100
    recipients: int = 1000  # RFC 5321 section 4.5.3.1.8 asks for 100 at least


@dataclass(frozen=True, slots=True)
class Offer:
    """`name` is how the server calls itself. `auth` are SASL mechanisms (none: AUTH is not offered); without TLS they
    are offered only where `auth_in_clear` says so.

    `lmtp`: RFC 2033 instead of SMTP: LHLO, and an answer per recipient at the end of the body.
    """

    name: str
    lmtp: bool = False
    starttls: bool = False
    auth: tuple[str, ...] = ()
    auth_in_clear: bool = False
    xclient: bool = False
    smtputf8: bool = True
    chunking: bool = True
    dsn: bool = True
    policy: BodyPolicy = field(default_factory=BodyPolicy)
    limits: Limits = field(default_factory=Limits)
    _hellos: dict[tuple[bool, bool], bytes] = field(default_factory=dict, init=False, compare=False, repr=False)
    _greetings: dict[str, bytes] = field(default_factory=dict, init=False, compare=False, repr=False)

    def greeting(self, text: str) -> bytes:
        answer = self._greetings.get(text)
        if answer is None:
            answer = self._greetings[text] = reply(220, "", f"{self.name} {'LMTP' if self.lmtp else text}")
        return answer

    def answer_hello(self, *, secure: bool, authenticated: bool) -> bytes:
        """To EHLO or LHLO; without enhanced codes (RFC 2034 section 3)."""
        answer = self._hellos.get((secure, authenticated))
        if answer is None:
            *first, last = self.name, *self.ehlo_lines(secure=secure, authenticated=authenticated)
            answer = "".join(f"250-{line}\r\n" for line in first).encode() + f"250 {last}\r\n".encode()
            self._hellos[secure, authenticated] = answer
        return answer

    def ehlo_lines(self, *, secure: bool, authenticated: bool) -> list[str]:
        """What follows the name; STARTTLS and AUTH only while they make sense (RFC 3207 section 4.2)."""
        lines = ["PIPELINING", f"SIZE {self.policy.max_size}"]
        if self.starttls and not secure:
            lines.append("STARTTLS")
        if self.auth and not authenticated and (secure or self.auth_in_clear):
            lines.append("AUTH " + " ".join(self.auth))
        if self.xclient:
            lines.append("XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT")
        lines += ["ENHANCEDSTATUSCODES", "8BITMIME"]
        if self.dsn:
            lines.append("DSN")
        if self.smtputf8:
            lines.append("SMTPUTF8")
        if self.chunking:
            lines.append("CHUNKING")
        # RFC 9422: tells a client how many recipients it may name, instead of letting it find out by 452
        lines.append(f"LIMITS RCPTMAX={self.limits.recipients}")
        return lines


def reply(code: int, enhanced: str, text: str) -> bytes:
    """One reply line. What would break the line or is not ASCII is made harmless; `enhanced` may be ""."""
    if not text.isascii() or not text.isprintable():
        text = "".join(c if " " <= c <= "~" else "?" for c in text)
    words = f"{code} {enhanced} {text}" if enhanced else f"{code} {text}"
    return words[:MAX_REPLY].encode("ascii") + b"\r\n"


def refusal(failure: Failure) -> bytes:
    return reply(failure.code, failure.enhanced, failure.text)
