"""Deliveries against a scripted server: where the answer is lost, and what each reply means."""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.backend.delivery import Deliverer
from onedomain.backend.pool import PoolLimits
from onedomain.backend.smtp_session import Door, SmtpTimes
from onedomain.model.failure import Failed, Kind, again
from onedomain.model.health import Seen, Sighting
from onedomain.model.message import Delivery, Envelope, Outcome, State, Target
from onedomain.model.server import TlsMode
from onedomain.net.tls import ClientContexts
from tests.backend.fake import CUT, HANG, Attempts, Bytes, FakeSmtp

QUICK = SmtpTimes(connect=2, greeting=1, command=1, data=1, block=1, end=1)
LIMITS = PoolLimits(size=4)


@dataclass
class Seer:
    sightings: list[Sighting] = field(default_factory=list)

    def saw(self, sighting: Sighting) -> None:
        self.sightings.append(sighting)

    @property
    def seen(self) -> list[Seen]:
        return [sighting.seen for sighting in self.sightings]


SEER = Seer()


@contextlib.asynccontextmanager
async def deliverer(fake: FakeSmtp, limits: PoolLimits = LIMITS, times: SmtpTimes = QUICK) -> AsyncIterator[Deliverer]:
    SEER.sightings.clear()
    door = Door(fake.endpoint, fake.lmtp, "edge.example", ClientContexts(), times)
    deliverer = Deliverer("mail1", door, limits, SEER)
    yield deliverer
    await deliverer.pool.close()


def delivery(*names: str, body: bytes = b"Subject: x\r\n\r\nhello\r\n", **options: object) -> Delivery:
    targets = tuple(Target(name, name) for name in names)
    envelope = Envelope("a@outside.example", targets, **options)  # type: ignore[arg-type]
    return Delivery("id-1", envelope, tuple(enumerate(names)), Bytes(body), b"X-OneDomain-Delivery: id-1\r\n")


def states(outcomes: dict[int, Outcome]) -> list[State]:
    return [outcomes[index].state for index in sorted(outcomes)]


DONE, AGAIN, FAILED, IN_DOUBT = State


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("lmtp", [True, False])
async def test_delivered(lmtp: bool, pipelining: bool) -> None:
    capabilities = FakeSmtp.capabilities[0 if pipelining else 1 :]
    async with FakeSmtp(lmtp, capabilities=capabilities).running() as fake, deliverer(fake) as d:
        attempt = Attempts()
        outcomes = await d.deliver(delivery("h@example.com", "t@example.com"), attempt)
        assert states(outcomes) == [DONE, DONE]
        assert "kept" in outcomes[1].reply and outcomes[1].server == "mail1"
        sender, recipients, body = fake.mails[0]
        assert (sender, recipients) == ("a@outside.example", ["h@example.com", "t@example.com"])
        assert body == b"X-OneDomain-Delivery: id-1\r\nSubject: x\r\n\r\nhello\r\n.\r\n"
        assert attempt.count == 1
        assert SEER.seen == [Seen.OK]


async def test_connections_are_kept_and_bounded() -> None:
    async with FakeSmtp(delay=0.002).running() as fake, deliverer(fake) as d:
        results = await asyncio.gather(*(d.deliver(delivery(f"u{i}@example.com"), Attempts()) for i in range(40)))
        assert all(states(outcomes) == [DONE] for outcomes in results)
        assert fake.connections == fake.most_open == 4
        assert len(fake.mails) == 40


async def test_the_queue_for_connections_is_bounded() -> None:
    limits = PoolLimits(size=1, waiting=2, wait=0.1)
    async with FakeSmtp(replies={"MAIL": HANG}).running() as fake, deliverer(fake, limits) as d:
        results = await asyncio.gather(*(d.deliver(delivery("u@example.com"), Attempts()) for _ in range(5)))
        failures = [outcomes[0].failure for outcomes in results]
        assert all(failure and failure.kind is Kind.AGAIN for failure in failures)
        reasons = sorted(failure.reason.split(": ")[-1] for failure in failures if failure)
        assert reasons.count("queue full") == 2
        assert reasons.count("no free connection") == 2


async def test_a_connection_carries_only_so_many_messages() -> None:
    async with FakeSmtp().running() as fake, deliverer(fake, PoolLimits(size=1, uses=3)) as d:
        for _ in range(7):
            assert states(await d.deliver(delivery("u@example.com"), Attempts())) == [DONE]
        assert fake.connections == 3


