"""The opening of a conversation: EHLO, STARTTLS, AUTH, XCLIENT (RFC 5321 section 4.1.1.1, 3207, 4954, Postfix XCLIENT).

Knows who the client says it is, and what is forgotten when that changes. Does not know mail.
"""

from __future__ import annotations

from onedomain.model.failure import Failed, refuse
from onedomain.protocol import sasl
from onedomain.protocol.smtp.command import parse_xclient
from onedomain.protocol.smtp.conversation import Conversation
from onedomain.protocol.smtp.event import Auth, Hello, StartTls, Verb, Xclient
from onedomain.protocol.smtp.lines import BadLine
from onedomain.protocol.smtp.offer import Offer, reply
from onedomain.protocol.smtp.table import TABLE, State

NOBODY = Hello("", Verb.HELO)
VERBS = {verb.value.encode(): verb for verb in Verb}


class Opening(Conversation):
    """`secure`: TLS is active. `hello` is the last that was said, with no name before the first."""

    def __init__(self, offer: Offer, *, secure: bool) -> None:
        super().__init__(offer)
        self.secure = secure
        self.authenticated = False
        self.hello = NOBODY
        self._mechanism: sasl.Mechanism | None = None

    def greet(self, text: str = "ESMTP OneDomain") -> None:
        self._out.append(self.offer.greeting(text))

    def tls_started(self) -> None:
        """The handshake is done. Nothing that was said before it counts any longer (RFC 3207 section 4.2)."""
        self.secure = True
        self.authenticated = False
        self.hello = NOBODY
        self.state = State.NEW

    def _go(self, verb: Verb) -> None:
        self.state = TABLE[self.state][verb]

    def _hello(self, line: bytes, rest: bytes) -> None:
        verb = VERBS[line[:4].upper()]
        if (verb is Verb.LHLO) is not self.offer.lmtp:
            raise Failed(refuse(500, "5.5.1", f"this is {'LMTP' if self.offer.lmtp else 'SMTP'}"))
        if not rest or len(rest) > 255:
            raise Failed(refuse(501, "5.5.4", f"syntax: {verb.value} name"))
        self.hello = Hello(rest.decode("utf-8", "replace"), verb)
        self._go(verb)
        if verb is Verb.HELO:
            self._out.append(reply(250, "", self.offer.name))
        else:
            self._out.append(self.offer.answer_hello(secure=self.secure, authenticated=self.authenticated))
        self._events.append(self.hello)
        self._count_idle()

    def _starttls(self, line: bytes, rest: bytes) -> None:
        if rest:
            raise Failed(refuse(501, "5.5.4", "STARTTLS takes no argument"))
        if self.secure:
            raise Failed(refuse(503, "5.5.1", "TLS is active already"))
        if not self.offer.starttls:
            raise Failed(refuse(502, "5.5.1", "STARTTLS is not offered"))
        # RFC 3207 section 4.2, CVE-2011-0411: what came in the clear behind the command is not believed
        self._events.append(StartTls(discarded=self._input.clear()))

    def _auth(self, line: bytes, rest: bytes) -> None:
        if not self.offer.auth:
            raise Failed(refuse(503, "5.5.1", "authentication is not offered here"))
        if self.authenticated:
            raise Failed(refuse(503, "5.5.1", "authenticated already"))
        if not self.secure and not self.offer.auth_in_clear:
            raise Failed(refuse(538, "5.7.11", "say STARTTLS first"))
        name, _, initial = rest.partition(b" ")
        mechanism = sasl.server(name.decode("ascii", "replace"))
        if mechanism is None or mechanism.name not in self.offer.auth:
            raise Failed(refuse(504, "5.5.4", "mechanism not offered"))
        self._mechanism = mechanism
        self._go(Verb.AUTH)
        if initial:
            self._auth_answer(initial.strip())
        else:
            self._challenge(mechanism)

    def _challenge(self, mechanism: sasl.Mechanism) -> None:
        self._out.append(b"334 " + sasl.encode(mechanism.challenge()) + b"\r\n")

    def _step_auth(self) -> bool:
        limit = self.offer.limits.auth_line
        line = self._input.line(limit)
        if line is None:
            return False
        answer = self._mended(line, limit) if isinstance(line, BadLine) else line
        if answer is not None:
            self._auth_answer(answer)
        elif self.state is State.AUTH:
            self.state = State.READY
        return True

    def _auth_answer(self, answer: bytes) -> None:
        mechanism = self._mechanism
        assert mechanism is not None
        try:
            credentials = mechanism.answer(sasl.decode(answer))
        except sasl.SaslError as error:
            self.state = State.READY
            enhanced = "5.7.0" if isinstance(error, sasl.Cancelled) else "5.5.2"
            self._refuse_line(refuse(501, enhanced, str(error)), b"AUTH")
            return
        if credentials is None:
            self._challenge(mechanism)
            return
        self._events.append(Auth(mechanism.name, credentials))

    def _xclient(self, line: bytes, rest: bytes) -> None:
        if not self.offer.xclient:
            raise Failed(refuse(550, "5.7.1", "XCLIENT is not for you"))
        self._events.append(Xclient(parse_xclient(line)))
