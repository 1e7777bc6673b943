"""What servers call accounts."""

from __future__ import annotations

import pytest

from onedomain.backend.names import mailbox_name, recipient_name
from onedomain.model.account import Account, Home
from onedomain.model.server import Endpoint, Server


def names(
    address: str, mailbox: str = "", form: str = "{local}@{domain}", rcpt: str = "{local}{tag}@{domain}"
) -> tuple[Server, Account]:
    here = Endpoint("127.0.0.1", 1)
    server = Server("s", "imap", here, here, mailbox_format=form, rcpt_format=rcpt)
    return server, Account(address, "unit", Home("s"), mailbox)


@pytest.mark.parametrize(
    ("expected", "arguments"),
    [
        ("hanako@example.com", ("hanako@example.com",)),
        ("h.sato@old.example", ("hanako@example.com", "h.sato@old.example")),
        ("hsato", ("hanako@example.com", "hsato", "{local}")),
        ("hsato@example.com", ("hanako@example.com", "hsato")),
        ("user.hanako", ("hanako@example.com", "", "user.{local}")),
        ("a..b@example.com", ("a..b@example.com",)),
        ("{domain}@example.com", ("{domain}@example.com",)),
    ],
)
def test_at_log_in(expected: str, arguments: tuple[str, ...]) -> None:
    assert mailbox_name(*names(*arguments)) == expected


@pytest.mark.parametrize(
    ("expected", "address", "arguments"),
    [
        ("hanako@example.com", "hanako@example.com", ("hanako@example.com",)),
        ("hanako+lists@example.com", "hanako+lists@sub.example.com", ("hanako@example.com",)),
        ("hanako+a+b@example.com", "hanako+a+b@example.com", ("hanako@example.com",)),
        ("hsato+x@old.example", "hanako+x@example.com", ("hanako@example.com", "hsato@old.example")),
        ("hanako@example.com", "hanako+lists@example.com", ("hanako@example.com", "", "{local}", "{local}@{domain}")),
        ("hanako+{domain}@example.com", "hanako+{domain}@example.com", ("hanako@example.com",)),
        ("c+c@example.com", "c+c@example.com", ("c+c@example.com",)),
        ("+x@example.com", "+x@example.com", ("+x@example.com",)),
    ],
)
def test_in_rcpt(expected: str, address: str, arguments: tuple[str, ...]) -> None:
    server, account = names(*arguments)
    assert recipient_name(server, account, address) == expected