async def test_idle_connections_are_left() -> None:
    async with FakeSmtp().running() as fake, deliverer(fake, PoolLimits(size=2, idle=0.05)) as d:
        await d.deliver(delivery("u@example.com"), Attempts())
        assert d.pool.idle == 1
        async with asyncio.timeout(2):
            while fake.open:
                await asyncio.sleep(0.01)
        assert d.pool.idle == 0
        assert "QUIT" in fake.lines


# ---- the answer lost at each point ---------------------------------------------------------------------------------

BEFORE_THE_DOT = ["greeting", "LHLO", "MAIL", "RCPT", "DATA"]


@pytest.mark.parametrize("how", [CUT, HANG, "babble\x00babble", "421 4.3.2 shutting down"])
@pytest.mark.parametrize("where", BEFORE_THE_DOT)
async def test_lost_before_the_dot_is_tried_again(where: str, how: str) -> None:
    async with FakeSmtp(replies={where: how}).running() as fake, deliverer(fake) as d:
        attempt = Attempts()
        outcomes = await d.deliver(delivery("h@example.com", "t@example.com"), attempt)
        assert states(outcomes) == [AGAIN, AGAIN]
        assert attempt.count == 0
        assert not fake.mails
        assert SEER.seen == [{HANG: Seen.SILENT, "babble\x00babble": Seen.BROKEN}.get(how, Seen.REFUSED)]


@pytest.mark.parametrize("how", [CUT, HANG])
async def test_lost_within_the_body_is_tried_again(how: str) -> None:
    async with FakeSmtp(body_early=(100_000, how)).running() as fake, deliverer(fake) as d:
        attempt = Attempts()
        outcomes = await d.deliver(delivery("h@example.com", body=b"x" * 70 + b"\r\n" * 8_000_000), attempt)
        assert states(outcomes) == [AGAIN]
        assert attempt.count == 0


@pytest.mark.parametrize("how", [CUT, HANG, "babble"])
@pytest.mark.parametrize("lmtp", [True, False])
async def test_lost_after_the_dot_is_in_doubt(lmtp: bool, how: str) -> None:
    async with FakeSmtp(lmtp, replies={"body": how}).running() as fake, deliverer(fake) as d:
        attempt = Attempts()
        outcomes = await d.deliver(delivery("h@example.com", "t@example.com"), attempt)
        assert states(outcomes) == [IN_DOUBT, IN_DOUBT]
        assert attempt.count == 1
        assert len(fake.mails) == 1
        assert outcomes[0].failure and "no answer after the final dot" in outcomes[0].failure.reason
        assert SEER.seen == [{HANG: Seen.SILENT, CUT: Seen.REFUSED}.get(how, Seen.BROKEN)]


async def test_answers_before_the_loss_count() -> None:
    replies = {"body": lambda name: CUT if name.startswith("t") else None}
    async with FakeSmtp(replies=replies).running() as fake, deliverer(fake) as d:
        names = ("h@example.com", "t@example.com", "k@example.com")
        assert states(await d.deliver(delivery(*names), Attempts())) == [DONE, IN_DOUBT, IN_DOUBT]


async def test_nothing_is_handed_over_before_the_attempt_is_durable() -> None:
    async with FakeSmtp().running() as fake, deliverer(fake) as d:

        async def before() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(fake.seen_dot.wait(), 0.1)
            assert any(line.startswith("RCPT") for line in fake.lines)

        assert states(await d.deliver(delivery("h@example.com"), Attempts(before=before))) == [DONE]


async def test_an_attempt_that_cannot_be_recorded_hands_nothing_over() -> None:
    async with FakeSmtp().running() as fake, deliverer(fake) as d:

        async def poisoned() -> None:
            raise Failed(again(452, "4.3.1", "no space", "fdatasync failed"))

        outcomes = await d.deliver(delivery("h@example.com"), poisoned)
        assert states(outcomes) == [AGAIN]
        assert outcomes[0].failure and outcomes[0].failure.reason == "fdatasync failed"
        assert states(await d.deliver(delivery("h@example.com"), Attempts())) == [DONE]
        assert len(fake.mails) == 1
        assert SEER.seen == [Seen.OK]


@pytest.mark.parametrize("where", ["greeting", "LHLO", "MAIL", "RCPT", "DATA", "body"])
@pytest.mark.parametrize("pipelining", [True, False])
async def test_an_answer_too_many_never_passes_for_a_delivery(where: str, pipelining: bool) -> None:
    usual = {"greeting": "220 fake", "LHLO": "250 fake", "DATA": "354 go on"}.get(where, "250 2.0.0 ok")
    capabilities = FakeSmtp.capabilities[0 if pipelining else 1 :]
    fake = FakeSmtp(capabilities=capabilities, replies={where: f"{usual}\r\n250 2.0.0 and once more"})
    async with fake.running(), deliverer(fake) as d:
        for _ in range(3):
            before = len(fake.mails)
            outcomes = await d.deliver(delivery("h@example.com", "t@example.com"), Attempts())
            if DONE in states(outcomes):
                assert len(fake.mails) > before
        del fake.replies[where]
        assert states(await d.deliver(delivery("h@example.com"), Attempts())) == [DONE]


