"""Who is meant by a login name."""

from __future__ import annotations

import pytest

from onedomain.decision.login_name import account_of
from onedomain.model.account import Alias
from tests.directory.views import account, book

VIEW = book(
    account("joe@example.com"),
    account("a..b@example.com"),
    account("joe+x@example.com"),
    Alias("j.doe@example.com", ("joe@example.com",)),
    Alias("jd@example.com", ("j.doe@example.co.jp",)),
    Alias("both@example.com", ("joe@example.com", "a..b@example.com")),
    Alias("out@example.com", ("joe@elsewhere.org",)),
    Alias("loop@example.com", ("loop@example.com",)),
    Alias("@example.com", ("joe@example.com",)),
)


@pytest.mark.parametrize(
    "login, address",
    [
        ("joe", "joe@example.com"),
        (" Joe ", "joe@example.com"),
        ("JOE@Example.COM", "joe@example.com"),
        ("joe@example.co.jp", "joe@example.com"),
        ("a..b", "a..b@example.com"),
        ("joe+x", "joe+x@example.com"),
        ("j.doe", "joe@example.com"),
        ("jd@example.co.jp", "joe@example.com"),
        ("joe+tag", None),
        ("both", None),
        ("out", None),
        ("loop", None),
        ("nobody", None),
        ("", None),
        ("@example.com", None),
        ("joe@elsewhere.org", None),
        ("joe doe", None),
        ("joe@", None),
    ],
)
def test_names(login: str, address: str | None) -> None:
    found = account_of(VIEW, login, "example.com")
    assert (found.address if found else None) == address
