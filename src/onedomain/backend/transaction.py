"""One message in one SMTP or LMTP transaction: who got it, who did not, and whose answer never came.

Knows RFC 5321 section 3.3, LMTP's answer per recipient (RFC 2033), pipelining (RFC 2920), and where the point of no
return is: the final dot. Does not know pools, nor what becomes of an outcome.

Up to the dot trouble is raised, and nothing was delivered. From the dot on it is part of the outcomes: IN_DOUBT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from onedomain.backend.base import Attempt
from onedomain.backend.smtp_session import SmtpSession
from onedomain.backend.trouble import Trouble
from onedomain.model.failure import Failed, Failure, Kind, again, give_up
from onedomain.model.health import Seen
from onedomain.model.message import Delivery, Outcome, State
from onedomain.protocol.smtp.client import Answer, Step
from onedomain.protocol.smtp.reply import Reply
from onedomain.protocol.smtp.xtext import encode_xtext

CHUNK = 65536
HEADER_SCAN = 262_144
"""Octets of a message's head that are looked through for 8-bit headers."""

Recipient = tuple[int, str]


@dataclass(slots=True)
class Result:
    """`outcomes` by index of the target. `later`: recipients the server wants in a transaction of their own.
    `seconds`: how long it took from the dot to the last answer; None where there was none.
    """

    outcomes: dict[int, Outcome] = field(default_factory=dict)
    later: list[Recipient] = field(default_factory=list)
    seconds: float | None = None
    trouble: Trouble | None = None


