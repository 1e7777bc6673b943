"""What servers' own filters have filed, discarded, redirected and answered, and what of that is wrong."""

from __future__ import annotations

from dataclasses import replace

from onedomain.drill.filters import ANSWERED, REDIRECTED, Filters, Left, as_delivered, filtered, perhaps_consumed
from onedomain.drill.judge import judged
from onedomain.ledger.ledger import ACKED, APPEND, DELIVER, REFUSED, UNKNOWN, Act
from onedomain.ledger.verify import Found

WHO = "hanako@example.com"
FILTERS = Filters({WHO}, ("Filed",), filing="0", discarding="6", redirecting="9", answering="7")


def act(token: str, state: str = ACKED, op: str = DELIVER) -> Act:
    return Act(op, WHO, token, state, began=49.9, ended=50.0, folder="INBOX" if op == APPEND else None)


def found(token: str, folder: str = "INBOX") -> Found:
    return Found(WHO, "s1", folder, 1, token, frozenset())


def judge(acts: list[Act], there: list[Found], world: list[Left], spans: list[tuple[float, float]] | None = None):  # type: ignore[no-untyped-def]
    got = filtered(acts, there, world, FILTERS, {WHO: spans or []})
    judgement = judged(perhaps_consumed(acts, FILTERS), there, [], more=got.findings)
    return got, sorted((one.kind, one.token) for one in judgement.report.findings)


def test_what_is_filed_is_delivered_and_what_a_person_has_moved_or_another_kind_is_not() -> None:
    acts = [act("a0"), act("b0", op=APPEND), act("c1")]
    got = as_delivered([found(token, "Filed") for token in ("a0", "b0", "c1")], acts, FILTERS)
    assert [one.folder for one in got] == ["INBOX", "Filed", "Filed"]


def test_discarded_redirected_and_answered() -> None:
    acts = [act("a6"), act("b9"), act("c7"), act("d9", REFUSED), act("e6", UNKNOWN)]
    world = [Left("b9", REDIRECTED, 50), Left("c7", ANSWERED, 50)]
    got, findings = judge(acts, [found("c7")], world)
    assert not findings and not got.repeated
    assert got.counts == {"discarded": 1, REDIRECTED: 1, ANSWERED: 1}


def test_put_past_the_filter_it_is_in_the_mailbox() -> None:
    """The safety net's way to a new primary; the dead one may have redirected it already."""
    acts = [act("a6"), act("b9"), act("c9")]
    got, findings = judge(acts, [found("a6"), found("b9"), found("c9")], [Left("b9", REDIRECTED, 50)])
    assert not findings and not got.counts


def test_what_nobody_has_is_lost() -> None:
    assert judge([act("a9")], [], [])[1] == [("lost", "a9")]
    assert judge([act("a7")], [], [Left("a7", ANSWERED, 50)])[1] == [("lost", "a7")], "an answer is no message"
    assert judge([act("a6")], [found("a6"), found("a6")], [])[1] == [("doubled", "a6")]


def test_twice_into_the_world_only_around_a_death() -> None:
    acts = [act("a7"), act("b9")]
    twice = [Left("a7", ANSWERED, 50), Left("a7", ANSWERED, 58), Left("b9", REDIRECTED, 50), Left("b9", REDIRECTED, 58)]
    assert judge(acts, [found("a7")], twice)[1] == [("doubled", "a7"), ("doubled", "b9")]
    assert judge(acts, [found("a7")], twice, [(55, 60)])[1] == [("doubled", "a7"), ("doubled", "b9")]
    got, findings = judge(acts, [found("a7")], twice, [(49, 60)])
    assert not findings and [one.split()[1] for one in got.repeated] == ["a7:", "b9:"]


def test_what_nobody_asked_for() -> None:
    acts = [act("a1")]
    assert judge(acts, [found("a1")], [Left("a1", ANSWERED, 50)])[1] == [("misdelivered", "a1")]
    assert judge(acts, [found("a1")], [Left("x9", REDIRECTED, 50)])[1] == [("misdelivered", "x9")]


def test_where_nobody_filters_nothing_is_excused() -> None:
    """Accounts of servers without filters are in the same drill."""
    acts = [replace(act(token), account="taro@example.com") for token in ("a6", "b9", "c0")]
    there = [replace(found("c0", "Filed"), account="taro@example.com")]
    got = filtered(acts, there, [Left("b9", REDIRECTED, 50)], FILTERS, {})
    judgement = judged(perhaps_consumed(acts, FILTERS), as_delivered(there, acts, FILTERS), [], more=got.findings)
    findings = sorted((one.kind, one.token) for one in judgement.report.findings)
    assert findings == [("lost", "a6"), ("lost", "b9"), ("misdelivered", "b9"), ("misplaced", "c0")]
