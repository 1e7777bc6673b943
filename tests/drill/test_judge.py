"""What may be swallowed with a dead primary and what may not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onedomain.drill.judge import Death, by_folder, judged
from onedomain.ledger.ledger import ACKED, APPEND, COPY, DELIVER, EXPUNGE, MOVE, STORE, UNKNOWN, Act
from onedomain.ledger.verify import Found

WHO = "hanako@example.com"
DEATH = Death("s1", 100.0, frozenset({WHO}), {WHO: 95.0})


def act(op: str, token: str, at: float, **details: object) -> Act:
    return Act(op, WHO, token, ACKED, began=at - 0.1, ended=at, **details)  # type: ignore[arg-type]


def found(token: str, folder: str = "INBOX", *flags: str, uid: int = 1) -> Found:
    return Found(WHO, "s2", folder, uid, token, frozenset(flags))


def test_deliveries_and_appends_are_never_excused() -> None:
    acts = [act(DELIVER, "a", 99.9), act(APPEND, "b", 99.9, folder="Sent"), act(DELIVER, "c", 99.9)]
    got = judged(acts, [found("c"), found("c", uid=2)], [DEATH])
    assert not got.ok and not got.swallowed
    findings = sorted((one.kind, one.token) for one in got.report.findings)
    assert findings == [("doubled", "c"), ("lost", "a"), ("lost", "b")]


def test_changes_that_the_link_had_not_covered_are_counted() -> None:
    acts = [act(DELIVER, token, 50) for token in "abcd"]
    acts += [act(MOVE, "a", 99.5, folder="INBOX", target="Work"),
             act(STORE, "b", 98, folder="INBOX", added=("\\Seen",)), act(EXPUNGE, "c", 99.9, folder="INBOX"),
             act(COPY, "d", 99.8, folder="INBOX", target="Work")]
    got = judged(acts, [found(token) for token in "abcd"], [DEATH])
    assert got.ok, got.report.table()
    assert [(one.op, one.folder, round(one.before, 1)) for one in sorted(got.swallowed, key=lambda one: one.op)] == [
        (COPY, "Work", 0.2), (EXPUNGE, "INBOX", 0.1), (MOVE, "Work", 0.5), (STORE, "INBOX", 2.0)]
    assert by_folder(got.swallowed)[0] == (WHO, "INBOX", 2, 2.0)
    assert got.changes == 4


def test_changes_that_it_had_covered_or_of_others_are_not() -> None:
    acts = [act(DELIVER, "a", 50), act(MOVE, "a", 80, folder="INBOX", target="Work")]
    behind = replace(DEATH, covered={WHO: 75.0})
    assert judged(acts, [found("a")], [behind]).swallowed[0].before == 20, "its replica had been away"
    assert [one.kind for one in judged(acts, [found("a")], [DEATH]).report.findings] == ["misplaced"]
    acts = [act(DELIVER, "a", 50), act(MOVE, "a", 99.9, folder="INBOX", target="Work")]
    assert not judged(acts, [found("a")], [replace(DEATH, covered={})]).ok, "nothing was known to be missing"
    acts = [act(DELIVER, "a", 50), act(MOVE, "a", 99, folder="INBOX", target="Work")]
    other = Death("s9", 100.0, frozenset({"taro@example.com"}))
    assert not judged(acts, [found("a")], [other]).ok
    acts = [act(DELIVER, "a", 50), act(MOVE, "a", 103, folder="INBOX", target="Work")]
    assert not judged(acts, [found("a")], [DEATH]).ok, "the new primary has answered that"
    acts = [act(DELIVER, "a", 50), act(MOVE, "a", 100.2, folder="INBOX", target="Work")]
    assert judged(acts, [found("a")], [DEATH]).ok, "it was on its way"
    acts = [act(DELIVER, "a", 50), act(MOVE, "a", 101.5, folder="INBOX", target="Work")]
    assert judged(acts, [found("a")], [replace(DEATH, took=1.0)]).ok, "one process of many died a second later"
    assert not judged(acts, [found("a")], [DEATH]).ok


def test_a_message_that_a_move_made_two_of_is_a_finding() -> None:
    acts = [act(DELIVER, "a", 50), act(MOVE, "a", 99, folder="INBOX", target="Work")]
    got = judged(acts, [found("a"), found("a", "Work")], [DEATH])
    assert [one.kind for one in got.report.findings] == ["doubled"]


@pytest.mark.parametrize("death", [Death("s1", 100.0, frozenset(), stayed=frozenset({WHO})), DEATH],
                         ids=["stayed", "came back as the replica"])
def test_a_server_that_was_killed_in_the_middle_of_a_move_may_come_back_with_both(death: Death) -> None:
    """Cyrus does. Where the replica has followed, its return brings what it has in the second folder."""
    move = replace(act(MOVE, "a", 100.1, folder="INBOX", target="Work"), state=UNKNOWN)
    acts = [act(DELIVER, "a", 50), move]
    got = judged(acts, [found("a"), found("a", "Work")], [death])
    assert got.ok and [(one.op, one.folder) for one in got.swallowed] == [(MOVE, "Work")]
    assert not judged(acts, [found("a"), found("a"), found("a", "Work")], [death]).ok
    assert not judged(acts, [], [death]).ok, "nor may it be lost"
    earlier = [act(DELIVER, "a", 50), replace(move, began=90.0, ended=91.0)]
    assert not judged(earlier, [found("a"), found("a", "Work")], [death]).ok
    answered = [act(DELIVER, "a", 50), replace(move, state=ACKED)]
    assert not judged(answered, [found("a"), found("a", "Work")], [death]).ok


def test_an_account_that_could_not_be_read_is_no_clean_one() -> None:
    got = judged([act(DELIVER, "a", 50)], [], [DEATH], unread={WHO: "s2: refused"})
    assert not got.ok and [one.kind for one in got.report.findings] == ["unread"]