async def test_an_answer_before_the_dot_is_not_the_answer_to_the_message() -> None:
    replies = {"DATA": "354 go on\r\n250 2.0.0 kept", "body": "554 5.6.0 refused"}
    async with FakeSmtp(replies=replies).running() as fake, deliverer(fake) as d:
        assert states(await d.deliver(delivery("h@example.com"), Attempts())) == [AGAIN]
        assert not fake.mails


SCRAPS = ["2", "250", "354 ", "4", "550", "-", " ", "\r\n", "\n", "\0", "x" * 3000, "請求"]


@given(
    st.sampled_from(["greeting", "LHLO", "MAIL", "RCPT", "DATA", "body"]),
    st.lists(st.sampled_from(SCRAPS), max_size=8).map("".join),
)
@settings(max_examples=60, deadline=None)
def test_whatever_is_answered_becomes_an_outcome(where: str, garbage: str) -> None:
    async def main() -> None:
        fake = FakeSmtp(replies={where: lambda _: garbage + "\r\n"})
        async with fake.running(), deliverer(fake) as d:
            outcomes = await asyncio.wait_for(d.deliver(delivery("h@example.com"), Attempts()), 10)
            (state,) = states(outcomes)
            assert state is not DONE or (fake.mails and garbage.lstrip().startswith("2"))

    asyncio.run(main())


@pytest.mark.parametrize("goodbye", [b"", b"421 4.4.2 idle for too long\r\n"])
async def test_an_idle_connection_that_died_fails_nothing(goodbye: bytes) -> None:
    fake = FakeSmtp()
    async with fake.running(), deliverer(fake) as d:
        await d.deliver(delivery("h@example.com"), Attempts())
        fake.replies["MAIL"] = CUT if not goodbye else goodbye.decode().strip()
        told = iter([fake.replies["MAIL"]])
        fake.replies["MAIL"] = lambda _: next(told, None)
        attempt = Attempts()
        assert states(await d.deliver(delivery("h@example.com"), attempt)) == [DONE]
        assert (fake.connections, len(fake.mails), attempt.count) == (2, 2, 1)
        assert SEER.seen == [Seen.OK, Seen.OK]


async def test_cancelled_between_dot_and_answer() -> None:
    async with FakeSmtp(replies={"body": HANG}).running() as fake, deliverer(fake, times=SmtpTimes()) as d:
        task = asyncio.create_task(d.deliver(delivery("h@example.com"), Attempts()))
        await fake.seen_dot.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert d.pool.idle == 0


# ---- what replies mean ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pipelining", [True, False])
async def test_each_recipient_has_its_own_outcome(pipelining: bool) -> None:
    answers = {"bad": "550 5.1.1 unknown", "full": "452 4.2.2 full", "refused": "554 5.7.1 no", "slow": "451 4.3.0 no"}
    replies = {
        "RCPT": lambda line: answers.get(line[9:].split("@")[0]) if "<bad" in line or "<full" in line else None,
        "body": lambda name: answers.get(name.split("@")[0]),
    }
    capabilities = FakeSmtp.capabilities[0 if pipelining else 1 :]
    async with FakeSmtp(capabilities=capabilities, replies=replies).running() as fake, deliverer(fake) as d:
        names = [f"{name}@example.com" for name in ("bad", "good", "full", "refused", "slow", "fine")]
        outcomes = await d.deliver(delivery(*names), Attempts())
        assert states(outcomes) == [FAILED, DONE, AGAIN, FAILED, AGAIN, DONE]
        assert outcomes[0].reply == "550 5.1.1 unknown"
        failure = outcomes[0].failure
        assert failure and (failure.kind, failure.code, failure.enhanced) == (Kind.GIVE_UP, 550, "5.1.1")
        assert "bad@example.com" in failure.reason
        assert states(await d.deliver(delivery("good@example.com"), Attempts())) == [DONE]
        assert fake.connections == 1


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(
    ("where", "reply", "state"),
    [
        ("MAIL", "451 4.3.0 later", AGAIN),
        ("MAIL", "550 5.7.1 never", FAILED),
        ("RCPT", "550 5.1.1 unknown", FAILED),
        ("DATA", "451 4.3.0 later", AGAIN),
        ("DATA", "554 5.5.0 never", FAILED),
        ("body", "452 4.2.2 full", AGAIN),
        ("body", "552 5.3.4 too large", FAILED),
    ],
)
async def test_refused(where: str, reply: str, state: State, pipelining: bool) -> None:
    capabilities = FakeSmtp.capabilities[0 if pipelining else 1 :]
    async with FakeSmtp(capabilities=capabilities, replies={where: reply}).running() as fake, deliverer(fake) as d:
        attempt = Attempts()
        assert states(await d.deliver(delivery("h@example.com", "t@example.com"), attempt)) == [state, state]
        assert attempt.count == (where == "body")
        del fake.replies[where]
        assert states(await d.deliver(delivery("h@example.com"), Attempts())) == [DONE]
        assert fake.connections == 1


