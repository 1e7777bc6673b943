"""A conversation with an SMTP client: mail from outside, and mail that people submit (RFC 5321, RFC 6409).

Knows what follows from each thing that a client says, and who decides it. Does not know syntax (protocol/smtp), who
exists (decision/recipient), how a message is kept (smtp_message.py and the spool), how passwords are checked, or when
to read and write: whoever drives the session does, a visit (smtp_visit.py) or a task (smtp.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

from onedomain.decision.sender import check_sender
from onedomain.edge.smtp_message import REACHED, Message
from onedomain.edge.smtp_ports import Authenticator, SmtpParts, SmtpRules
from onedomain.model.account import Account, Level
from onedomain.model.failure import Failed, Failure, again, refuse
from onedomain.net.stream import Stream
from onedomain.protocol.message.stamp import Hop
from onedomain.protocol.smtp.event import (
    Auth,
    BodyChunk,
    BodyEnd,
    BodyStart,
    End,
    Event,
    Group,
    Hello,
    Mail,
    Malformed,
    Rcpt,
    Reset,
    StartTls,
    Verb,
    Xclient,
)
from onedomain.protocol.smtp.server import SmtpServer
from onedomain.queue.crash import AFTER_250

LOOP = "5.4.6"
TOLD = 200
"""Most refusals of one session that the trace tells: a client must not be able to fill the log's disk."""


