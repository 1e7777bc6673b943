"""Message by message: each way to differ, as a table; whole accounts on simulated servers."""

from __future__ import annotations

import pytest

from onedomain.model.replica import FolderLink, LinkState, Row, Run
from onedomain.replica.comparison import Line, Verdict, compare, folder_lines
from tests.simulation.ends import ServerEnd
from tests.simulation.server import Server

SEEN = frozenset({"\\Seen"})
LINK = FolderLink("INBOX", "INBOX", runs=(Run(5, 9),), refused=(6,), untaken=frozenset({"Odd"}))


def rows(*given: tuple[int, frozenset[str], int]) -> dict[int, Row]:
    return {uid: Row(uid, flags, date) for uid, flags, date in given}


@pytest.mark.parametrize(
    ("here", "there", "lines"),
    [
        (rows((1, SEEN, 7)), rows((1, SEEN, 7)), [Line("INBOX", 1, 1, Verdict.SAME)]),
        (rows((1, SEEN | {"Odd"}, 7)), rows((1, SEEN, 7)), [Line("INBOX", 1, 1, Verdict.SAME)]),
        (rows((1, SEEN, 7)), rows((1, frozenset(), 7)), [Line("INBOX", 1, 1, Verdict.FLAGS, "\\Seen here,  there")]),
        (rows((1, SEEN, 7)), rows((1, SEEN, 8)), [Line("INBOX", 1, 1, Verdict.DATE, "7 here, 8 there")]),
        (rows((1, SEEN, 7)), {}, [Line("INBOX", 1, 0, Verdict.MISSING)]),
        (rows((6, SEEN, 7)), {}, [Line("INBOX", 6, 0, Verdict.REFUSED)]),
        (rows((5, SEEN, 7)), rows((9, SEEN, 7)), [Line("INBOX", 5, 9, Verdict.SAME)]),
        ({}, rows((3, SEEN, 7)), [Line("INBOX", 0, 3, Verdict.ONLY_THERE)]),
        (rows((9, SEEN, 7)), rows((9, SEEN, 7)), [Line("INBOX", 9, 0, Verdict.MISSING),
                                                  Line("INBOX", 0, 9, Verdict.ONLY_THERE)]),
    ],
)  # fmt: skip
def test_a_folder(here: dict[int, Row], there: dict[int, Row], lines: list[Line]) -> None:
    assert folder_lines(LINK, here, there) == lines


async def test_bytes_are_compared_if_wanted() -> None:
    source, target = Server("node", 1000), Server("node", 5000)
    for server, raw in ((source, b"Subject: a\r\n\r\none"), (target, b"Subject: a\r\n\r\ntwo")):
        server.append("INBOX", raw, frozenset(), 7, 1)
        server.append("INBOX", b"Subject: b\r\n\r\nsame", frozenset(), 7, 2)
    state = LinkState(1, (FolderLink("INBOX", "INBOX"), FolderLink("Old", "Old", gone=True)))
    plain = [line.verdict async for line in compare(ServerEnd(source), ServerEnd(target), state)]
    assert plain == [Verdict.SAME, Verdict.SAME]
    whole = [line.verdict async for line in compare(ServerEnd(source), ServerEnd(target), state, octets=True)]
    assert whole == [Verdict.BYTES, Verdict.SAME]