class Transaction:
    def __init__(self, server: str, session: SmtpSession, delivery: Delivery, recipients: Sequence[Recipient]) -> None:
        self._server = server
        self._session = session
        self._client = session.client
        self._times = session.door.times
        self._delivery = delivery
        self._recipients = list(recipients)
        self._size = len(delivery.headers) + delivery.body.size
        self._utf8 = False
        self._indexes = [index for index, _ in self._recipients]
        self._accepted: list[int] = []
        self._result = Result()

    async def run(self, attempt: Attempt) -> Result:
        """Raises Trouble for the server's failures and Failed for our own, both before the dot only."""
        if failure := await self._objection():
            self._settle(self._indexes, undelivered(self._server, failure))
            return self._result
        if await self._introduce() is None:
            return self._result
        last = await self._send_body()
        await attempt()
        if not self._session.quiet():
            # What is said between 354 and the dot would be taken for the answer to the message.
            reason = f"{self._session.doing}: the server spoke or left before the end of the message"
            raise Trouble(again(451, "4.4.2", "the mail server broke the delivery off", reason), Seen.BROKEN)
        await self._finish(last)
        return self._result

    # ---- may it be sent to this server at all

    async def _objection(self) -> Failure | None:
        capabilities, envelope = self._session.capabilities, self._delivery.envelope
        if 0 < capabilities.size < self._size:
            reason = f"{self._size} octets, the server takes {capabilities.size}"
            return give_up(552, "5.3.4", "message too large for the recipient's server", reason)
        if envelope.eight_bit and "8BITMIME" not in capabilities:
            # Bodies are never altered, so there is no downgrade (RFC 6152 section 3).
            return give_up(554, "5.6.3", "the recipient's server takes no 8-bit messages", "8BITMIME not offered")
        self._utf8 = "SMTPUTF8" in capabilities and (envelope.smtputf8 or not self._ascii_envelope())
        if not envelope.smtputf8 or "SMTPUTF8" in capabilities:
            return None
        # RFC 6531 section 3.4: needed for an address or header outside ASCII; a client may have asked without need.
        if not envelope.sender.isascii() or await self._has_utf8_headers():
            return give_up(554, "5.6.7", "the recipient's server takes no UTF-8 addresses", "SMTPUTF8 not offered")
        return None

    def _ascii_envelope(self) -> bool:
        return self._delivery.envelope.sender.isascii() and all(name.isascii() for _, name in self._recipients)

    async def _has_utf8_headers(self) -> bool:
        head = self._delivery.headers
        while b"\r\n\r\n" not in head and len(head) < HEADER_SCAN:
            more = await self._read(len(head) - len(self._delivery.headers), CHUNK)
            if not more:
                break
            head += more
        return not head.partition(b"\r\n\r\n")[0].isascii()

    # ---- sender and recipients

    def _mail(self) -> bytes:
        capabilities, envelope = self._session.capabilities, self._delivery.envelope
        dsn = "DSN" in capabilities
        return self._client.mail(
            envelope.sender,
            size=self._size if "SIZE" in capabilities else 0,
            body="8BITMIME" if envelope.eight_bit else "",
            smtputf8=self._utf8,
            ret=envelope.ret if dsn else "",
            envid=envelope.envid if dsn else "",
        )

    def _rcpt(self, recipient: Recipient) -> bytes:
        index, name = recipient
        if "DSN" not in self._session.capabilities:
            return self._client.rcpt(name, smtputf8=self._utf8)
        target = self._delivery.envelope.targets[index]
        original = target.original if target.original.isascii() else ""
        orcpt = f"rfc822;{encode_xtext(original)}" if original else ""
        return self._client.rcpt(name, notify=target.notify, orcpt=orcpt, smtputf8=self._utf8)

    def _speak(self, recipient: Recipient) -> bytes:
        """RCPT; b"" where this server can't be told of the recipient, who then fails alone."""
        try:
            return self._rcpt(recipient)
        except ValueError as error:
            enhanced = "5.1.3" if recipient[1].isascii() else "5.6.7"  # RFC 6531 section 3.5
            failure = give_up(553, enhanced, "the recipient's server cannot take this address", str(error))
            self._settle([recipient[0]], undelivered(self._server, failure))
            return b""

    async def _introduce(self) -> Reply | None:
        """MAIL, RCPT and DATA, in one write where that is offered. 354, or None: nobody is to get the message."""
        try:
            mail = self._mail()
        except ValueError as error:
            failure = give_up(553, "5.1.7", "the sender's address cannot be passed on", str(error))
            self._settle(self._indexes, undelivered(self._server, failure))
            return None
        pipelining = "PIPELINING" in self._session.capabilities
        data = await (self._at_once(mail) if pipelining else self._by_steps(mail))
        if data is None or not data.is_go_on:
            if data is not None:
                # Also where it is a 2xx: then answers and commands have got out of step, and nothing was delivered.
                self._settle(self._accepted, undelivered(self._server, data.failure("DATA"), str(data)))
            await self._reset()
            if data is not None and data.is_done:
                self._session.good = False
            return None
        if self._accepted:
            return data
        # RFC 2920 section 3.1 has an empty message sent; a server that would take one is not to be trusted with it.
        self._session.good = False
        return None

    async def _at_once(self, mail: bytes) -> Reply | None:
        said = [(recipient, command) for recipient in self._recipients if (command := self._speak(recipient))]
        data = self._client.data()
        await self._session.send(b"".join((mail, *(command for _, command in said), data)), self._times.command)
        answers = await self._session.answers(1 + len(said), self._times.command)
        sender = self._checked(answers[0], Step.MAIL)
        for (recipient, _), answer in zip(said, answers[1:], strict=False):
            self._note(recipient, sender, self._checked(answer, Step.RCPT))
        return await self._answer(Step.DATA, self._times.data)

    async def _by_steps(self, mail: bytes) -> Reply | None:
        await self._session.send(mail, self._times.command)
        sender = await self._answer(Step.MAIL)
        for recipient in self._recipients:
            if not sender.is_done:
                self._note(recipient, sender, sender)
            elif command := self._speak(recipient):
                await self._session.send(command, self._times.command)
                self._note(recipient, sender, await self._answer(Step.RCPT))
        if not self._accepted:
            return None
        await self._session.send(self._client.data(), self._times.command)
        return await self._answer(Step.DATA, self._times.data)

    async def _answer(self, step: Step, seconds: float | None = None) -> Reply:
        return self._checked(await self._session.answer(seconds or self._times.command), step)

    def _checked(self, answer: Answer, step: Step) -> Reply:
        if answer.reply.code == 421:  # answers no command in particular: the connection is over (RFC 5321 section 3.8)
            raise Trouble(answer.reply.failure(self._session.doing), Seen.REFUSED)
        assert answer.step is step, (answer.step, step)
        return answer.reply

    def _note(self, recipient: Recipient, sender: Reply, reply: Reply) -> None:
        index, name = recipient
        if not sender.is_done:
            self._settle([index], self._outcome(sender, "MAIL FROM"))
        elif reply.is_done:
            self._accepted.append(index)
        elif self._accepted and _too_many(reply):
            self._result.later.append(recipient)
        else:
            self._settle([index], self._outcome(reply, f"RCPT TO {name}"))

    async def _reset(self) -> None:
        """Leave the connection clean for the next message; if that fails, nothing is lost but the connection."""
        try:
            reply = await self._session.ask(self._client.rset())
            self._session.good = self._session.good and reply.is_done
        except Trouble:
            self._session.good = False

    # ---- the message

    async def _send_body(self) -> bytes:
        """All but the last piece, which is returned; a small message is in it whole and goes out in one write."""
        piece, offset = self._client.body(self._delivery.headers), 0
        while chunk := await self._read(offset, CHUNK):
            offset += len(chunk)
            if len(piece) >= CHUNK:
                await self._session.send(piece, self._times.block)
                piece = b""
            piece += self._client.body(chunk)
        if offset != self._delivery.body.size:
            raise Failed(again(451, "4.3.0", "the message cannot be read", f"{offset} of {self._delivery.body.size}"))
        return piece

    async def _read(self, offset: int, length: int) -> bytes:
        try:
            return await self._delivery.body.read(offset, length)
        except OSError as error:
            raise Failed(again(451, "4.3.0", "the message cannot be read", str(error))) from error

    async def _finish(self, last: bytes) -> None:
        """The last piece and the dot, then the answers. From here on nobody may be told that nothing happened."""
        clock = self._session.clock
        began = clock()
        waiting = list(self._accepted)
        try:
            await self._session.send(last + self._client.end(), self._times.end)
            if self._client.lmtp:
                while waiting:
                    reply = (await self._session.answer(self._times.end)).reply
                    self._settle([waiting.pop(0)], self._outcome(reply, "end of data"))
            else:
                reply = (await self._session.answer(self._times.end)).reply
                self._settle(waiting, self._outcome(reply, "end of data"))
        except Trouble as trouble:
            self._session.good = False
            self._result.trouble = trouble
            reason = f"no answer after the final dot: {trouble.failure.reason or trouble}"
            failure = again(451, "4.4.2", "it is not known whether the message arrived", reason)
            self._settle(waiting, Outcome(State.IN_DOUBT, self._server, "", failure))
            return
        self._result.seconds = clock() - began

    # ---- outcomes

    def _settle(self, indexes: Sequence[int], outcome: Outcome) -> None:
        self._result.outcomes.update(dict.fromkeys(indexes, outcome))

    def _outcome(self, reply: Reply, doing: str) -> Outcome:
        if reply.is_done:
            return Outcome(State.DONE, self._server, str(reply))
        failure = reply.failure(doing)
        return undelivered(self._server, failure, str(reply))


def undelivered(server: str, failure: Failure, reply: str = "") -> Outcome:
    state = State.AGAIN if failure.kind is Kind.AGAIN else State.FAILED
    return Outcome(state, server, reply, failure)


def _too_many(reply: Reply) -> bool:
    """RFC 5321 section 4.5.3.1.10: 452, and from old servers 552; 4.2.2 would be a full mailbox."""
    return (reply.code == 452 and reply.enhanced in ("", "4.5.3")) or (
        reply.code == 552 and reply.enhanced in ("", "5.5.3")
    )
