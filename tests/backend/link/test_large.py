"""A message that is larger than links carry, on real servers."""

from __future__ import annotations

import pytest

from onedomain.backend.link import connection
from onedomain.backend.link.connection import AROUND
from tests.backend.link.mailbox import append, client
from tests.backend.link.test_pairs import DATE, NAME, Pair, digest, mail
from tests.backend.link.test_pairs import pair as pair  # fixtures
from tests.backend.link.test_pairs import places as places

PAIRS = [("dovecot", "node"), ("cyrus", "dovecot"), ("dovecot", "generic")]


@pytest.mark.real
@pytest.mark.parametrize("pair", [pytest.param(each, id="-".join(each)) for each in PAIRS], indirect=True)
async def test_a_message_too_large_stays_and_the_link_goes_on(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes pass by, more of them than a response may have, and the session is as good as before."""
    monkeypatch.setattr(connection, "LARGEST", 200_000)
    with client(pair.primary.lab, NAME) as session:
        for number, size in ((1, 0), (2, AROUND + 400_000), (3, 150_000), (4, 0)):
            append(session, "INBOX", mail(number, size), "", DATE % number)
    await pair.quiet()
    bodies = pair.replica.look(NAME).bodies()
    assert [bodies[digest(mail(number, size))] for number, size in ((1, 0), (3, 150_000), (4, 0))] == [1, 1, 1]
    assert sum(bodies.values()) == 3 and not pair.kept.aside
    (alert,) = pair.kept.alerts
    assert "message 2 is not on the replica" in alert and "larger than links carry" in alert
    with client(pair.primary.lab, NAME) as session:
        append(session, "INBOX", mail(5, 300_000), "", DATE % 5)
        append(session, "INBOX", mail(6), "", DATE % 6)
    await pair.quiet()
    assert pair.replica.look(NAME).bodies()[digest(mail(6))] == 1 and len(pair.kept.alerts) == 2
