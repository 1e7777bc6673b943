"""As whom somebody may write."""

import pytest

from onedomain.decision.sender import check_sender
from onedomain.model.account import Alias
from onedomain.model.address import parse_address
from tests.directory.views import account, book

VIEW = book(
    account("ann@example.com"), account("joe@example.com", "ann@example.com"), account("a..b@example.com"),
    Alias("sales@example.com", ("ann@example.com", "joe@example.com")),
    Alias("info@example.com", ("sales@example.com",)),
    Alias("round@example.com", ("round@example.com",)),
    Alias("out@example.com", ("ann@example.net", "not an address")))


@pytest.mark.parametrize(("who", "sender", "may"), [
    ("ann@example.com", "ann@example.com", True),
    ("ann@example.com", "Ann@EXAMPLE.com", True),
    ("ann@example.com", "ann+list@example.com", True),
    ("ann@example.com", "ann@example.co.jp", True),
    ("ann@example.com", "sales@example.com", True),
    ("ann@example.com", "info@example.com", True),
    ("ann@example.com", "joe@example.com", False),
    ("ann@example.com", "nobody@example.com", False),
    ("ann@example.com", "ann@example.net", False),
    ("ann@example.com", "out@example.com", False),
    ("ann@example.com", "round@example.com", False),
    ("a..b@example.com", "a..b@example.com", True),
    ("a..b@example.com", '"a..b"@example.com', True),
    ("joe@example.com", "ann@example.com", False),
])
def test_table(who: str, sender: str, may: bool) -> None:
    failure = check_sender(VIEW, who, parse_address(sender))
    assert (failure is None) is may
    if failure is not None:
        assert (failure.code, failure.enhanced) == (553, "5.7.1")
