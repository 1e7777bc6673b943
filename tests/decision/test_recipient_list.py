"""Many recipients become one envelope."""

import pytest

from onedomain.decision.recipient import Accept, resolve
from onedomain.decision.recipient_list import RecipientList, merge_notify
from onedomain.model.account import Account, Domain, Home, Level, Unit
from onedomain.model.address import parse_address
from onedomain.model.health import Load, Verdict
from onedomain.model.message import Target
from tests.directory.views import account, book


class Board:
    def __init__(self, *down: str) -> None:
        self._down = down

    def verdict(self, server: str) -> Verdict:
        return Verdict.SILENT if server in self._down else Verdict.UP

    def load(self, server: str) -> Load:
        return Load()


class Links:
    def __init__(self, *stopped: str) -> None:
        self._stopped = stopped

    def trouble(self, account: str) -> str:
        return "its link has stopped" if account in self._stopped else ""


ANN, JOE = account("ann@example.com"), account("joe@example.com")
VIEW = book(
    ANN, JOE, Account("pia@example.com", "acc", Home("s2")), Account("sam@example.com", "lab", Home("s2")),
    Account("max@example.com", "two", Home("s1", ("s2",))), Account("eva@example.com", "two", Home("s1")),
    Account("kim@example.com", "sure", Home("s1", ("s2",))), Account("leo@example.com", "sure", Home("s1")))
VIEW.configure(
    [Domain("example.com", "example.com")],
    [Unit("head"), Unit("acc", level=Level.PRIMARY, strict=True), Unit("lab", level=Level.PRIMARY),
     Unit("two", level=Level.REPLICA), Unit("sure", level=Level.REPLICA, strict=True)], VIEW.servers())


def added(names: list[str], *down: str, limit: int = 100, stopped: str = "") -> tuple[RecipientList, list[int]]:
    recipients = RecipientList(limit)
    codes = []
    for name in names:
        found = resolve(VIEW, parse_address(name), allow_outside=True)
        assert isinstance(found, Accept)
        failure = recipients.add(VIEW, Board(*down), found, name, "", Links(stopped))
        codes.append(failure.code if failure else 250)
    return recipients, codes


def test_no_account_and_no_outside_address_twice() -> None:
    names = ["ann@example.com", "ann+x@example.com", "X@a.net", "X@A.NET", "x@a.net"]
    recipients, codes = added(names)
    assert codes == [250] * 5
    assert [t.address for t in recipients.targets] == ["ann@example.com", "X@a.net", "x@a.net"]
    assert recipients.said["ann+x@example.com"] == ["ann@example.com"]


def test_limit_takes_all_of_one_recipient_or_none() -> None:
    recipients, codes = added(["ann@example.com", "joe@example.com", "ann@example.com"], limit=1)
    assert codes == [250, 452, 250]
    assert len(recipients.targets) == 1


@pytest.mark.parametrize(("names", "down", "codes", "waits", "missed"), [
    (["ann@example.com"], ["s1"], [250], False, False),
    (["pia@example.com"], [], [250], True, False),
    (["pia@example.com", "ann@example.com"], ["s2"], [451, 250], False, False),
    (["sam@example.com"], [], [250], True, False),
    (["sam@example.com"], ["s2"], [250], False, True),
])
def test_levels(names: list[str], down: list[str], codes: list[int], waits: bool, missed: bool) -> None:
    recipients, found = added(names, *down)
    assert (found, recipients.waits, bool(recipients.missed)) == (codes, waits, missed)
    assert not recipients.copied


@pytest.mark.parametrize(("name", "down", "stopped", "code", "copied", "waits", "missed"), [
    ("max", "", "", 250, True, True, ""),
    ("max", "s2", "", 250, False, True, "s2 is silent"),
    ("max", "", "max", 250, False, True, "its link has stopped"),
    ("max", "s1", "", 250, False, False, "s1 is silent"),
    ("eva", "", "", 250, False, True, "the account has no replica"),
    ("kim", "", "", 250, True, True, ""),
    ("kim", "s2", "", 451, False, False, ""),
    ("kim", "s1", "", 451, False, False, ""),
    ("kim", "", "kim", 451, False, False, ""),
    ("leo", "", "", 451, False, False, ""),
])
def test_level_replica(
    name: str, down: str, stopped: str, code: int, copied: bool, waits: bool, missed: str
) -> None:
    address = f"{name}@example.com"
    recipients, found = added([address], down, stopped=f"{stopped}@example.com")
    assert (found, recipients.waits, recipients.missed) == ([code], waits, missed)
    assert recipients.copied == (frozenset({address}) if copied else frozenset())


def test_one_home_that_is_down_keeps_a_message_from_waiting_for_any_other() -> None:
    recipients, _ = added(["max@example.com", "sam@example.com"])
    assert recipients.waits and recipients.copied == {"max@example.com"}
    recipients, _ = added(["eva@example.com", "max@example.com"])
    assert recipients.waits and recipients.copied == {"max@example.com"} and recipients.missed
    recipients, _ = added(["max@example.com", "sam@example.com"], "s2")
    assert not recipients.waits and not recipients.copied


@pytest.mark.parametrize(("one", "other", "merged"), [
    ("NEVER", "NEVER", "NEVER"), ("NEVER", "", "FAILURE,DELAY"), ("NEVER", "DELAY", "DELAY"),
    ("SUCCESS", "FAILURE", "SUCCESS,FAILURE"), ("", "SUCCESS", "SUCCESS,FAILURE,DELAY")])
def test_notify(one: str, other: str, merged: str) -> None:
    assert merge_notify(one, other) == merge_notify(other, one) == merged


def test_notify_of_a_recipient_named_twice() -> None:
    recipients = RecipientList(9)
    found = Accept((Target("ann@example.com", "ann@example.com"),), (ANN,))
    for notify in ("NEVER", "DELAY"):
        assert recipients.add(VIEW, Board(), found, "ann@example.com", notify, Links()) is None
    assert recipients.targets[0].notify == "DELAY"
