"""A mail of our own to the postmaster: what an operator has to know.

Knows how such a mail looks and where it goes. Does not know what it is about.
"""

from __future__ import annotations

from onedomain.decision.recipient import Accept, resolve
from onedomain.model.account import DirectoryView
from onedomain.model.address import parse_address
from onedomain.model.failure import Failed
from onedomain.model.message import Envelope
from onedomain.model.ports import Clock
from onedomain.protocol.message.date import format_date
from onedomain.protocol.message.stamp import build_delivery_id
from onedomain.queue.spool import Spool

MAX_TEXT = 64 << 10


async def tell_postmaster(
    spool: Spool, view: DirectoryView, domain: str, subject: str, text: str, *, edge: str, clock: Clock
) -> str:
    """-> the queue id, when it is durable. Raises Failed: nobody is postmaster, or the spool is full."""
    postmaster = f"postmaster@{domain}"
    answer = resolve(view, parse_address(postmaster), allow_outside=True)
    if not isinstance(answer, Accept):
        raise Failed(answer.failure)
    draft = spool.draft()
    try:
        await draft.write(build_delivery_id(draft.id) + _content(postmaster, subject, text, draft.id, edge, clock))
        await draft.commit(Envelope("", answer.targets, eight_bit=True), message_id=f"<{draft.id}@{edge}>")
    finally:
        draft.abort()
    return draft.id


def _content(to: str, subject: str, text: str, id: str, edge: str, clock: Clock) -> bytes:
    """What comes from servers and clients is in it: one line stays one line, and nothing is longer than it may be."""
    line = " ".join(subject.split()).encode("ascii", "backslashreplace").decode()[:200]
    body = "\r\n".join(row[:900] for row in text[:MAX_TEXT].splitlines()).replace("\0", "?")
    header = (
        f"From: OneDomain <{to}>\r\nTo: <{to}>\r\nSubject: {line}\r\nDate: {format_date(clock.time())}\r\n"
        f"Message-ID: <{id}@{edge}>\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    return (header + body + "\r\n").encode("utf-8", "replace")