async def test_too_many_recipients_come_in_the_next_transaction_at_once() -> None:
    taken: list[str] = []

    def three_at_most(line: str) -> str | None:
        taken.append(line)
        return None if (len(taken) - 1) % 5 < 3 else "452 4.5.3 too many recipients"

    async with FakeSmtp(replies={"RCPT": three_at_most}).running() as fake, deliverer(fake) as d:
        attempt = Attempts()
        outcomes = await d.deliver(delivery(*(f"u{i}@example.com" for i in range(5))), attempt)
        assert states(outcomes) == [DONE] * 5
        assert [recipients for _, recipients, _ in fake.mails] == [
            ["u0@example.com", "u1@example.com", "u2@example.com"], ["u3@example.com", "u4@example.com"]
        ]  # fmt: skip
        assert attempt.count == 1
        assert fake.connections == 1


async def test_nobody_wanted_ends() -> None:
    async with FakeSmtp(replies={"RCPT": "452 4.5.3 too many recipients"}).running() as fake, deliverer(fake) as d:
        assert states(await d.deliver(delivery("a@example.com", "b@example.com"), Attempts())) == [AGAIN, AGAIN]


async def test_a_thousand_recipients_in_portions() -> None:
    async with FakeSmtp().running() as fake, deliverer(fake) as d:
        outcomes = await d.deliver(delivery(*(f"u{i}@example.com" for i in range(1000))), Attempts())
        assert states(outcomes) == [DONE] * 1000
        assert [len(recipients) for _, recipients, _ in fake.mails] == [100] * 10


async def test_a_server_that_takes_data_for_nobody_gets_none() -> None:
    replies = {"RCPT": "550 5.1.1 unknown", "DATA": "354 go on"}
    async with FakeSmtp(replies=replies).running() as fake, deliverer(fake) as d:
        assert states(await d.deliver(delivery("a@example.com"), Attempts())) == [FAILED]
        assert not fake.mails
        assert d.pool.idle == 0


# ---- what a server can't take --------------------------------------------------------------------------------------


UTF8_SENDER = Envelope("請@b.example", (Target("h@example.com"),), smtputf8=True)


@pytest.mark.parametrize(
    ("capabilities", "message", "enhanced"),
    [
        (("PIPELINING", "SIZE 20"), delivery("h@example.com"), "5.3.4"),
        (("PIPELINING",), delivery("h@example.com", eight_bit=True), "5.6.3"),
        (("PIPELINING",), delivery("請求@example.com", smtputf8=True), "5.6.7"),
        (("PIPELINING",), delivery("請求@example.com"), "5.6.7"),
        (("PIPELINING",), delivery("h@example.com", smtputf8=True, body="Subject: 請求\r\n\r\n".encode()), "5.6.7"),
        (("PIPELINING",), replace(delivery("h@example.com"), envelope=UTF8_SENDER), "5.6.7"),
        (("PIPELINING",), delivery("h\r\nRCPT TO:<x@y>@example.com"), "5.1.3"),
        (("PIPELINING",), delivery("h> SIZE=1@example.com"), "5.1.3"),
    ],
)
async def test_what_cannot_be_said_fails_with_its_reason(
    capabilities: tuple[str, ...], message: Delivery, enhanced: str
) -> None:
    async with FakeSmtp(capabilities=capabilities).running() as fake, deliverer(fake) as d:
        attempt = Attempts()
        outcomes = await d.deliver(message, attempt)
        assert states(outcomes) == [FAILED]
        failure = outcomes[0].failure
        assert failure and failure.enhanced == enhanced
        assert (attempt.count, fake.mails) == (0, [])
        assert states(await d.deliver(delivery("h@example.com", body=b""), Attempts())) == [
            FAILED if enhanced == "5.3.4" else DONE
        ]


