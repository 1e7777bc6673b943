"""The server's side of SMTP and LMTP, sans-IO: bytes in, events out, replies to send.

Knows the conversation: what may come when (table.py), which faults it answers by itself, what it asks the session to
decide. Does not know recipients, files, sockets, TLS or time.

    server.receive(bytes_read)
    while (event := server.next_event()) is not None: ...   # accept() or refuse() where the event asks for an answer
    send(server.take_output())                              # one write for a whole batch (RFC 2920 section 3.2)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from onedomain.model.failure import Failed, Failure, again, refuse
from onedomain.protocol.smtp.body import BodyCheck, too_big
from onedomain.protocol.smtp.command import Extensions, parse_bdat, parse_mail, parse_rcpt
from onedomain.protocol.smtp.event import (
    Auth,
    BodyChunk,
    BodyEnd,
    BodyStart,
    Group,
    Mail,
    Malformed,
    Rcpt,
    Reset,
    StartTls,
    Verb,
    Xclient,
)
from onedomain.protocol.smtp.group import LONGEST_LINE, read_group
from onedomain.protocol.smtp.intake import ChunkIntake, DataIntake, Intake
from onedomain.protocol.smtp.lines import BadLine
from onedomain.protocol.smtp.offer import Offer, refusal, reply
from onedomain.protocol.smtp.opening import NOBODY, VERBS, Opening
from onedomain.protocol.smtp.table import OUT_OF_SEQUENCE, TABLE, State

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
# Browsers that were led here by a link must not get as far as their body (Postfix: smtpd_forbidden_commands)
_STRANGERS = frozenset((b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT"))
_TLS_RECORD = b"\x16\x03"

_OK_MAIL = reply(250, "2.1.0", "sender ok")
_OK_RCPT = reply(250, "2.1.5", "recipient ok")
_GO_AHEAD = reply(354, "", "go ahead, end with <CRLF>.<CRLF>")


_NO_MAIL = Mail(None)
_NO_INTAKE = ChunkIntake(0, last=True)


def _answer_group(recipients: int) -> bytes:
    return _OK_MAIL + _OK_RCPT * recipients + _GO_AHEAD


_OK_GROUP = _answer_group(1)


class SmtpServer(Opening):
    """One connection. `secure`: TLS came first (port 465). `groups`: the session takes Group events, too."""

    def __init__(self, offer: Offer, *, secure: bool = False, groups: bool = False) -> None:
        super().__init__(offer, secure=secure)
        self._groups = groups and offer.limits.line >= LONGEST_LINE
        self._group_at = 0
        self._came_apart = False
        self._mail = _NO_MAIL
        self._accepted = 0
        self._check = BodyCheck(offer.policy)
        self._intake: Intake = _NO_INTAKE
        self._after_unwanted = State.READY  # where the conversation goes on after a chunk that was not wanted

    # ---- what the session says

    def accept(self, text: str = "") -> None:
        """Yes to the event that waits for an answer. `text` goes into the reply where there is one of ours."""
        event, self._pending = self._pending, None
        match event:
            case BodyEnd():
                answer = reply(250, "2.0.0", text or "message accepted")
                self._out.append(answer * self._answers_due)
                self._transaction_done()
            case Group():
                self._accepted = len(event.rcpts)
                self._out.append(_OK_GROUP if self._accepted == 1 else _answer_group(self._accepted))
                self._mail = event.mail
                self._begin_data(State.DATA)
            case Rcpt():
                self._out.append(_OK_RCPT)
                self._accepted += 1
                self._go(Verb.RCPT)
            case Mail():
                self._out.append(_OK_MAIL)
                self._mail = event
                self._accepted = 0
                self._go(Verb.MAIL)
            case BodyStart(chunked=False):
                self._out.append(_GO_AHEAD)
                self._begin_data(TABLE[self.state][Verb.DATA])
            case BodyStart():
                self._check = BodyCheck(self.offer.policy)
                self._go(Verb.BDAT)
            case StartTls():
                self._out.append(reply(220, "2.0.0", "ready to start TLS"))
                self._go(Verb.STARTTLS)
            case Auth():
                self._out.append(reply(235, "2.7.0", text or "authentication successful"))
                self.authenticated = True
                self.state = State.READY
            case Xclient():
                self._go(Verb.XCLIENT)
                self.hello = NOBODY
                self.greet()
            case _:
                raise RuntimeError("nothing waits for an answer")

    def refuse(self, failure: Failure) -> None:
        """No to the event that waits for an answer."""
        event, self._pending = self._pending, None
        match event:
            case Mail() | Rcpt() | StartTls() | Xclient() | BodyStart(chunked=False):
                self._out.append(refusal(failure))
            case BodyStart():
                # the octets of the chunk come all the same (RFC 3030 section 2); then the client hears why not
                self._check = BodyCheck(self.offer.policy)
                self._check.failure = failure
                self._go(Verb.BDAT)
                return
            case BodyEnd():
                self._out.append(refusal(failure) * self._answers_due)
                self.state = State.READY
            case Auth():
                self._out.append(refusal(failure))
                self.state = State.READY
            case _:
                raise RuntimeError("nothing waits for an answer")
        self._count_error(failure)

    def apart(self) -> None:
        """Not all of the group that waits for an answer is taken: what it was made of comes one by one."""
        if not isinstance(self._pending, Group):
            raise RuntimeError("no group waits for an answer")
        self._pending = None
        self._came_apart = True
        self._input.skip(self._group_at)

    def _begin_data(self, state: State) -> None:
        self._check = BodyCheck(self.offer.policy)
        self._intake = DataIntake()
        self.state = state

    def answer_each(self, answers: Sequence[Failure | str]) -> None:
        """LMTP: the answer to BodyEnd for each accepted recipient, in order; a str is the text of a 250."""
        if not isinstance(self._pending, BodyEnd) or len(answers) != self._accepted:
            raise RuntimeError("needs one answer for each accepted recipient after BodyEnd")
        self._pending = None
        for answer in answers:
            self._out.append(refusal(answer) if isinstance(answer, Failure) else reply(250, "2.0.0", answer))
        self._transaction_done()

    def fail_body(self, failure: Failure) -> None:
        """The body can't be kept: what follows of it is dropped, and its end is answered with `failure`."""
        if self.state in (State.DATA, State.CHUNK, State.BETWEEN) and self._check.failure is None:
            self._check.failure = failure

    # ---- steps

    def _step(self) -> bool:
        return _STEPS[self.state](self)

    def _step_ready(self) -> bool:
        if self._input.empty:
            return False
        return (self._groups and self._input.begins(b"MAIL ") and self._step_group()) or self._step_command()

    def _step_group(self) -> bool:
        if self._came_apart:
            self._came_apart = False
            return False
        buffer, start = self._input.ahead()
        found = read_group(buffer, start, recipients=self.offer.limits.recipients)
        if found is None or found[0].mail.size > self.offer.policy.max_size:
            return False
        self._group_at = start
        self._events.append(found[0])
        self._input.skip(found[1])
        return True

    def _step_command(self) -> bool:
        if self._input.empty:
            return False
        limit = self.offer.limits.line
        line = self._input.line(limit)
        if line is None:
            return False
        if isinstance(line, BadLine):
            line = self._mended(line, limit)
            if line is None:
                return True
        word, _, rest = line.partition(b" ")
        verb = VERBS.get(word.upper())
        if verb is None:
            self._unknown(word.upper(), line)
        elif _CONTROL.search(line):
            self._refuse_line(refuse(500, "5.5.2", "control character in command"), line)
        elif verb not in TABLE[self.state] and verb is not Verb.BDAT:
            self._refuse_line(refuse(503, "5.5.1", self._out_of_sequence(verb)), line)
        else:
            try:
                _COMMANDS[verb](self, line, rest.strip())
            except Failed as failed:
                self._refuse_line(failed.failure, line)
        return True

    def _out_of_sequence(self, verb: Verb) -> str:
        if self.state is State.NEW:
            return f"say {'LHLO' if self.offer.lmtp else 'EHLO'} first"
        return OUT_OF_SEQUENCE.get((self.state, verb), "bad sequence of commands")

    def _unknown(self, word: bytes, line: bytes) -> None:
        if word in _STRANGERS or line.startswith(_TLS_RECORD):
            self._refuse_and_end(refuse(500, "5.5.2", "this is SMTP"), line)
        else:
            self._refuse_line(refuse(500, "5.5.2", "command not recognized"), line)

    # ---- commands

    def _mail_from(self, line: bytes, rest: bytes) -> None:
        offer = self.offer
        mail = parse_mail(line, Extensions(offer.smtputf8, offer.dsn, bool(offer.auth)))
        if mail.size > offer.policy.max_size:
            raise Failed(too_big(offer.policy.max_size))
        self._events.append(mail)

    def _rcpt_to(self, line: bytes, rest: bytes) -> None:
        offer = self.offer
        if self._accepted >= offer.limits.recipients:
            # RFC 5321 section 4.5.3.1.10: 452, and the client sends the rest in another transaction
            raise Failed(again(452, "4.5.3", "too many recipients"))
        self._events.append(parse_rcpt(line, Extensions(offer.smtputf8, offer.dsn), smtputf8=self._mail.smtputf8))

    def _data_start(self, line: bytes, rest: bytes) -> None:
        if rest:
            raise Failed(refuse(501, "5.5.4", "DATA takes no argument"))
        self._events.append(BodyStart())

    def _bdat(self, line: bytes, rest: bytes) -> None:
        words = parse_bdat(line) if self.offer.chunking else None
        if words is None:
            # How many octets follow is not known: nothing after this could be believed.
            self._refuse_and_end(refuse(501, "5.5.4", "syntax: BDAT size [LAST]"), line)
            return
        size, last = words
        policy = self.offer.policy
        if size > policy.max_size + policy.overrun:
            self._refuse_and_end(too_big(policy.max_size), line)
            return
        if self.state is State.RCPT:
            self._intake = ChunkIntake(size, last)
            self._events.append(BodyStart(chunked=True))
            return
        # RFC 3030 section 2: the octets of a chunk that is not wanted have to be dropped
        unwanted: Failure | None = None
        if self.state is State.BROKEN:
            unwanted = self._check.failure
            self._after_unwanted = State.READY if last else State.BROKEN
        elif self.state is not State.BETWEEN:
            unwanted = refuse(503, "5.5.1", self._out_of_sequence(Verb.BDAT))
            self._after_unwanted = self.state
        self._intake = ChunkIntake(size, last, unwanted)
        self.state = State.CHUNK
        if not size:
            self._count_idle()

    def _rset(self, line: bytes, rest: bytes) -> None:
        if rest:
            raise Failed(refuse(501, "5.5.4", "RSET takes no argument"))
        if self.state not in (State.NEW, State.READY):
            self._events.append(Reset())
        self._go(Verb.RSET)
        self._idly(reply(250, "2.0.0", "ok"))

    def _noop(self, line: bytes, rest: bytes) -> None:
        self._idly(reply(250, "2.0.0", "ok"))

    def _vrfy(self, line: bytes, rest: bytes) -> None:
        # RFC 5321 section 7.3: says nothing about who exists
        self._idly(reply(252, "2.1.5", "send some mail and see"))

    def _expn(self, line: bytes, rest: bytes) -> None:
        raise Failed(refuse(502, "5.5.1", "EXPN is not offered"))

    def _help(self, line: bytes, rest: bytes) -> None:
        self._idly(reply(214, "2.0.0", "see RFC 5321"))

    def _quit(self, line: bytes, rest: bytes) -> None:
        self._out.append(reply(221, "2.0.0", "bye"))
        self._finish(None)

    # ---- bodies

    @property
    def _answers_due(self) -> int:
        """RFC 2033 section 4.2: at the end of a body as many answers as recipients, whatever they say."""
        return self._accepted if self.offer.lmtp else 1

    def _step_body(self) -> bool:
        intake = self._intake
        data = intake.read(self._input)
        if data is None:
            return False
        if intake.unwanted is not None:
            if intake.ended:
                self._unwanted_end(intake.unwanted)
            return True
        kept = self._check.feed(data)
        if kept:
            self._events.append(BodyChunk(kept))
        if self._check.overrun:
            failure = self._check.failure or too_big(self.offer.policy.max_size)
            self._out.append(refusal(failure))
            self._events.append(BodyEnd(self._check.size, failure))
            self._finish(failure)
        elif intake.ended and intake.last:
            self._body_end()
        elif intake.ended:
            self._chunk_end()
        return True

    def _body_end(self) -> None:
        rest = self._check.end()
        if rest:
            self._events.append(BodyChunk(rest))
        failure = self._check.failure
        self._events.append(BodyEnd(self._check.size, failure))
        if failure is not None:
            self._out.append(refusal(failure) * self._answers_due)
            self.state = State.READY
            self._count_error(failure)

    def _chunk_end(self) -> None:
        failure = self._check.failure
        if failure is None:
            self._out.append(reply(250, "2.0.0", "chunk received"))
            self.state = State.BETWEEN
        else:
            self._out.append(refusal(failure))
            self._events.append(BodyEnd(self._check.size, failure))
            self.state = State.BROKEN
            self._count_error(failure)

    def _unwanted_end(self, failure: Failure) -> None:
        of_a_message = self._after_unwanted is State.READY and self._intake.last and self._check.failure is failure
        self._out.append(refusal(failure) * (self._answers_due if of_a_message else 1))
        self._events.append(Malformed(failure, b"BDAT"))
        self.state = self._after_unwanted
        self._count_error(failure)

    def _transaction_done(self) -> None:
        self.state = State.READY
        self._errors = 0
        self._idle = 0

    def _step_nothing(self) -> bool:
        return False


