"""Many messages at once, which several sessions of the account append: one order, whatever happens on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from onedomain.backend.link import writing
from onedomain.backend.link.base import LinkEnd
from onedomain.backend.link.connection import Connection
from onedomain.backend.link.imap_end import ImapLinks
from onedomain.decision.link.actions import Copied, Refused
from onedomain.model.failure import Failed
from onedomain.model.replica import Numbering
from tests.backend.contract import account
from tests.backend.link.contract import NAME, Case, letters, look, text
from tests.backend.link.test_real import dovecot_server
from tests.backend.test_real import ACL

COUNT = 260
LARGEST = "  quota_max_mail_size = 20k\n"
BODIES = [text(number, 2000) for number in range(COUNT)]


@pytest.fixture(params=["sdbox", "mdbox", "maildir", "mbox"])
async def case(
    request: pytest.FixtureRequest, start_dovecot: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Case]:
    """Two that write one file per message, and two that lock files for several."""
    monkeypatch.setattr(writing, "STALL", 0.5)
    lab = start_dovecot(plugins=ACL + LARGEST, format=request.param)
    lab.prepare(NAME)  # Dovecot dies at times of several that open a new mailbox at once; a copy makes folders first
    case = Case(lab, dovecot_server(lab), Numbering.RAISED)
    yield case
    await case.close()


@pytest.fixture
def opened(case: Case, monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """All sessions that are opened, as they come."""
    sessions: list[Connection] = []
    plain = Connection.open

    async def open(*asked: Any) -> Connection:
        sessions.append(await plain(*asked))
        return sessions[-1]

    monkeypatch.setattr(Connection, "open", open)
    return sessions


async def append(case: Case, end: LinkEnd, bodies: list[bytes]) -> tuple[Copied | Refused, ...]:
    """With flags that may be said at once and such that may not."""
    every = letters(case, bodies, 1)
    flags = [frozenset({"\\Seen"}), frozenset({"Work", "$Label1"}), frozenset({"a&b"})]
    return await end.append("INBOX", [replace(each, flags=flags[i % 3]) for i, each in enumerate(every)])


def there(case: Case) -> list[bytes]:
    shown = look(case)
    assert list(shown) == list(range(1, len(shown) + 1))
    return [raw for _, raw in shown.values()]


@pytest.mark.real
async def test_they_lie_in_their_order(case: Case, opened: list[Connection]) -> None:
    async with case.end() as end:
        done = await append(case, end, BODIES)
        assert [each.uid for each in done if isinstance(each, Copied)] == list(range(1, COUNT + 1))
        assert there(case) == BODIES
        assert len(opened) == 4 and sum(each.good for each in opened) == 4
        assert [type(each) for each in await append(case, end, BODIES[:2])] == [Copied, Copied]
    [links] = case.made
    assert isinstance(links, ImapLinks) and links._sessions.idle == 1 and not links._sessions.crowded
    await case.close()
    assert not any(each.good for each in opened)


@pytest.mark.real
async def test_nothing_that_lies_behind_a_refused_one_is_there(case: Case, opened: list[Connection]) -> None:
    bodies = [*BODIES[:77], text(77, 40_000), *BODIES[78:]]
    async with case.end() as end:
        done = await append(case, end, bodies)
        assert len(done) == 78 and isinstance(done[77], Refused)
        assert there(case) == bodies[:77]
        rest = await append(case, end, bodies[78:])  # by the same session: what was on its way was taken back
        assert [each.uid for each in rest if isinstance(each, Copied)] == list(range(78, COUNT))
        assert there(case) == bodies[:77] + bodies[78:]


@pytest.mark.real
@pytest.mark.parametrize("case", ["sdbox", "maildir"], indirect=True)  # where locks are held it may never have begun
async def test_when_one_of_them_breaks_what_is_there_is_a_beginning(
    case: Case, opened: list[Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, broken = writing.Half.begin, 0

    async def breaking(half: writing.Half) -> None:
        nonlocal broken
        await plain(half)
        if len(opened) == 4 and half._connection is opened[2]:
            broken += 1
            opened[2].session.close()

    monkeypatch.setattr(writing.Half, "begin", breaking)
    links = case.links()
    end = await links.end(account(NAME))
    with pytest.raises(Failed):
        await append(case, end, BODIES)
    await end.close(broken=True)
    await links.close()
    assert broken and not any(each.good for each in opened)
    found = there(case)
    assert found == BODIES[: len(found)] and len(found) < COUNT


@pytest.mark.real
async def test_without_another_place_one_session_does_it_all(case: Case, opened: list[Connection]) -> None:
    links = case.links()
    assert isinstance(links, ImapLinks)
    links._sessions._limits = replace(links._sessions._limits, size=2)
    async with asyncio.timeout(60), case.end() as end:
        await append(case, end, BODIES)
        assert there(case) == BODIES
    assert len(opened) == 1
