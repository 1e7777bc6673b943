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


ANN, JOE = account("ann@example.com"), account("joe@example.com")
VIEW = book(ANN, JOE, Account("pia@example.com", "acc", Home("s2")), Account("sam@example.com", "lab", Home("s2")))
VIEW.configure(
    [Domain("example.com", "example.com")],
    [Unit("head"), Unit("acc", level=Level.PRIMARY, strict=True), Unit("lab", level=Level.PRIMARY)], VIEW.servers())


def added(names: list[str], *down: str, limit: int = 100) -> tuple[RecipientList, list[int]]:
    recipients = RecipientList(limit)
    codes = []
    for name in names:
        found = resolve(VIEW, parse_address(name), allow_outside=True)
        assert isinstance(found, Accept)
        failure = recipients.add(VIEW, Board(*down), found, name, "")
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
    assert (found, recipients.waits, recipients.missed) == (codes, waits, missed)


@pytest.mark.parametrize(("one", "other", "merged"), [
    ("NEVER", "NEVER", "NEVER"), ("NEVER", "", "FAILURE,DELAY"), ("NEVER", "DELAY", "DELAY"),
    ("SUCCESS", "FAILURE", "SUCCESS,FAILURE"), ("", "SUCCESS", "SUCCESS,FAILURE,DELAY")])
def test_notify(one: str, other: str, merged: str) -> None:
    assert merge_notify(one, other) == merge_notify(other, one) == merged


def test_notify_of_a_recipient_named_twice() -> None:
    recipients = RecipientList(9)
    found = Accept((Target("ann@example.com", "ann@example.com"),), (ANN,))
    for notify in ("NEVER", "DELAY"):
        assert recipients.add(VIEW, Board(), found, "ann@example.com", notify) is None
    assert recipients.targets[0].notify == "DELAY"
