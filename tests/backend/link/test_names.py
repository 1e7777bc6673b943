"""Names of folders that one real server has and another will not: the messages are carried, the name is another one."""

from __future__ import annotations

from hashlib import sha256

import pytest

from tests.backend.link.mailbox import append, client, done, quote
from tests.backend.link.test_pairs import DATE, NAME, Pair, mail
from tests.backend.link.test_pairs import pair as pair  # a fixture
from tests.backend.link.test_pairs import places as places  # a fixture

pytestmark = pytest.mark.real


@pytest.mark.parametrize(("pair", "home", "deep"), [
    pytest.param(("node", "dovecot"), "~home", "~home/below", id="node-dovecot"),
    pytest.param(("cyrus", "dovecot"), "~home", "..", id="cyrus-dovecot"),
    pytest.param(("dovecot", "node"), "a" * 200 + "/" + "b" * 60, "c" * 200 + "/" + "d" * 60, id="dovecot-node"),
], indirect=["pair"])  # fmt: skip
async def test_a_name_that_the_replica_will_not_have(pair: Pair, home: str, deep: str) -> None:
    place = pair.primary
    with client(place.lab, NAME) as session:
        for number, name in enumerate((home, deep, "Lists")):
            done(session.create(quote(place.path(name))))
            done(session.subscribe(quote(place.path(name))))
            append(session, place.path(name), mail(number), "\\Seen", DATE % number)
    await pair.quiet()
    told = [alert for alert in pair.kept.alerts if "will not have a folder named" in alert]
    assert len(told) == 2, pair.kept.alerts
    called = {link.source_name: link.target_name for link in pair.kept.state.folders}
    copied = pair.replica.look()
    for number, name in enumerate((home, deep, "Lists")):
        path = tuple(called[place.path(name)].removeprefix(pair.replica.prefix).split(pair.replica.separator))
        [message] = copied.boxes[path].messages.values()
        assert message.digest == sha256(mail(number)).hexdigest() and path in copied.subscribed

    # A good name becomes a bad one, and one of the bad ones a good one.
    with client(place.lab, NAME) as session:
        done(session.rename(quote(place.path("Lists")), quote(place.path(home + "2"))))
        done(session.rename(quote(place.path(deep)), quote(place.path("Fine"))))
    await pair.quiet()
    called = {link.source_name: link.target_name for link in pair.kept.state.folders}
    assert called[place.path("Fine")] == pair.replica.path("Fine")
    assert pair.replica.path("Lists") not in called.values(), "the old name is free"
    assert len(pair.kept.alerts) == 3
