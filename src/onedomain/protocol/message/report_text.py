"""What people read in a delivery report, in English and Japanese.

Knows words only; the machine-readable part is dsn.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wording:
    """`action` as in RFC 3464; `recipients` are (address, what was said about it)."""

    action: str
    edge: str
    queue_id: str
    recipients: Sequence[tuple[str, str]]


_TEXTS: dict[str, tuple[str, str, str]] = {
    "failed": (
        "Undelivered mail / メールを配信できませんでした",
        "Your message could not be delivered to the recipients below. No further attempts will be made.",
        "次の宛先にメールを配信できませんでした。これ以上の再送は行いません。",
    ),
    "delayed": (
        "Delayed mail / メールの配信が遅れています",
        "Your message has not yet been delivered to the recipients below. You need not send it again: attempts go on.",
        "次の宛先へのメールの配信が遅れています。再送を続けていますので、送り直す必要はありません。",
    ),
    "delivered": (
        "Delivered mail / メールを配信しました",
        "Your message was delivered to the recipients below.",
        "次の宛先にメールを配信しました。",
    ),
    "relayed": (
        "Relayed mail / メールを中継しました",
        "Your message was passed on to a server that sends no such reports, for the recipients below.",
        "次の宛先へのメールを、配信通知に対応していないサーバーに中継しました。",
    ),
}


def report_text(wording: Wording) -> tuple[str, str]:
    """(subject, text with LF line ends)."""
    subject, english, japanese = _TEXTS[wording.action]
    lines = [f"This is the mail system at {wording.edge}.", "", english, "", japanese, ""]
    for address, said in wording.recipients:
        lines.append(f"<{_plain(address)}>")
        if said:
            lines.append(f"    {_plain(said)}")
        lines.append("")
    if wording.queue_id:
        lines += [f"Queue id / キューID: {wording.queue_id}", ""]
    return subject, "\n".join(lines)


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:1000])
