"""How many UIDs may have been given that nobody has seen since: as many as the commands allow, or nobody can tell."""

from __future__ import annotations

import pytest

from onedomain.decision.link.growth import MOST, STORED, UNDER_WAY, Growth

FOLDERS = ("INBOX", "Sent", "Trash")
Told = tuple[str, str] | tuple[str, str, tuple[str, ...]]


def grown(*told: Told) -> Growth:
    growth = Growth()
    for what, folder, *ids in told:
        growth.told(what, folder, ids[0] if ids else ())
    return growth


@pytest.mark.parametrize(("told", "held", "allowed"), [
    ((), 0, {"INBOX": 0, "Sent": 0, "Trash": 0}),
    ((("STORE", "INBOX"), ("EXPUNGE", "Sent"), ("FETCH", "INBOX"), ("SUBSCRIBE", "Elsewhere")), 0,
     {"INBOX": 0, "Sent": 0, "Trash": 0}),
    ((("APPEND", "Sent"), ("APPEND", "Sent")), 0, {"INBOX": 0, "Sent": 2, "Trash": 0}),
    ((), 3, {"INBOX": 3, "Sent": 3, "Trash": 3}),  # Sieve files where it likes
    ((("DELIVER", "", ("id",)),), 1, {"INBOX": 1, "Sent": 1, "Trash": 1}),
    ((("DELIVER", ""),), 0, {"INBOX": 1, "Sent": 1, "Trash": 1}),  # in doubt
    ((("COPY", "Trash"),), 0, {"INBOX": 0, "Sent": 0}),
    ((("COPY 3", "Trash"), ("EXPUNGE", "Sent"), ("COPY 2", "Trash")), 1, {"INBOX": 1, "Sent": 1, "Trash": 6}),
    ((("COPY 3", "Trash"), ("COPY", "Trash"), ("COPY 1", "Trash")), 0, {"INBOX": 0, "Sent": 0}),
    ((("COPY 4294967295", "Trash"),), 0, {"INBOX": 0, "Sent": 0}),
    ((("MULTIAPPEND", "Sent"),), 0, {"INBOX": 0, "Trash": 0}),
    ((("MOVE", "Trash"), ("MOVE", "INBOX")), 0, {"Sent": 0}),
    ((("RENAME", "Sent"),), 0, {}),
    ((("DELETE", "Trash"),), 0, {}),
    ((("UNKNOWN", ""),), 0, {}),
    ((("", ""),), 0, {}),  # too many to tell apart
    ((("APPEND", "sent"),), 0, {}),  # which of them it is only the server knows
])
def test_what_was_told_and_what_may_have_come_of_it(
    told: tuple[Told, ...], held: int, allowed: dict[str, int]
) -> None:
    if "INBOX" in allowed:
        allowed = {**allowed, "INBOX": allowed["INBOX"] + UNDER_WAY}
    assert grown(*told).allowed(FOLDERS, held) == allowed


def test_of_any_number_of_names_so_many_are_kept() -> None:
    """A client may say what it likes while its link stands still."""
    growth = Growth()
    for part in range(4):
        growth.add(grown(*(("APPEND", f"{part} {number}") for number in range(MOST + 10))))
    assert len(growth.folders) <= 2 * MOST and growth.allowed(growth.folders, 0) == {}


def test_what_comes_during_a_pass_is_added() -> None:
    growth = grown(("APPEND", "Sent"))
    growth.add(grown(("APPEND", "Sent"), ("COPY", "Trash")))
    growth.add(grown(("APPEND", "Trash"), ("DELIVER", "")))
    assert growth.allowed(FOLDERS, 0) == {"INBOX": 1 + UNDER_WAY, "Sent": 3}
    growth.add(grown(("UNKNOWN", "")))
    assert growth.allowed(FOLDERS, 0) == {}


@pytest.mark.parametrize(("what", "brings"), [
    (STORED, True), ("UNKNOWN", True), ("", True), ("APPEND", False), ("MULTIAPPEND", False), ("REPLACE", False),
    ("DELIVER", False), ("COPY", False), ("MOVE", False), ("STORE", False), ("EXPUNGE", False), ("CREATE", False),
])  # fmt: skip
def test_what_only_clients_had_is_counted_when_they_were_told_ok(what: str, brings: bool) -> None:
    growth = Growth()
    growth.told("APPEND", "Sent", ())
    assert growth.brought == 0, "its OK is held"
    growth.told(what, "Sent", ())
    assert growth.brought == brings
    growth.unsure = True
    growth.told(what, "Sent", ())
    assert growth.brought == 2 * brings, "also where nobody can tell how many UIDs there are"
    other = Growth()
    other.told(STORED, "", ())
    growth.add(other)
    assert growth.brought == 2 * brings + 1


def test_that_an_ok_was_let_go_makes_no_uid() -> None:
    assert grown(("APPEND", "Sent"), (STORED, "")).allowed(FOLDERS, 0) == {"INBOX": UNDER_WAY, "Sent": 1, "Trash": 0}


def test_what_nobody_tells_may_have_been_anything() -> None:
    growth = Growth()
    growth.lost(waited=True)
    assert growth.unsure and not growth.unheard
    growth.lost(waited=False)
    assert growth.unheard == 1
    other = Growth()
    other.add(growth)
    assert other.unheard == 1
