"""The states of an SMTP conversation, and which command leads where (RFC 5321 section 4.1.4, 2033, 3030, 3207, 4954).

The whole law in one dict: state -> verb -> the state after success. What is not in it is out of sequence (503). Does
not know replies, bytes, or who decides about success.
"""

from __future__ import annotations

from enum import Enum

from onedomain.protocol.smtp.event import Verb


class State(Enum):
    __hash__ = object.__hash__  # as Verb's

    NEW = "new"          # before EHLO; again after STARTTLS and XCLIENT
    READY = "ready"      # no transaction
    MAIL = "mail"        # a sender, no recipient yet
    RCPT = "rcpt"        # a sender and at least one recipient
    DATA = "data"        # the body, up to the dot
    CHUNK = "chunk"      # the octets of one BDAT
    BETWEEN = "between"  # after a BDAT that was not the last
    BROKEN = "broken"    # a BDAT failed: what the client had sent ahead is swallowed
    AUTH = "auth"        # a SASL exchange
    TLS = "tls"          # STARTTLS was accepted, the handshake is under way
    ENDED = "ended"


_HELLO = {Verb.EHLO: State.READY, Verb.HELO: State.READY, Verb.LHLO: State.READY}


def _anywhere(here: State) -> dict[Verb, State]:
    return {Verb.NOOP: here, Verb.VRFY: here, Verb.EXPN: here, Verb.HELP: here, Verb.QUIT: State.ENDED}


TABLE: dict[State, dict[Verb, State]] = {
    State.NEW: {**_anywhere(State.NEW), **_HELLO, Verb.RSET: State.NEW},
    State.READY: {
        **_anywhere(State.READY), **_HELLO,
        Verb.RSET: State.READY,
        Verb.STARTTLS: State.TLS,
        Verb.AUTH: State.AUTH,
        Verb.XCLIENT: State.NEW,
        Verb.MAIL: State.MAIL,
    },
    State.MAIL: {
        **_anywhere(State.MAIL), **_HELLO,
        Verb.RSET: State.READY,
        Verb.RCPT: State.RCPT,
    },
    State.RCPT: {
        **_anywhere(State.RCPT), **_HELLO,
        Verb.RSET: State.READY,
        Verb.RCPT: State.RCPT,
        Verb.DATA: State.DATA,
        Verb.BDAT: State.CHUNK,
    },
    State.BETWEEN: {
        **_anywhere(State.BETWEEN), **_HELLO,
        Verb.RSET: State.READY,
        Verb.BDAT: State.CHUNK,
    },
    State.BROKEN: {
        **_anywhere(State.BROKEN), **_HELLO,
        Verb.RSET: State.READY,
    },
    # In these nothing that comes is a command.
    State.DATA: {},
    State.CHUNK: {},
    State.AUTH: {},
    State.TLS: {},
    State.ENDED: {},
}

OUT_OF_SEQUENCE: dict[tuple[State, Verb], str] = {
    (State.READY, Verb.RCPT): "need MAIL first",
    (State.READY, Verb.DATA): "need MAIL first",
    (State.READY, Verb.BDAT): "need MAIL first",
    (State.MAIL, Verb.DATA): "no valid recipients",
    (State.MAIL, Verb.BDAT): "no valid recipients",
    (State.MAIL, Verb.MAIL): "sender already given",
    (State.RCPT, Verb.MAIL): "sender already given",
    (State.BETWEEN, Verb.DATA): "DATA can't follow BDAT",
}
"""Texts for the mistakes that people make; others get "bad sequence of commands"."""
