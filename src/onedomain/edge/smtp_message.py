"""One message from MAIL to its 250: sender, recipients, and the body on its way into the spool.

Knows what is put in front of a message and what is taken out, and cuts loops. Does not know the protocol it comes by:
edge/smtp.py tells it, and answers the client.
"""

from __future__ import annotations

from collections.abc import Callable

from onedomain.decision.loop import find_loop
from onedomain.decision.recipient import Refuse, resolve
from onedomain.decision.recipient_list import RecipientList
from onedomain.edge.smtp_ports import DraftPort, SmtpParts, SmtpRules
from onedomain.model.account import Level
from onedomain.model.address import Address
from onedomain.model.failure import Failed, Failure, again
from onedomain.model.message import Envelope
from onedomain.protocol.message.header import HeaderFilter
from onedomain.protocol.message.stamp import (
    Hop,
    build_date,
    build_delivery_id,
    build_message_id,
    build_received,
    build_trace,
)
from onedomain.protocol.smtp.event import Mail, Rcpt

SHOWN = 50
"""Most recipients named in one line of the trace."""

REACHED = {Level.SPOOL: "", Level.PRIMARY: " and delivered", Level.REPLICA: ", delivered and copied"}
"""What its 250 says of how far it has got."""


class Message:
    """`hop` is how it comes to us, `login` the account that submits it, or ""."""

    def __init__(self, parts: SmtpParts, rules: SmtpRules, mail: Mail, *, client: str, login: str = "") -> None:
        self._parts = parts
        self._rules = rules
        self.mail = mail
        self.sender = str(mail.sender) if mail.sender is not None else ""
        self.client = client
        self.login = login
        self.recipients = RecipientList(rules.targets)
        self.message_id = ""
        self._draft: DraftPort | None = None
        self._header = HeaderFilter()
        self._hop: Hop | None = None
        self._eight_bit = mail.eight_bit
        self._held = 0  # of what others may not have

    @property
    def id(self) -> str:
        """The queue id, or "" before the body."""
        return self._draft.id if self._draft is not None else ""

    @property
    def shown(self) -> dict[str, list[str]]:
        """What the client named -> the accounts and addresses that it means."""
        said = self.recipients.said
        return said if len(said) <= SHOWN else dict(list(said.items())[:SHOWN])

    def add(self, rcpt: Rcpt) -> Failure | None:
        """One recipient more, with all that it stands for, or none of it."""
        parts, address = self._parts, self.whole(rcpt.address)
        found = resolve(
            parts.directory, address, original=rcpt.orcpt, allow_outside=bool(self.login), limit=self._rules.expansion)
        if isinstance(found, Refuse):
            return found.failure
        return self.recipients.add(
            parts.directory, parts.board, found, str(address), self._notify(rcpt), parts.links)

    def whole(self, address: Address) -> Address:
        return address if address.domain else Address(address.local, self._rules.domain)

    def _notify(self, rcpt: Rcpt) -> str:
        """What is to be reported. To strangers no success is: whoever they say they are would get what they did not
        send (backscatter), with the names behind our aliases (Postfix, DSN_README, "Restricting the scope").
        """
        if "SUCCESS" not in rcpt.notify or self.login or self._rules.trusts(self.client):
            return rcpt.notify
        return ",".join(word for word in rcpt.notify.split(",") if word != "SUCCESS") or "NEVER"

    def begin(self, hop: Hop) -> None:
        """The body begins. Raises Failed when the spool takes nothing."""
        self._draft = self._parts.spool.draft()
        self._hop = hop

    def put(self, chunk: bytes) -> bool:
        """Some of the body; True where `spill` has to be awaited before any more. Raises Failed (a loop, an endless
        header section, too much at once); then only abort is left.
        """
        assert self._draft is not None
        if not self._eight_bit and not chunk.isascii():
            self._eight_bit = True
        if self._header.facts is not None:
            return self._draft.put(chunk)
        data = self._header.feed(chunk)
        if self._header.facts is not None:
            self._hold(0)
            return self._draft.put(self._stamp() + data)
        self._hold(self._held + len(chunk))
        return False

    async def spill(self) -> None:
        """Raises Failed (a full disk)."""
        assert self._draft is not None
        await self._draft.spill()

    async def commit(self) -> None:
        """The body is complete: returns once it is durable. Raises Failed."""
        assert self._draft is not None
        if self._header.facts is None:
            self._hold(0)
            rest = self._header.end()
            if self._draft.put(self._stamp() + rest):
                await self._draft.spill()
        await self._draft.commit(self._envelope(), message_id=self.message_id)

    def commit_then(self, told: Callable[[Failure | None], None]) -> bool:
        """`commit` for those who have no task: `told` is called, or Failed is raised. False, and nothing was done:
        `commit` has to be awaited, as there is more to wait for than one sync.
        """
        assert self._draft is not None
        recipients = self.recipients
        if self._header.facts is None or recipients.waits or recipients.missed:
            return False
        return self._draft.commit_then(self._envelope(), told, message_id=self.message_id)

    def _envelope(self) -> Envelope:
        return Envelope(
            sender=self.sender, targets=self.recipients.targets, smtputf8=self.mail.smtputf8, eight_bit=self._eight_bit,
            ret=self.mail.ret, envid=self.mail.envid, client=self.client, login=self.login)

    def abort(self) -> None:
        """Forgets what was not committed."""
        self._hold(0)
        if self._draft is not None:
            self._draft.abort()

    def _hold(self, octets: int) -> None:
        if octets == self._held:
            return
        heads = self._parts.heads
        heads.held += octets - self._held
        self._held = octets
        if octets and heads.held > heads.limit:
            raise Failed(again(452, "4.3.1", "too much mail at once, try again later", "header sections in memory"))

    def _stamp(self) -> bytes:
        """What goes in front, once the header section is known. Raises Failed for a loop."""
        facts, hop, rules = self._header.facts, self._hop, self._rules
        assert facts is not None and hop is not None
        self.message_id = facts.message_id
        failure = find_loop(
            facts.received, facts.hops, rules.cluster, max_received=rules.max_received, max_own=rules.max_own)
        if failure is not None:
            raise Failed(failure)
        now, id = self._parts.clock.time(), self.id
        names = list(self.recipients.said)
        stamps = [
            build_received(hop, id, now, recipient=names[0] if len(names) == 1 else ""),
            build_trace(rules.cluster, hop.edge, id),
            build_delivery_id(id)]
        if rules.submission:
            # RFC 6409 sections 8.2 and 8.3: what a mail program forgot
            if not facts.has_date:
                stamps.append(build_date(now))
            if not facts.message_id:
                self.message_id = f"<{id}@{hop.edge}>"
                stamps.append(build_message_id(id, hop.edge))
        return b"".join(stamps)
