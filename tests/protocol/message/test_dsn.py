"""Delivery reports, read back with Python's own parser."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.model.failure import again, give_up
from onedomain.protocol.message.dsn import Action, Reported, build_dsn

NO_USER = give_up(550, "5.1.1", "no such user")
ORIGINAL = b"Subject: hello\r\nMessage-ID: <1@x>\r\n\r\nbody\r\n"
SEVERAL = [
    Reported("a@example.com", Action.FAILED, NO_USER, original="alias@example.com", server="s1.example.com",
             reply="550 5.1.1 <a@example.com> User unknown in virtual mailbox table, and some more words", at=10),
    Reported("b@example.com", Action.FAILED, NO_USER)]


def report(recipients: list[Reported], returned: bytes = ORIGINAL, **options: object) -> EmailMessage:
    arguments = {"to": "sender@example.org", "edge": "mx.example.com", "id": "Q2", "boundary": "=_b0undary", "now": 9.0}
    dsn = build_dsn(recipients, **(arguments | options))  # type: ignore[arg-type]
    data = dsn.head + returned + dsn.tail
    assert b"\n" not in data.replace(b"\r\n", b"")
    assert all(len(line) <= 998 for line in data.split(b"\r\n"))
    parsed = email.message_from_bytes(data, policy=email.policy.SMTPUTF8)
    assert isinstance(parsed, EmailMessage) and not parsed.defects
    return parsed


def test_headers_returned() -> None:
    parsed = report(SEVERAL, ORIGINAL.partition(b"\r\n\r\n")[0] + b"\r\n", queue_id="Q1", envid="ENV+1", arrived=50.0)
    assert parsed.get_content_type() == "multipart/report"
    assert parsed.get_param("report-type") == "delivery-status"
    assert parsed["Auto-Submitted"] == "auto-replied" and parsed["To"] == "sender@example.org"
    assert "メールを配信できませんでした" in parsed["Subject"]
    text, status, original = parsed.get_payload()
    assert text.get_content_type() == "text/plain"
    for words in ("could not be delivered", "配信できませんでした", "<b@example.com>", "User unknown", "Q1"):
        assert words in text.get_content()
    message, first, second = status.get_payload()
    assert message["Reporting-MTA"] == "dns; mx.example.com" and message["Original-Envelope-Id"] == "ENV+1"
    assert message["Arrival-Date"] == "Thu, 01 Jan 1970 00:00:50 +0000"
    assert first["Original-Recipient"] == "rfc822; alias@example.com"
    assert first["Final-Recipient"] == "rfc822; a@example.com"
    assert (first["Action"], first["Status"], first["Remote-MTA"]) == ("failed", "5.1.1", "dns; s1.example.com")
    assert first["Diagnostic-Code"].startswith("smtp; 550 5.1.1")
    assert first["Diagnostic-Code"].endswith("some more words")
    assert second["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user" and second["Original-Recipient"] is None
    assert original.get_content_type() == "text/rfc822-headers"
    assert "Message-ID: <1@x>" in original.get_payload()


def test_message_returned() -> None:
    returned = report(SEVERAL, full=True).get_payload()[2]
    assert returned.get_content_type() == "message/rfc822"
    assert returned.get_payload()[0].get_payload() == "body\r\n"


def test_delay() -> None:
    late = Reported("a@example.com", Action.DELAYED, again(451, "4.4.1", "server down"), retry_until=3600)
    fields = report([late]).get_payload()[1].get_payload()[1]
    assert (fields["Action"], fields["Status"]) == ("delayed", "4.4.1")
    assert fields["Will-Retry-Until"] == "Thu, 01 Jan 1970 01:00:00 +0000"


@pytest.mark.parametrize("action", list(Action))
def test_every_action_has_words(action: Action) -> None:
    assert report([Reported("a@b", action)]).get_payload()[1].get_payload()[1]["Action"] == action.value


def test_addresses_outside_ascii() -> None:
    failed = Reported("用@例.jp", Action.FAILED, NO_USER)
    dsn = build_dsn([failed], to="送@例.jp", edge="e", id="i", boundary="b", now=0)
    assert dsn.smtputf8
    assert b"message/global-delivery-status" in dsn.head and b"message/global-headers" in dsn.head
    assert "Final-Recipient: utf-8; 用@例.jp\r\n".encode() in dsn.head
    assert not build_dsn(SEVERAL, to="a@b", edge="e", id="i", boundary="b", now=0).smtputf8


@given(st.text(max_size=300), st.text(max_size=50))
@settings(max_examples=150, deadline=None)
def test_nothing_that_a_server_said_breaks_out(reply: str, server: str) -> None:
    fields = report([Reported("a@b", Action.FAILED, NO_USER, server=server.encode("ascii", "replace").decode(),
                              reply=reply, original="x\r\nBcc: y@z")]).get_payload()[1].get_payload()
    assert len(fields) == 2
    assert set(fields[1].keys()) <= {
        "Original-Recipient", "Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code"}
