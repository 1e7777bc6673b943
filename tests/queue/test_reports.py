"""Reports that senders ask for with NOTIFY=SUCCESS (RFC 3461 section 6.2)."""

from __future__ import annotations

from onedomain.model.failure import Failed, again
from onedomain.model.message import Target
from tests.queue.test_dispatch import Stage, address, play


def wished(number: int, notify: str = "SUCCESS,FAILURE") -> Target:
    return Target(address(number), address(number), "", notify)


def test_arrival_is_reported_to_who_asked_for_it_once() -> None:
    async def scene(stage: Stage) -> None:
        await stage.put(wished(0), Target("far@example.net", notify="SUCCESS"), wished(2, "FAILURE"), sender=address(1))
        await stage.empty(5)
        reports = stage.trace.named("bounce")
        assert {event["action"]: event["about"] for event in reports} == {
            "delivered": [address(0)], "relayed": ["far@example.net"]}
        delivered = next(event["bounce_id"] for event in reports if event["action"] == "delivered")
        text = stage.s1.bodies[delivered]
        assert b"Action: delivered" in text and b"Final-Recipient: rfc822; user0@example.com" in text
        assert address(2).encode() not in text
        assert len(reports) == len({event["bounce_id"] for event in reports} & stage.s1.bodies.keys())

    play(scene)


def test_nobody_is_told_of_what_nobody_asked_for() -> None:
    async def scene(stage: Stage) -> None:
        await stage.put(wished(0, ""), wished(2, "NEVER"), sender=address(1))
        await stage.empty(5)
        assert not stage.trace.named("bounce")

    play(scene)


def test_a_report_that_has_no_room_does_not_send_the_message_again() -> None:
    async def scene(stage: Stage) -> None:
        def full(id: str) -> None:
            raise Failed(again(452, "4.3.1", "full"))

        await stage.put(wished(0), sender=address(1))
        stage.spool.draft_named = full  # type: ignore[assignment, method-assign]
        await stage.empty(5)
        assert stage.trace.named("report dropped")
        assert stage.boxes() == {address(0): 1}

    play(scene)
