"""Mail from outside: recipients, headers, loops, levels, what the spool and the client see when something fails."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import replace

import pytest

from onedomain.model.account import Account, Alias, Domain, Home, Level, Unit
from onedomain.model.health import Verdict
from onedomain.protocol.smtp.body import BodyPolicy, Manners
from onedomain.protocol.smtp.offer import Limits
from tests.directory.views import account, book
from tests.edge.smtp_kit import OFFER, RULES, Client, Edge, edge

ANN, JOE = account("ann@example.com"), account("joe@example.com")
MAIL = b"MAIL FROM:<sender@example.org>\r\n"
BODY = b"Subject: hi\r\nMessage-ID: <1@x>\r\n\r\nhello\r\n"


async def send(client: Client, *recipients: str, body: bytes = BODY, mail: bytes = MAIL) -> list[str]:
    """One transaction, pipelined up to DATA; all its replies."""
    client.send(mail + b"".join(f"RCPT TO:<{name}>\r\n".encode() for name in recipients) + b"DATA\r\n")
    replies = await client.replies(len(recipients) + 2)
    if replies[-1].startswith("354"):
        client.send(body + b".\r\n")
        replies.append(await client.reply())
    return replies


def only(made: Edge) -> bytes:
    (message,) = made.spool.messages
    return message.data


async def test_one_message() -> None:
    async with edge(view=book(ANN)) as made:
        client = await made.ready()
        replies = await send(client, "ann+tag@example.com")
        assert replies == [
            "250 2.1.0 sender ok", "250 2.1.5 recipient ok", "354 go ahead, end with <CRLF>.<CRLF>",
            "250 2.0.0 queued as q0000000000000001"]
        (kept,) = made.spool.messages
        assert kept.envelope.sender == "sender@example.org" and kept.envelope.client == "127.0.0.1"
        (target,) = kept.envelope.targets
        assert (target.account, target.address, target.original) == (
            "ann@example.com", "ann+tag@example.com", "ann+tag@example.com")
        stamps, _, rest = kept.data.partition(b"Subject:")
        assert b"Subject:" + rest == BODY
        lines = stamps.decode().split("\r\n")
        assert lines[0] == "Received: from client.example.org ([127.0.0.1])"
        assert lines[1] == "\tby mx.example.com (OneDomain) with ESMTP id q0000000000000001"
        assert lines[2] == "\tfor <ann+tag@example.com>;"
        assert lines[4:] == [
            "X-OneDomain-Trace: cluster=example.com; edge=mx.example.com; id=q0000000000000001",
            "X-OneDomain-Delivery: q0000000000000001", ""]
        (note,) = made.notes.named("received")
        assert note["queue_id"] == kept.id and note["message_id"] == "<1@x>" == kept.message_id
        assert note["recipients"] == {"ann+tag@example.com": ["ann@example.com"]} and note["size"] == len(BODY)
        assert (await client.ask("QUIT")).startswith("221") and await client.ended()


async def test_a_batch_is_answered_in_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    from onedomain.net.stream import Stream

    writes: list[bytes] = []
    real = Stream.push

    def push(self: Stream, data: bytes) -> bool:
        writes.append(data)
        return real(self, data)

    monkeypatch.setattr(Stream, "push", push)
    async with edge(view=book(ANN)) as made:
        client = await made.ready()
        writes.clear()
        client.send(MAIL + b"RCPT TO:<ann@example.com>\r\n" * 50 + b"DATA\r\n")
        assert await client.codes(52) == [250] * 51 + [354]
        assert len(writes) == 1
        client.send(b".\r\n")
        await client.reply()


async def test_delivery_ids_that_come_in_are_taken_out() -> None:
    async with edge(view=book(ANN)) as made:
        client = await made.ready()
        body = b"X-OneDomain-Delivery: q0000000000000001\r\n more\r\nSubject: x\r\n\r\nX-OneDomain-Delivery: stays\r\n"
        await send(client, "ann@example.com", body=body)
        assert only(made).count(b"X-OneDomain-Delivery:") == 2
        assert only(made).endswith(b"id=q0000000000000001\r\nX-OneDomain-Delivery: q0000000000000001\r\n"
                                   b"Subject: x\r\n\r\nX-OneDomain-Delivery: stays\r\n")


@pytest.mark.parametrize(("name", "reply"), [
    ("nobody@example.com", "550 5.1.1 no such mailbox"),
    ("someone@example.net", "550 5.7.1 relaying denied"),
    ("off@example.com", "550 5.2.1 mailbox disabled"),
    ("ann@EXAMPLE.co.jp", "250 2.1.5 recipient ok"),
    ("ANN@example.com", "250 2.1.5 recipient ok"),
    ("a..b@example.com", "250 2.1.5 recipient ok"),
    ("a.@example.com", "250 2.1.5 recipient ok"),
    ("Postmaster", "250 2.1.5 recipient ok"),
    ("@relay.example.org:ann@example.com", "250 2.1.5 recipient ok"),
])
async def test_recipient(name: str, reply: str) -> None:
    view = book(ANN, account("off@example.com", enabled=False), account("a..b@example.com"), account("a.@example.com"),
                account("boss@example.com"))
    async with edge(view=view) as made:
        client = await made.ready()
        await client.ask("MAIL FROM:<>")
        assert await client.ask(f"RCPT TO:<{name}>") == reply
        if reply.startswith("550"):
            (note,) = made.notes.named("refused")
            assert note["recipient"] == name and note["reply"] == reply


async def test_no_account_twice_and_outside_only_by_forwarding() -> None:
    forwarder = Account("fwd@example.com", "head", Home("s1"), forward_to=("out@example.net", "ann@example.com"))
    view = book(ANN, JOE, forwarder, Alias("all@example.com", ("ann@example.com", "joe@example.com", "x@EXAMPLE.NET")))
    async with edge(view=view) as made:
        client = await made.ready()
        names = ("ann", "all", "fwd", "ann+x", "all")
        await send(client, *(f"{name}@example.com" for name in names))
        (kept,) = made.spool.messages
        assert [(t.account or t.address, t.original) for t in kept.envelope.targets] == [
            ("ann@example.com", "ann@example.com"), ("joe@example.com", "all@example.com"),
            ("x@EXAMPLE.NET", "all@example.com"), ("out@example.net", "fwd@example.com"),
            ("fwd@example.com", "fwd@example.com")]
        assert b"\tfor <" not in kept.data
        (note,) = made.notes.named("received")
        assert note["recipients"]["ann+x@example.com"] == ["ann@example.com"]


async def test_parameters_reach_the_envelope() -> None:
    async with edge(view=book(ANN)) as made:
        client = await made.ready()
        mail = "MAIL FROM:<送@例.jp> SMTPUTF8 BODY=8BITMIME RET=HDRS ENVID=e+2B1\r\n".encode()
        client.send(mail + b"RCPT TO:<ann@example.com> NOTIFY=NEVER ORCPT=rfc822;old+40x\r\nDATA\r\n")
        assert await client.codes(3) == [250, 250, 354]
        client.send(b"Subject: \xe7\x94\xa8\r\n\r\n.\r\n")
        assert (await client.reply()).startswith("250")
        envelope = made.spool.messages[0].envelope
        assert (envelope.sender, envelope.smtputf8, envelope.eight_bit, envelope.ret, envelope.envid) == (
            "送@例.jp", True, True, "HDRS", "e+1")
        assert (envelope.targets[0].notify, envelope.targets[0].original) == ("NEVER", "old@x")
        assert b"with UTF8SMTP id" in only(made)


@pytest.mark.parametrize(
    ("asked", "kept"), [("SUCCESS", "NEVER"), ("SUCCESS,FAILURE,DELAY", "FAILURE,DELAY"), ("FAILURE", "FAILURE")])
async def test_success_is_reported_to_no_stranger(asked: str, kept: str) -> None:
    """The sender may be forged: the report would be mail that its owner never asked for."""
    rcpt = f"RCPT TO:<ann@example.com> NOTIFY={asked}\r\nDATA\r\n".encode()
    for trusted, notify in (((), kept), (LOCALHOST, asked)):
        async with edge(view=book(ANN), rules=replace(RULES, xclient_trusted=trusted)) as made:
            client = await made.ready()
            client.send(MAIL + rcpt)
            await client.replies(3)
            client.send(BODY + b".\r\n")
            assert (await client.reply()).startswith("250")
            assert made.spool.messages[0].envelope.targets[0].notify == notify


async def test_octets_above_127_are_noticed() -> None:
    async with edge(view=book(ANN)) as made:
        client = await made.ready()
        await send(client, "ann@example.com", body="Subject: メール\r\n\r\n".encode("shift_jis"))
        await send(client, "ann@example.com")
        assert [m.envelope.eight_bit for m in made.spool.messages] == [True, False]
        assert "メール".encode("shift_jis") in made.spool.messages[0].data


@pytest.mark.parametrize("body", [b"", b"\r\nbody\r\n", b"Subject: no body\r\n", b"no header at all\r\n"])
async def test_odd_messages_are_kept_as_they_are(body: bytes) -> None:
    async with edge(view=book(ANN)) as made:
        client = await made.ready()
        assert (await send(client, "ann@example.com", body=body))[-1].startswith("250")
        assert only(made).endswith(b"X-OneDomain-Delivery: q0000000000000001\r\n" + body)


async def test_chunks() -> None:
    async with edge(view=book(ANN)) as made:
        client = await made.ready()
        client.send(MAIL + b"RCPT TO:<ann@example.com>\r\nBDAT 10\r\nSubject: xBDAT 4 LAST\r\n\r\n\r\nNOOP\r\n")
        assert await client.codes(5) == [250] * 5
        assert only(made).endswith(b"\r\nSubject: x\r\n\r\n")
        client.send(MAIL + b"RCPT TO:<ann@example.com>\r\nBDAT 4\r\nabcdRSET\r\n")
        assert await client.codes(4) == [250] * 4
        client.send(MAIL + b"RCPT TO:<ann@example.com>\r\nBDAT 4\r\nabcdEHLO x\r\n")
        assert await client.codes(4) == [250] * 4
        assert len(made.spool.messages) == 1 and made.spool.open == 0
        client.send(MAIL + b"RCPT TO:<ann@example.com>\r\nBDAT 4\r\nabcdQUIT\r\n")
        assert await client.codes(4) == [250, 250, 250, 221]


# ---- loops

@pytest.mark.parametrize(("header", "code"), [
    (b"Received: x\r\n" * 50, "250"), (b"Received: x\r\n" * 51, "554"),
    (b"X-OneDomain-Trace: cluster=example.com; edge=e; id=1\r\n" * 4, "250"),
    (b"X-OneDomain-Trace: cluster=example.com; edge=e; id=1\r\n" * 5, "554"),
    (b"X-OneDomain-Trace: cluster=other.example; edge=e; id=1\r\n" * 9, "250")])
async def test_loops_are_cut_and_told(header: bytes, code: str) -> None:
    async with edge(view=book(ANN)) as made:
        client = await made.ready()
        reply = (await send(client, "ann@example.com", body=header + BODY + b"x" * 100_000 + b"\r\n"))[-1]
        assert reply[:3] == code
        if code == "554":
            assert reply.startswith("554 5.4.6 mail loop") and not made.spool.messages
            assert made.notes.named("refused")[0]["message_id"] == "<1@x>"
            assert made.counts.values["smtp_loops_total"] == 1
        assert (await send(client, "ann@example.com"))[-1].startswith("250")


async def test_header_section_without_end() -> None:
    async with edge(view=book(ANN)) as made:
        client = await made.ready()
        assert (await send(client, "ann@example.com", body=b"A: b\r\n" * 60_000))[-1].startswith("552 5.3.4 header")


async def test_many_header_sections_without_end() -> None:
    """Each is within its limit, all together would fill the memory."""
    async with edge(view=book(ANN)) as made:
        made.heads.limit = 200_000
        head = b"A: b\r\n" * 20_000
        first, second = await made.ready(), await made.ready()
        for client in (first, second):
            client.send(MAIL + b"RCPT TO:<ann@example.com>\r\nDATA\r\n" + head)
            await client.replies(3)
            while client is first and made.heads.held < len(head) - 4:  # the last line end may be the end of data's
                await asyncio.sleep(0)
        assert (await second.ask(b"A: b\r\n\r\nbody\r\n.")).startswith("452 4.3.1 too much mail at once")
        assert (await first.ask(b"A: b\r\n\r\nbody\r\n.")).startswith("250"), "who came first has room"
        assert (await send(second, "ann@example.com"))[-1].startswith("250")


# ---- the spool

async def test_no_room() -> None:
    async with edge(view=book(ANN)) as made:
        client = await made.ready()
        made.spool.refuses_draft = True
        assert (await send(client, "ann@example.com"))[-1] == "452 4.3.1 disk full"
        client.send(b"BDAT 4 LAST\r\nabcd")
        assert await client.reply() == "452 4.3.1 disk full"
        made.spool.refuses_draft, made.spool.full_at = False, 300
        body = BODY + (b"x" * 998 + b"\r\n") * 500
        assert (await send(client, "ann@example.com", body=body))[-1] == "452 4.3.1 disk full"
        assert (await send(client, "ann@example.com", body=b"A: b\r\n" * 60))[-1] == "452 4.3.1 disk full"
        client.send(MAIL + b"RCPT TO:<ann@example.com>\r\nBDAT 300\r\n\r\n" + b"x" * 298 + b"BDAT 2\r\nyy")
        assert await client.codes(4) == [250, 250, 250, 452], "the next chunk is told, not the last"
        await client.ask("RSET")
        made.spool.full_at, made.spool.refuses_commit = None, True
        assert (await send(client, "ann@example.com"))[-1] == "452 4.3.1 disk full"
        made.spool.refuses_commit = False
        assert (await send(client, "ann@example.com"))[-1].startswith("250")
        assert len(made.spool.messages) == 1


async def test_a_client_that_goes_away_leaves_nothing() -> None:
    async with edge(view=book(ANN)) as made:
        client = await made.ready()
        client.send(MAIL + b"RCPT TO:<ann@example.com>\r\nDATA\r\nSubject: x\r\n\r\nhalf")
        await client.replies(3)
        client.close()
        while made.listener is not None and made.listener.sessions:
            await asyncio.sleep(0.01)
        assert made.spool.open == 0 and not made.spool.messages


async def test_250_waits_for_the_spool() -> None:
    async with edge(view=book(ANN)) as made:
        client = await made.ready()
        made.spool.hang = asyncio.Event()
        task = asyncio.create_task(send(client, "ann@example.com"))
        done, _ = await asyncio.wait([task], timeout=0.1)
        assert not done
        made.spool.hang.set()
        assert (await task)[-1].startswith("250")


async def test_the_moment_after_250_is_a_crash_point() -> None:
    async with edge(view=book(ANN)) as made:
        client = await made.ready()
        await send(client, "nobody@example.com")
        assert made.crashes.reached == []
        await send(client, "ann@example.com")
        await client.ask("NOOP")
        assert made.crashes.reached == ["after-250"]


# ---- levels

def primary(*, strict: bool) -> Edge:
    view = book(ANN, Account("pia@example.com", "acc", Home("s2")))
    view.configure([Domain("example.com", "example.com")],
                   [Unit("head"), Unit("acc", level=Level.PRIMARY, strict=strict)], view.servers())
    return Edge(view, RULES)


async def test_level_primary() -> None:
    async with edge(view=primary(strict=False).book) as made:
        client = await made.ready()
        assert (await send(client, "ann@example.com"))[-1].endswith("queued as q0000000000000001")
        assert made.levels.asked == []
        assert (await send(client, "ann@example.com", "pia@example.com"))[-1].endswith(" and delivered")
        assert made.levels.asked == ["q0000000000000002"]
        made.levels.reached = False
        assert (await send(client, "pia@example.com"))[-1].endswith("queued as q0000000000000003")
        assert made.counts.values["smtp_level_missed_total"] == 1
        made.board.verdicts["s2"] = Verdict.SILENT
        assert (await send(client, "pia@example.com"))[-1].endswith("queued as q0000000000000004")
        assert len(made.levels.asked) == 2, "what can't be had is not waited for"
        assert made.notes.named("level missed")[-1]["queue_id"] == "q0000000000000004"


async def test_strict_is_refused_at_rcpt_and_nowhere_else() -> None:
    async with edge(view=primary(strict=True).book) as made:
        client = await made.ready()
        made.board.verdicts["s2"] = Verdict.REFUSING
        replies = await send(client, "pia@example.com", "ann@example.com")
        assert replies[1].startswith("451 4.3.2") and replies[-1].startswith("250")
        assert "s2 is refusing" in made.notes.named("refused")[0]["reason"]
        made.board.verdicts["s2"] = Verdict.SLOW
        made.levels.reached = False
        assert (await send(client, "pia@example.com"))[-1].startswith("250")


async def test_level_replica() -> None:
    view = book(ANN, Account("pia@example.com", "acc", Home("s2", ("s1",))))
    view.configure([Domain("example.com", "example.com")], [Unit("head"), Unit("acc", level=Level.REPLICA)],
                   view.servers())
    async with edge(view=view) as made:
        client = await made.ready()
        assert (await send(client, "pia@example.com"))[-1].endswith("0001, delivered and copied")
        assert "smtp_level_missed_total" not in made.counts.values
        made.levels.copies = False
        assert (await send(client, "pia@example.com"))[-1].endswith("0002 and delivered")
        assert made.counts.values["smtp_level_missed_total"] == 1
        assert made.notes.named("level missed")[-1]["reached"] == "primary"
        made.links.stopped.add("pia@example.com")
        assert (await send(client, "pia@example.com"))[-1].endswith("0003 and delivered")
        assert made.notes.named("level missed")[-1]["reason"] == "its link has stopped"


async def test_a_strict_unit_wants_its_replica_at_rcpt() -> None:
    view = book(ANN, Account("pia@example.com", "acc", Home("s2", ("s1",))))
    view.configure([Domain("example.com", "example.com")],
                   [Unit("head"), Unit("acc", level=Level.REPLICA, strict=True)], view.servers())
    async with edge(view=view) as made:
        client = await made.ready()
        made.links.stopped.add("pia@example.com")
        replies = await send(client, "pia@example.com", "ann@example.com")
        assert replies[1].startswith("451 4.3.2") and replies[-1].startswith("250")
        assert "its link has stopped" in made.notes.named("refused")[0]["reason"]


async def test_home_down_is_no_reason_at_level_spool() -> None:
    async with edge(view=book(ANN)) as made:
        made.board.verdicts["s1"] = Verdict.SILENT
        client = await made.ready()
        assert (await send(client, "ann@example.com"))[-1].startswith("250")


# ---- limits

async def test_limits() -> None:
    offer = replace(OFFER, limits=Limits(recipients=2, errors=4), policy=BodyPolicy(max_size=1000))
    view = book(ANN, JOE, Alias("all@example.com", tuple(f"x{i}@example.net" for i in range(9))))
    async with edge(view=view, rules=replace(RULES, offer=offer, targets=8), sessions=1) as made:
        client = await made.ready()
        other = Client(*await asyncio.open_connection("127.0.0.1", made.port))
        assert await other.reply() == "421 4.3.2 too many connections" and await other.ended()
        client.send(MAIL + b"RCPT TO:<all@example.com>\r\n" + b"RCPT TO:<ann@example.com>\r\n" * 3 + b"RSET\r\n")
        assert await client.codes(6) == [250, 452, 250, 250, 452, 250]
        assert (await client.ask("MAIL FROM:<> SIZE=1001")).startswith("552 5.3.4")
        too_big = b"A: b\r\n\r\n" + b"x\r\n" * 400
        assert (await send(client, "ann@example.com", body=too_big))[-1].startswith("552 5.3.4")
        assert await client.ask("FOO") == "500 5.5.2 command not recognized"
        assert (await client.ask("FOO")).startswith("500")
        assert (await client.reply()).startswith("421 4.7.0") and await client.ended()
        assert made.notes.named("session ended")[0]["client"] == "127.0.0.1"


async def test_a_session_can_not_fill_the_log() -> None:
    rules = replace(RULES, offer=replace(OFFER, limits=Limits(recipients=1)))
    async with edge(view=book(ANN), rules=rules) as made:
        client = await made.ready()
        client.send(MAIL + b"RCPT TO:<ann@example.com>\r\n" * 500)
        assert await client.codes(501) == [250, 250] + [452] * 499
        notes = made.notes.named("refused")
        assert len(notes) == 200 and notes[-1]["more"] == "is not told"


async def test_idle_session_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onedomain.net.poller.SWEEP_SECONDS", 0.02)
    async with edge(rules=replace(RULES, idle=0.05)) as made:
        client = await made.connect()
        assert (await client.reply()).startswith("421 4.4.2") and await client.ended()


async def test_trickling_body_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onedomain.net.poller.SWEEP_SECONDS", 0.02)
    async with edge(view=book(ANN), rules=replace(RULES, idle=1.0, least_rate=1e6)) as made:
        client = await made.ready()
        client.send(MAIL + b"RCPT TO:<ann@example.com>\r\nDATA\r\nA: b\r\n\r\n")
        await client.replies(3)
        goodbye = asyncio.create_task(client.reply())
        for _ in range(500):
            if goodbye.done():
                break
            client.send(b"x")
            await asyncio.sleep(0.02)
        assert goodbye.done(), "as long as an octet came now and then, it went on"
        assert goodbye.result().startswith("421 4.4.2")


async def test_trickling_command_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onedomain.net.poller.SWEEP_SECONDS", 0.02)
    async with edge(rules=replace(RULES, idle=0.3)) as made:
        client = await made.ready()
        goodbye = asyncio.create_task(client.reply())
        client.send(b"NOOP ")
        for _ in range(200):
            if goodbye.done():
                break
            client.send(b"x")
            await asyncio.sleep(0.02)
        assert goodbye.done(), "as long as an octet came now and then, it went on"
        assert goodbye.result().startswith("421 4.4.2")


async def test_shutdown_says_so() -> None:
    async with edge() as made:
        client = await made.ready()
        assert made.listener is not None
        await made.listener.drain(0)
        assert (await client.reply()).startswith("421 4.3.2") and await client.ended()


async def test_shutdown_waits_for_a_message_that_has_begun_and_for_nobody_else() -> None:
    async with edge(view=book(ANN)) as made:
        idle, busy = await made.ready(), await made.ready()
        busy.send(MAIL + b"RCPT TO:<ann@example.com>\r\n")
        await busy.replies(2)
        assert made.listener is not None
        stopping = asyncio.create_task(made.listener.drain(60))
        assert (await idle.reply()).startswith("421 4.3.2") and await idle.ended()
        assert (await busy.ask("DATA")).startswith("354")
        assert (await busy.ask("A: b\r\n\r\nbody\r\n.")).startswith("250")
        assert (await busy.reply()).startswith("421 4.3.2") and await busy.ended()
        assert await stopping == 0
        assert only(made).endswith(b"body\r\n")


@pytest.mark.parametrize(("manners", "code", "kept"), [
    (Manners.REFUSE, "550", None), (Manners.NORMALISE, "250", b"a\r\nb c\r\n"), (Manners.PASS, "250", b"a\nb\rc\r\n")])
async def test_manners(manners: Manners, code: str, kept: bytes | None) -> None:
    rules = replace(RULES, offer=replace(OFFER, policy=BodyPolicy(bare=manners)))
    async with edge(view=book(ANN), rules=rules) as made:
        client = await made.ready()
        assert (await send(client, "ann@example.com", body=b"A: b\r\n\r\na\nb\rc\r\n"))[-1][:3] == code
        assert kept is None or only(made).endswith(b"\r\n\r\n" + kept)


# ---- hops that are trusted

LOCALHOST = (ipaddress.IPv4Network("127.0.0.0/8"),)


async def test_xclient() -> None:
    async with edge(view=book(ANN), rules=replace(RULES, xclient_trusted=LOCALHOST)) as made:
        client = await made.connect()
        assert "XCLIENT NAME ADDR" in await client.ask("EHLO hop.example.com")
        xclient = "XCLIENT ADDR=IPv6:2001:db8::7 PORT=99 HELO=far.example.org NAME=[UNAVAILABLE]"
        assert (await client.ask(xclient)).startswith("220")
        await client.ask("EHLO hop.example.com")
        await send(client, "ann@example.com")
        assert made.spool.messages[0].envelope.client == "2001:db8::7"
        assert only(made).startswith(b"Received: from far.example.org ([IPv6:2001:db8::7])\r\n")
        assert made.notes.named("received")[0]["client"] == "2001:db8::7"


async def test_who_a_trusted_hop_speaks_for_is_a_stranger() -> None:
    async with edge(view=book(ANN), rules=replace(RULES, xclient_trusted=LOCALHOST)) as made:
        client = await made.ready()
        assert (await client.ask("XCLIENT ADDR=198.51.100.7")).startswith("220")
        await client.ask("EHLO hop.example.com")
        client.send(MAIL + b"RCPT TO:<ann@example.com> NOTIFY=SUCCESS\r\nDATA\r\n")
        await client.replies(3)
        client.send(BODY + b".\r\n")
        assert (await client.reply()).startswith("250")
        assert made.spool.messages[0].envelope.targets[0].notify == "NEVER"


async def test_xclient_from_others_is_refused() -> None:
    async with edge() as made:
        client = await made.connect()
        assert "XCLIENT" not in await client.ask("EHLO hop.example.com")
        assert (await client.ask("XCLIENT ADDR=192.0.2.1")).startswith("550")


async def test_proxy_header() -> None:
    async with edge(view=book(ANN), proxy_from=LOCALHOST) as made:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        client = Client(reader, writer)
        client.send(b"PROXY TCP4 192.0.2.77 127.0.0.1 1234 25\r\n")
        assert (await client.reply()).startswith("220")
        await client.ask("EHLO x")
        await send(client, "ann@example.com")
        assert made.spool.messages[0].envelope.client == "192.0.2.77"
