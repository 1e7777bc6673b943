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
    plain = [line.verdict async for line in compare(ServerEnd(source), ServerEnd(target), lambda: state)]
    assert plain == [Verdict.SAME, Verdict.SAME]
    whole = [line.verdict async for line in compare(ServerEnd(source), ServerEnd(target), lambda: state, octets=True)]
    assert whole == [Verdict.BYTES, Verdict.SAME]


async def test_folders_of_the_target_alone_are_told_of() -> None:
    """Or what is only there would be lost with it, unseen."""
    source, target = Server("node", 1000), Server("node", 5000)
    for server in (source, target):
        server.append("INBOX", b"Subject: a\r\n\r\none", frozenset(), 7, 1)
    for name in ("Old", "Own", "Bare"):
        target.create(name)
    for name in ("Old", "Own"):
        target.append(name, b"Subject: b\r\n\r\ntwo", frozenset(), 7, 2)
    state = LinkState(1, (FolderLink("INBOX", "INBOX"), FolderLink("Old", "Old", gone=True)))
    ends = ServerEnd(source), ServerEnd(target)
    found = [(line.folder, line.verdict) async for line in compare(*ends, lambda: state)]
    assert found == [("INBOX", Verdict.SAME), ("Old", Verdict.ONLY_THERE), ("Own", Verdict.ONLY_THERE)]
    some = {"Own": (2, 3), "Bare": (1,)}
    assert [(line.folder, line.target_uid) async for line in compare(*ends, lambda: state, only=some)] == [("Own", 2)]


async def test_a_folder_that_the_target_lost() -> None:
    source, target = Server("node", 1000), Server("node", 5000)
    source.create("Old")
    source.append("Old", b"Subject: a\r\n\r\none", frozenset(), 7, 1)
    state = LinkState(1, (FolderLink("Old", "Old"),))
    found = [(line.folder, line.verdict) async for line in compare(ServerEnd(source), ServerEnd(target), lambda: state)]
    assert found == [("Old", Verdict.MISSING)]


async def test_what_has_just_come_is_not_only_there() -> None:
    """Between the reading of one side and the other a message comes and is carried."""
    source, target = Server("node", 1000), Server("node", 5000)
    for server in (source, target):
        server.append("INBOX", b"Subject: a\r\n\r\none", frozenset(), 7, 1)
    ends = ServerEnd(source), ServerEnd(target)
    asked: list[str] = []

    def comes(question: str) -> None:
        asked.append(question)
        if asked.count("read") == 2 and asked[-1] == "read":
            for server in (source, target):
                server.append("INBOX", b"Subject: b\r\n\r\ntwo", frozenset(), 7, 2)

    for end in ends:
        end.step = comes
    state = LinkState(1, (FolderLink("INBOX", "INBOX"),))
    assert {line.verdict async for line in compare(*ends, lambda: state)} == {Verdict.SAME, Verdict.MISSING}
