"""MAIL, RCPT and DATA read together: what is taken means what it means one by one; the client sees no difference."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from onedomain.model.failure import Failed
from onedomain.protocol.smtp.body import BodyPolicy
from onedomain.protocol.smtp.command import Extensions, parse_mail, parse_rcpt
from onedomain.protocol.smtp.event import BodyChunk, BodyStart, Event, Group
from onedomain.protocol.smtp.group import LONGEST_LINE, read_group
from onedomain.protocol.smtp.offer import Limits, Offer
from onedomain.protocol.smtp.server import SmtpServer
from tests.protocol.smtp.talk import Peer, pieces

OFFER = Offer("foo.com", policy=BodyPolicy(max_size=1000, overrun=1000), limits=Limits(recipients=3, errors=30))

# What is plain, what almost is, and what stands before and behind it.
MAILS = [
    b"MAIL FROM:<a@b>", b"MAIL FROM:<>", b"MAIL FROM:<a.b+c=d/e_f-@x-y.z> SIZE=100", b"MAIL FROM:<a@b> SIZE=100000",
    b"MAIL FROM:<a@b> BODY=8BITMIME", b"MAIL FROM:<a@b> SIZE=1 BODY=7BIT", b"MAIL FROM:<a@b> BODY=7BIT SIZE=1",
    b"mail from:<a@b>", b"MAIL FROM:<a@b> RET=FULL", b'MAIL FROM:<"a b"@c>', b"MAIL FROM:<a@b@c>", b"MAIL FROM: <a@b>",
    b"MAIL FROM:<a@b> ", b"MAIL FROM:<" + b"a" * 65 + b"@b>", b"MAIL FROM:<a@" + b"b" * 256 + b">", b"MAIL FROM:<@b>",
    "MAIL FROM:<ü@b> SMTPUTF8".encode(), b"MAIL FROM:<a@b>\0", b"MAIL FROM:<a@b> SIZE=" + b"9" * 21, b"NOOP",
]
RCPTS = [
    b"RCPT TO:<c@d>", b"RCPT TO:<nobody@d>", b"RCPT TO:<nobody.else@d>", b"RCPT TO:<Postmaster>",
    b"RCPT TO:<c@d> NOTIFY=NEVER",
    b"rcpt to:<c@d>", b"RCPT TO:<@x:c@d>", b"RCPT TO:<>", b"RCPT TO:<c@d>\r", b"RSET",
]  # fmt: skip
ENDS = [b"DATA", b"data", b"DATA x", b"BDAT 2 LAST", b"QUIT", b"RSET"]
BODIES = [b"x\r\n.\r\n", b".\r\n", b"a\r\n..b\r\n.\r\n", b"bare\n.\r\n\r\n.\r\n", b""]

COMMON = st.builds(
    lambda mail, rcpts, end, body, feed: feed.join((mail, *rcpts, end, b"")) + body,
    st.sampled_from(MAILS[:6]) | st.sampled_from(MAILS), st.lists(st.sampled_from(RCPTS[:2]) | st.sampled_from(RCPTS),
    max_size=5), st.sampled_from(ENDS[:1]) | st.sampled_from(ENDS), st.sampled_from(BODIES),
    st.just(b"\r\n") | st.sampled_from([b"\r\n", b"\n"]),
)  # fmt: skip


class Taker(Peer):
    """Takes a group where it would take each part of it; notes the parts."""

    def _answer(self, event: Event) -> None:
        if not isinstance(event, Group):
            super()._answer(event)
            return
        self.events.pop()
        if any(rcpt.address.local.startswith("nobody") for rcpt in event.rcpts):
            self.server.apart()
        else:
            self.events += [event.mail, *event.rcpts, BodyStart()]
            self.server.accept()


def said(peer: Peer) -> list[Event]:
    return [event for event in peer.events if not isinstance(event, BodyChunk)]


@given(st.lists(COMMON, max_size=4).map(b"".join), st.data())
@example(b"MAIL FROM:<a@b>\r\nRCPT TO:<nobody@d>\r\nDATA\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\n", None)
@settings(max_examples=400, deadline=None)
def test_groups_change_nothing(stream: bytes, data: st.DataObject | None) -> None:
    stream = b"EHLO x\r\n" + stream
    single, whole = Peer(SmtpServer(OFFER)), Taker(SmtpServer(OFFER, groups=True))
    expected = b"".join(single.send(stream[at : at + 1]) for at in range(len(stream)))
    assert whole.send(stream) == expected
    assert (said(whole), whole.bodies, whole.server.state) == (said(single), single.bodies, single.server.state)
    if data is not None:
        cut = Taker(SmtpServer(OFFER, groups=True))
        cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=10))
        assert b"".join(cut.send(piece) for piece in pieces(stream, cuts)) == expected
        assert (said(cut), cut.bodies) == (said(single), single.bodies)


@given(st.sampled_from(MAILS), st.lists(st.sampled_from(RCPTS), min_size=1, max_size=3))
def test_what_is_read_is_what_the_general_way_reads(mail: bytes, rcpts: list[bytes]) -> None:
    found = read_group(b"\r\n".join((mail, *rcpts, b"DATA\r\n")), 0, recipients=3)
    if found is None:
        return
    group, _ = found
    try:
        assert group.mail == parse_mail(mail, Extensions())
    except Failed as failed:
        raise AssertionError(f"{mail!r} is refused: {failed}") from None
    assert group.rcpts == [parse_rcpt(rcpt, Extensions(), smtputf8=False) for rcpt in rcpts]


def test_a_plain_group_is_one_event() -> None:
    stream = b"MAIL FROM:<a@b> SIZE=5\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@d>\r\nDATA\r\nMAIL"
    found = read_group(b"NOOP\r\n" + stream, 6, recipients=2)
    assert found is not None and stream[found[1] - 6 :] == b"MAIL"
    assert [str(rcpt.address) for rcpt in found[0].rcpts] == ["c@d", "e@d"]
    assert read_group(stream, 0, recipients=1) is None
    peer = Taker(SmtpServer(OFFER, groups=True))
    peer.send(b"EHLO x\r\n")
    assert peer.send(stream[:-4]).count(b"\r\n") == 4
    assert peer.server.take_output() == b"" and len(peer.events) == 1 + 4


def test_a_listener_with_short_lines_takes_no_groups() -> None:
    offer = Offer("foo.com", limits=Limits(line=LONGEST_LINE - 1))
    peer = Peer(SmtpServer(offer, groups=True))  # which knows no groups, and would not be able to take one
    peer.send(b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n")
    assert not any(isinstance(event, Group) for event in peer.events) and isinstance(peer.events[-1], BodyStart)
