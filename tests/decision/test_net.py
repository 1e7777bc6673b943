"""What becomes of a message that the safety net holds, as a table."""

import pytest

from onedomain.decision.net import Fate, fate, is_linked
from onedomain.model.account import Account, Domain, Home, Unit
from onedomain.model.server import Endpoint, Server, ServerClass
from tests.directory.views import book

NOWHERE = Endpoint("127.0.0.1", 1)


def account(home: Home) -> Account:
    return Account("ann@example.com", "head", home)


@pytest.mark.parametrize(("primary", "replicas", "linked"), [
    ("s1", ("s2",), True), ("s1", (), False), ("theirs", ("s2",), False), ("mixed", ("s2",), True),
    ("unknown", ("s2",), True)])
def test_is_linked(primary: str, replicas: tuple[str, ...], linked: bool) -> None:
    view = book()
    view.configure([Domain("example.com", "example.com")], [Unit("head")], [
        Server("s1", "imap", NOWHERE, NOWHERE), Server("s2", "imap", NOWHERE, NOWHERE),
        Server("mixed", "imap", NOWHERE, NOWHERE, class_=ServerClass.SHARED),
        Server("theirs", "imap", NOWHERE, NOWHERE, class_=ServerClass.FOREIGN)])
    assert is_linked(view, account(Home(primary, replicas))) is linked
    assert not is_linked(view, None)


@pytest.mark.parametrize(("home", "linked", "wanted"), [
    (Home("s1", ("s2",), 3), True, Fate.HOLD),
    (Home("s1", ("s2",), 3), False, Fate.LET_GO),                # its server is somebody else's now
    (Home("s1", (), 3), False, Fate.LET_GO),
    (Home("s1", ("s2",), 2), True, Fate.HOLD),                   # an old row: the book knows better soon
    (Home("s2", ("s1",), 4, pending=True), True, Fate.WAIT),
    (Home("s2", ("s1",), 4), True, Fate.RESCUE),
    (Home("s2", (), 4), False, Fate.RESCUE),                     # also where nobody copies it any further
    (Home("s1", ("s3",), 4), True, Fate.RENEW),                  # another replica
    (Home("s1", (), 4), False, Fate.LET_GO),
    (Home("s1", ("s2",), 5), True, Fate.RESCUE),                 # there and back: what this edge never saw
])
def test_fate_of_what_s1_took_in_epoch_3(home: Home, linked: bool, wanted: Fate) -> None:
    assert fate(account(home), linked, 3, "s1") is wanted


def test_an_account_that_is_not_in_the_directory_waits() -> None:
    assert fate(None, False, 3, "s1") is Fate.WAIT