async def test_utf8_asked_for_without_need_goes_through() -> None:
    """Postfix and Gmail say SMTPUTF8 whenever they may; only an address or header outside ASCII needs it."""
    async with FakeSmtp(capabilities=("PIPELINING", "8BITMIME")).running() as fake, deliverer(fake) as d:
        message = delivery("h@example.com", smtputf8=True, eight_bit=True, body="Subject: x\r\n\r\n請求\r\n".encode())
        assert states(await d.deliver(message, Attempts())) == [DONE]


async def test_one_unspeakable_recipient_fails_alone() -> None:
    async with FakeSmtp(capabilities=("PIPELINING",)).running() as fake, deliverer(fake) as d:
        outcomes = await d.deliver(delivery("a@example.com", "請求@example.com", "b@example.com"), Attempts())
        assert states(outcomes) == [DONE, FAILED, DONE]


async def test_parameters_are_said_where_they_are_known() -> None:
    fake = FakeSmtp(capabilities=("SIZE 1000000", "8BITMIME", "SMTPUTF8", "DSN"))
    async with fake.running(), deliverer(fake) as d:
        targets = (Target("h@example.com", original="H+x@example.com", notify="NEVER"),)
        envelope = Envelope("請@b.example", targets, smtputf8=True, eight_bit=True, ret="HDRS", envid="a b")
        message = Delivery("i", envelope, ((0, "h@example.com"),), Bytes(b"\r\n.\r\n..x\r\n"))
        assert states(await d.deliver(message, Attempts())) == [DONE]
        assert fake.lines[1] == "MAIL FROM:<請@b.example> SIZE=10 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+20b"
        assert fake.lines[2] == "RCPT TO:<h@example.com> NOTIFY=NEVER ORCPT=rfc822;H+2Bx@example.com"
        assert fake.mails[0][2] == b"\r\n..\r\n...x\r\n.\r\n"


async def test_a_demanded_starttls_that_is_not_offered() -> None:
    async with FakeSmtp().running(TlsMode.STARTTLS) as fake, deliverer(fake) as d:
        outcomes = await d.deliver(delivery("h@example.com"), Attempts())
        assert states(outcomes) == [AGAIN]
        assert outcomes[0].failure and outcomes[0].failure.enhanced == "4.7.4"
        assert not any(line.startswith("MAIL") for line in fake.lines)


async def test_words_put_into_the_servers_mouth_before_tls() -> None:
    capabilities = (*FakeSmtp.capabilities, "STARTTLS")
    replies = {"STARTTLS": "220 go on\r\n250 2.1.0 forged"}
    async with FakeSmtp(capabilities=capabilities, replies=replies).running(TlsMode.STARTTLS) as fake:
        async with deliverer(fake) as d:
            outcomes = await d.deliver(delivery("h@example.com"), Attempts())
            assert outcomes[0].failure and "in the clear" in outcomes[0].failure.reason


async def test_opportunistic_tls_that_fails_is_done_without() -> None:
    capabilities = (*FakeSmtp.capabilities, "STARTTLS")
    replies = {"STARTTLS": "454 4.7.0 not now"}
    async with FakeSmtp(capabilities=capabilities, replies=replies).running(TlsMode.OPPORTUNISTIC) as fake:
        async with deliverer(fake) as d:
            assert states(await d.deliver(delivery("h@example.com"), Attempts())) == [DONE]


async def test_a_body_that_cannot_be_read_hands_nothing_over() -> None:
    class Broken(Bytes):
        async def read(self, offset: int, length: int) -> bytes:
            raise OSError(5, "Input/output error")

    async with FakeSmtp().running() as fake, deliverer(fake) as d:
        message = replace(delivery("h@example.com"), body=Broken(b"x" * 100))
        outcomes = await d.deliver(message, Attempts())
        assert states(outcomes) == [AGAIN]
        assert outcomes[0].failure and outcomes[0].failure.enhanced == "4.3.0"
        assert not fake.mails and not SEER.sightings


async def test_a_large_body_is_streamed() -> None:
    """100 MB through, and never more than a megabyte of it here."""

    class Endless(Bytes):
        size = 100_000_000

        async def read(self, offset: int, length: int) -> bytes:
            self.reads += 1
            return b"x" * min(length, self.size - offset)

    async with FakeSmtp(keep=False).running() as fake, deliverer(fake, times=SmtpTimes()) as d:
        body = Endless(b"")
        tracemalloc.start()
        try:
            assert states(await d.deliver(replace(delivery("h@example.com"), body=body), Attempts())) == [DONE]
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert body.reads > 1500
        assert most < 2_000_000, most