_STEPS: dict[State, Callable[[SmtpServer], bool]] = {
    **dict.fromkeys(State, SmtpServer._step_command),
    State.READY: SmtpServer._step_ready,
    State.DATA: SmtpServer._step_body,
    State.CHUNK: SmtpServer._step_body,
    State.AUTH: SmtpServer._step_auth,
    State.TLS: SmtpServer._step_nothing,
    State.ENDED: SmtpServer._step_nothing,
}

_COMMANDS: dict[Verb, Callable[[SmtpServer, bytes, bytes], None]] = {
    Verb.EHLO: SmtpServer._hello,
    Verb.HELO: SmtpServer._hello,
    Verb.LHLO: SmtpServer._hello,
    Verb.STARTTLS: SmtpServer._starttls,
    Verb.AUTH: SmtpServer._auth,
    Verb.XCLIENT: SmtpServer._xclient,
    Verb.MAIL: SmtpServer._mail_from,
    Verb.RCPT: SmtpServer._rcpt_to,
    Verb.DATA: SmtpServer._data_start,
    Verb.BDAT: SmtpServer._bdat,
    Verb.RSET: SmtpServer._rset,
    Verb.NOOP: SmtpServer._noop,
    Verb.VRFY: SmtpServer._vrfy,
    Verb.EXPN: SmtpServer._expn,
    Verb.HELP: SmtpServer._help,
    Verb.QUIT: SmtpServer._quit,
}
