"""Delivery status notifications (RFC 3461, 3462, 3464; for addresses outside ASCII RFC 6533).

Knows how a report is written. Does not know when one is due, nor how it gets to anybody. What is returned of the
message (all of it, or its header section) is put between `head` and `tail` by the caller: it need not be in memory.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from onedomain.model.failure import Failure
from onedomain.protocol.message.date import format_date
from onedomain.protocol.message.report_text import Wording, report_text
from onedomain.protocol.smtp.xtext import encode_utf8_addr_xtext

MAX_DIAGNOSTIC = 800


class Action(Enum):
    """RFC 3464 section 2.3.3."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"


@dataclass(frozen=True, slots=True)
class Reported:
    """One recipient. `server` gave `reply` (its own words) at `at`; "" and 0 where nobody was asked."""

    recipient: str
    action: Action
    failure: Failure | None = None
    original: str = ""
    server: str = ""
    reply: str = ""
    at: float = 0.0
    retry_until: float = 0.0

    @property
    def status(self) -> str:
        if self.failure is not None:
            return self.failure.enhanced
        return "4.0.0" if self.action is Action.DELAYED else "2.0.0"


@dataclass(frozen=True, slots=True)
class Dsn:
    """The report is `head`, then what is returned, then `tail`. `smtputf8`: its envelope needs the extension."""

    head: bytes
    tail: bytes
    smtputf8: bool


def build_dsn(
    recipients: Sequence[Reported], *, to: str, edge: str, id: str, boundary: str, now: float, arrived: float = 0.0,
    queue_id: str = "", envid: str = "", full: bool = False, eight_bit: bool = False,
) -> Dsn:
    """A report to `to` (the sender of the message) about `recipients` of one action.

    `id` makes the Message-ID and `boundary` must not be guessable, or a message could break out of its part; times in
    seconds since 1970; `queue_id` and `arrived` are those of the message; `full`: all of it is returned (RET=FULL),
    else its header section; `eight_bit`: what is returned is not ASCII.
    """
    action = recipients[0].action
    wide = not (to + "".join(r.recipient + r.original for r in recipients)).isascii()
    wording = Wording(action.value, edge, queue_id, [(r.recipient, r.reply or _said(r)) for r in recipients])
    subject, text = report_text(wording)
    fields = [
        f"From: {encoded_word('Mail Delivery System')} <MAILER-DAEMON@{edge}>",
        f"To: <{_one_line(to)}>",
        f"Subject: {encoded_word(subject)}",
        f"Date: {format_date(now)}",
        f"Message-ID: <{id}@{edge}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="{boundary}"',
        "",
        f"--{boundary}",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: base64",
        "Content-Description: Notification",
        "",
        base64.encodebytes(text.replace("\n", "\r\n").encode()).decode("ascii").replace("\n", "\r\n"),
        f"--{boundary}",
        f"Content-Type: message/{'global-' if wide else ''}delivery-status",
        *(["Content-Transfer-Encoding: 8bit"] if wide else []),
        "Content-Description: Delivery report",
        "",
        *_message_fields(edge, envid, arrived, queue_id),
    ]
    for reported in recipients:
        fields += ["", *_recipient_fields(reported)]
    fields += [
        "",
        f"--{boundary}",
        f"Content-Type: {_returned_type(full, wide)}",
        *(["Content-Transfer-Encoding: 8bit"] if eight_bit or wide else []),
        f"Content-Description: {'Message' if full else 'Message headers'}",
        "",
        "",
    ]
    return Dsn("\r\n".join(fields).encode(), f"\r\n--{boundary}--\r\n".encode(), wide)


def _returned_type(full: bool, wide: bool) -> str:
    if wide:
        return "message/global" if full else "message/global-headers"
    return "message/rfc822" if full else "text/rfc822-headers"


def _message_fields(edge: str, envid: str, arrived: float, queue_id: str) -> list[str]:
    fields = [f"Original-Envelope-Id: {_one_line(envid)}"] if envid else []
    fields.append(f"Reporting-MTA: dns; {edge}")
    if queue_id:
        fields.append(f"X-OneDomain-Queue-Id: {queue_id}")
    if arrived:
        fields.append(f"Arrival-Date: {format_date(arrived)}")
    return fields


def _recipient_fields(reported: Reported) -> list[str]:
    fields = [f"Original-Recipient: {_typed(reported.original)}"] if reported.original else []
    fields += [
        f"Final-Recipient: {_typed(reported.recipient)}",
        f"Action: {reported.action.value}",
        f"Status: {reported.status}",
    ]
    if reported.server:
        fields.append(f"Remote-MTA: dns; {_one_line(reported.server)}")
    words = reported.reply or _said(reported)
    if words:
        kind = "smtp" if re.match(r"[2-5][0-9][0-9](?: |$)", words) else "x-onedomain"
        fields.append(f"Diagnostic-Code: {kind}; {_folded(words)}")
    if reported.at:
        fields.append(f"Last-Attempt-Date: {format_date(reported.at)}")
    if reported.retry_until:
        fields.append(f"Will-Retry-Until: {format_date(reported.retry_until)}")
    return fields


def _said(reported: Reported) -> str:
    return str(reported.failure) if reported.failure is not None else ""


def _typed(address: str) -> str:
    """RFC 3464 section 2.3.1, RFC 6533 section 3: `rfc822; a@b`, or `utf-8; …`."""
    if address.isascii():
        return f"rfc822; {_one_line(address)}"
    # utf-8-address may stand as it is in message/global-delivery-status, but what could break the field
    return f"utf-8; {_one_line(address)}" if address.isprintable() else f"utf-8; {encode_utf8_addr_xtext(address)}"


def _one_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]", "?", text)


def _folded(text: str) -> str:
    """Server's words in ASCII on lines of some 70 characters."""
    plain = _one_line(text[:MAX_DIAGNOSTIC]).encode("ascii", "replace").decode("ascii")
    return re.sub(r"(\S.{60,70}?) +(?=\S)", "\\1\r\n\t", plain)


def encoded_word(text: str) -> str:
    """RFC 2047, in words of at most 75 characters that never cut a letter."""
    if text.isascii():
        return text
    words = [text[i:i + 14] for i in range(0, len(text), 14)]
    return "\r\n\t".join(f"=?utf-8?B?{base64.b64encode(word.encode()).decode('ascii')}?=" for word in words)