class SmtpTalk:
    """One connection. `over`: nothing is to be done any more but to send what is left; because of a `failure`, or QUIT.

    `resume`: whoever drives the session without a task is called there when a message that was being committed has its
    answer; until then `server.waits`. Without one there is something to await instead.
    """

    def __init__(self, stream: Stream, parts: SmtpParts, rules: SmtpRules) -> None:
        self._stream = stream
        self._parts = parts
        self._rules = rules
        self._client, self._port = stream.peer
        offer = rules.offer
        starttls, xclient = offer.starttls and parts.tls is not None, rules.trusts(self._client)
        if (starttls, xclient) != (offer.starttls, offer.xclient):
            offer = replace(offer, starttls=starttls, xclient=xclient)
        self.server = SmtpServer(offer, secure=stream.tls is not None, groups=True)
        self._account: Account | None = None
        self._known_hop: Hop | None = None   # until any of it changes
        self._hello = ""        # as a trusted hop passes it on
        self.message: Message | None = None  # on its way in
        self._failed: Failure | None = None  # of the body that is coming in
        self._body_began = self._body_heard = 0.0
        self._body_size = 0
        self.answered = 0.0                  # when the client last had an answer
        self._told = 0
        self.acknowledged = False            # a 250 for a message is in the output
        self.over = False
        self.failure: Failure | None = None
        self.resume: Callable[[BaseException | None], None] | None = None
        self._loop = asyncio.get_running_loop()

    def greet(self) -> None:
        self._parts.count.add("smtp_sessions_total", listener=self._rules.name)
        self.server.greet()

    def take_output(self) -> bytes:
        """What is to be sent now."""
        if output := self.server.take_output():
            self.answered = self._stream.poller.now
        return output

    def told(self) -> None:
        """The output has been sent."""
        if self.acknowledged:
            self.acknowledged = False
            self._parts.crash.reach(AFTER_250)

    def take(self, event: Event) -> Coroutine[Any, Any, None] | None:
        """What follows from an event, the most frequent first; what has to be waited for is returned. `over` says
        whether it was the last.
        """
        match event:
            case BodyChunk():
                return self._body_chunk(event)
            case BodyEnd():
                return self._body_end(event)
            case Group():
                self._group(event)
            case Rcpt():
                self._recipient(event)
            case Mail():
                self._sender(event)
            case BodyStart():
                self._body_start()
            case Hello() | Reset():
                self._known_hop = None
                self.forget_message()
            case StartTls():
                return self._start_tls(event)
            case Auth():
                return self._auth(event)
            case Xclient():
                self._xclient(event)
            case Malformed():
                self._note("refused", event.failure, line=event.line.decode("ascii", "backslashreplace"))
            case End():
                if event.failure is not None:
                    self._note("session ended", event.failure)
                self.over, self.failure = True, event.failure
        return None

    def end(self, failure: Failure) -> None:
        """Last words."""
        self.server.end(failure)
        self._note("session ended", failure)

    def deadline(self) -> float:
        """Until when the client may be silent."""
        # A client that sends an octet now and then would else hold its session for ever.
        if not self._body_began:
            return self.answered + self._rules.idle
        due = self._body_began + self._rules.idle + self._body_size / self._rules.least_rate
        return min(self._body_heard + self._rules.idle, due)

    # ---- who is there

    async def _start_tls(self, event: StartTls) -> None:
        assert self._parts.tls is not None
        if event.discarded:
            self._trace("injection before TLS", discarded=event.discarded)
        self.server.accept()
        await self._stream.write(self.server.take_output())
        try:
            await self._stream.start_tls(self._parts.tls, server_side=True)
        except TimeoutError:
            raise ConnectionError("no TLS handshake in time") from None  # a 421 now would be no TLS
        self.answered = self._loop.time()
        self.server.tls_started()
        self._account = self._known_hop = None

    def _auth(self, event: Auth) -> Coroutine[Any, Any, None] | None:
        authenticator = self._parts.authenticator
        if authenticator is None:
            self.server.refuse(again(454, "4.7.0", "authentication is not available"))
        elif (account := authenticator.at_once(event.credentials, self._client)) is not None:
            self._let_in(account)
        else:
            return self._check(authenticator, event)
        return None

    async def _check(self, authenticator: Authenticator, event: Auth) -> None:
        self._stream.deadline = None
        try:
            account = await authenticator.check(event.credentials, (self._client, self._port), self._stream.local)
        except Failed as failed:
            self.server.refuse(failed.failure)
        else:
            self._let_in(account)

    def _let_in(self, account: Account) -> None:
        self._account = account
        self._known_hop = None
        self.server.accept()

    def _xclient(self, event: Xclient) -> None:
        self._known_hop = None
        attributes = event.attributes
        self._client = attributes.get("ADDR", "") or self._client
        self._port = int(attributes.get("PORT", "") or self._port)
        self._hello = attributes.get("HELO", "")
        self.server.accept()

    # ---- envelope

    def _sender(self, event: Mail) -> None:
        failure = self._check_sender(event)
        if failure is not None:
            self._note("refused", failure, sender=str(event.sender or ""))
            self.server.refuse(failure)
            return
        self._begin_message(event)
        self.server.accept()

    def _begin_message(self, event: Mail) -> Message:
        self.forget_message()
        login = self._account.address if self._account is not None else ""
        self.message = Message(self._parts, self._rules, event, client=self._client, login=login)
        return self.message

    def _group(self, event: Group) -> None:
        """All of it, or nothing yet: where anything is refused it comes again one by one, and is told and counted
        then.
        """
        if self._check_sender(event.mail) is None:
            message = self._begin_message(event.mail)
            if all(message.add(rcpt) is None for rcpt in event.rcpts):
                try:
                    self._begin_body(message)
                except Failed:
                    pass  # said to DATA
                else:
                    self.server.accept()
                    return
            self.forget_message()
        self.server.apart()

    def _check_sender(self, event: Mail) -> Failure | None:
        if not self._rules.submission:
            return None
        if self._account is None:
            return refuse(530, "5.7.0", "authentication required")
        if event.sender is None or self._rules.any_sender:
            return None
        return check_sender(self._parts.directory, self._account.address, event.sender)

    def _recipient(self, event: Rcpt) -> None:
        message = self.message
        assert message is not None
        failure = message.add(event)
        if failure is None:
            self.server.accept()
            return
        self._parts.count.add("smtp_recipients_refused_total", listener=self._rules.name, code=str(failure.code))
        self._note("refused", failure, sender=message.sender, recipient=str(message.whole(event.address)))
        self.server.refuse(failure)

    # ---- body

    def _body_start(self) -> None:
        message = self.message
        assert message is not None
        try:
            self._begin_body(message)
        except Failed as failed:
            self._note("refused", failed.failure, sender=message.sender)
            self.server.refuse(failed.failure)
            return
        self.server.accept()

    def _begin_body(self, message: Message) -> None:
        self._failed = None
        message.begin(self._hop(message))
        self._body_began = self._body_heard = self._loop.time()
        self._body_size = 0

    def _hop(self, message: Message) -> Hop:
        if self._known_hop is not None and self._known_hop.smtputf8 == message.mail.smtputf8:
            return self._known_hop
        tls = self._stream.tls
        self._known_hop = Hop(
            hello=self._hello or self.server.hello.name,
            client=self._client,
            edge=self._rules.offer.name,
            extended=self.server.hello.verb is not Verb.HELO,
            tls=f"{tls.version} with cipher {tls.cipher}" if tls is not None else "",
            login=self._account is not None,
            smtputf8=message.mail.smtputf8)
        return self._known_hop

    def _body_chunk(self, event: BodyChunk) -> Coroutine[Any, Any, None] | None:
        self._body_size += len(event.data)
        self._body_heard = self._loop.time()
        message = self.message
        if self._failed is not None or message is None:
            return None
        try:
            return self._spill(message) if message.put(event.data) else None
        except Failed as failed:
            self._fail_body(message, failed.failure)
            return None

    async def _spill(self, message: Message) -> None:
        try:
            await message.spill()
        except Failed as failed:
            self._fail_body(message, failed.failure)

    def _fail_body(self, message: Message, failure: Failure) -> None:
        self._failed = failure
        message.abort()
        self.server.fail_body(failure)

    def _body_end(self, event: BodyEnd) -> Coroutine[Any, Any, None] | None:
        message = self.message
        assert message is not None
        self._body_began = 0.0
        if (failure := event.failure or self._failed) is not None:
            self._refused(message, failure, answered=event.failure is not None)
            return None
        began = self._parts.clock.monotonic()
        if self.resume is not None:
            try:
                if message.commit_then(partial(self._committed, message, event.size, began)):
                    return None
            except Failed as failed:
                self._refused(message, failed.failure)
                return None
        return self._commit(message, event.size, began)

    async def _commit(self, message: Message, size: int, began: float) -> None:
        try:
            await message.commit()
        except Failed as failed:
            self._refused(message, failed.failure)
            return
        self._received(message, size, began)
        self._answer(message, await self._reach_level(message))

    def _committed(self, message: Message, size: int, began: float, failure: Failure | None) -> None:
        defect: Exception | None = None
        try:
            if failure is None:
                self._received(message, size, began)
            if self.message is not message:
                return  # the client has gone meanwhile
            if failure is None:
                self._answer(message)
            else:
                self._refused(message, failure)
        except Exception as error:  # noqa: BLE001  it is the session's, as anywhere else, and not that of the sync
            defect = error
        if self.resume is not None:
            self.resume(defect)
        elif defect is not None:
            raise defect

    def _received(self, message: Message, size: int, began: float) -> None:
        """From here on the message is ours, whatever happens to this session (promise 1)."""
        self._parts.count.add("smtp_messages_total", listener=self._rules.name)
        self._trace(
            "received", queue_id=message.id, message_id=message.message_id, sender=message.sender,
            recipients=message.shown, login=message.login, size=size,
            seconds=round(self._parts.clock.monotonic() - began, 3))

    def _answer(self, message: Message, level: str = "") -> None:
        self.server.accept(f"queued as {message.id}{level}")
        self.acknowledged = True
        self.message = None

    def _refused(self, message: Message, failure: Failure, *, answered: bool = False) -> None:
        message.abort()
        self._parts.count.add("smtp_messages_refused_total", listener=self._rules.name, code=str(failure.code))
        if failure.enhanced == LOOP:
            self._parts.count.add("smtp_loops_total", listener=self._rules.name)
        self._note("refused", failure, queue_id=message.id, sender=message.sender, message_id=message.message_id,
                   recipients=message.shown)
        if not answered:
            self.server.refuse(failure)
        self.message = None

    async def _reach_level(self, message: Message) -> str:
        """What the 250 says of it. After the body there is no way back: a level out of reach is told and counted."""
        recipients = message.recipients
        if not recipients.waits and not recipients.missed:
            return ""
        reached = Level.SPOOL
        if recipients.waits:
            reached = await self._parts.levels.wait_level(message.id, self._rules.level, recipients.copied)
        short = reached is Level.SPOOL if not recipients.copied else reached is not Level.REPLICA
        if recipients.missed or (recipients.waits and short):
            self._parts.count.add("smtp_level_missed_total", listener=self._rules.name)
            self._trace("level missed", queue_id=message.id, reached=reached.value, reason=recipients.missed)
        return REACHED[reached]

    def forget_message(self) -> None:
        if self.message is not None:
            self.message.abort()
            self.message = None
        self._body_began = 0.0

    # ---- telling

    def _note(self, event: str, failure: Failure, **fields: object) -> None:
        self._told += 1
        if self._told > TOLD:
            return
        if self._told == TOLD:
            fields["more"] = "is not told"
        self._trace(event, reply=str(failure), reason=failure.reason, **fields)

    def _trace(self, event: str, **fields: object) -> None:
        self._parts.trace.note(event, listener=self._rules.name, client=self._client, **fields)
