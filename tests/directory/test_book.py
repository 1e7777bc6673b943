"""The directory in memory: deltas applied, sessions that end, epochs that never go back, and what 100,000 cost."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.directory.book import Book
from onedomain.directory.delta import Delta, parts
from onedomain.model.account import Account, Alias, Home
from tests.directory.views import account, book, server

TARO = account("taro@example.com")
HANA = account("hana@example.com")


def moved(row: Account, epoch: int, primary: str = "s2") -> Account:
    return replace(row, home=Home(primary, (), epoch))


def test_changes() -> None:
    view = book(TARO, HANA, Alias("info@example.com", (TARO.address,)))
    assert view.apply(Delta(2, accounts=(replace(TARO, password="x"),), gone_aliases=("info@example.com",))) == ()
    assert view.account(TARO.address) == replace(TARO, password="x")
    assert view.alias("info@example.com") is None
    assert (view.seq, len(view)) == (2, 2)


@pytest.mark.parametrize(
    ("delta", "ends"),
    [
        (Delta(2, accounts=(moved(TARO, 2),)), True),
        (Delta(2, accounts=(moved(TARO, 2, "s1"),)), True),
        (Delta(2, accounts=(replace(TARO, enabled=False),)), True),
        (Delta(2, accounts=(replace(TARO, mailbox="other"),)), True),
        (Delta(2, gone_accounts=(TARO.address,)), True),
        (Delta(2, whole=True), True),
        (Delta(2, accounts=(moved(TARO, 2),), whole=True), True),
        (Delta(2, accounts=(replace(TARO, unit="sales", forward_to=("a@b.example",)),)), False),
        (Delta(2, accounts=(TARO,), whole=True), False),
        (Delta(2, gone_accounts=("who@example.com",)), False),
    ],
)
def test_which_sessions_end(delta: Delta, ends: bool) -> None:
    assert book(TARO).apply(delta) == ((TARO.address,) if ends else ())


@pytest.mark.parametrize("whole", [False, True])
def test_an_older_epoch_is_refused(whole: bool) -> None:
    view = book(moved(TARO, 7, "s2"))
    assert view.apply(Delta(2, accounts=(replace(moved(TARO, 6, "s1"), unit="sales"),), whole=whole)) == ()
    found = view.account(TARO.address)
    assert found is not None
    assert (found.home, found.unit) == (Home("s2", (), 7), "sales")
    assert view.conflicts == 1


@pytest.mark.parametrize("whole", [False, True])
def test_an_account_that_comes_back_does_not_bring_an_old_epoch(whole: bool) -> None:
    view = book(moved(TARO, 7))
    view.apply(Delta(2, whole=True) if whole else Delta(2, gone_accounts=(TARO.address,)))
    again = Book([], [], [])
    for part in parts(view.whole()):
        again.apply(Delta.decode(part.encode()))
    again.apply(Delta(3, accounts=(TARO,)))
    found = again.account(TARO.address)
    assert found is not None and found.home.epoch == 7


def test_a_whole_directory_takes_effect_at_its_end() -> None:
    view = book(TARO)
    pieces = list(parts(Delta(9, accounts=(HANA,), aliases=(Alias("@example.com", ("a@b.example",)),), whole=True)))
    assert len(pieces) == 4
    for piece in pieces[:-1]:
        assert view.apply(piece) == ()
        assert view.account(TARO.address) == TARO and view.account(HANA.address) is None
    assert view.apply(pieces[-1]) == (TARO.address,)
    assert view.account(TARO.address) is None and view.account(HANA.address) == HANA
    assert view.seq == 9


def test_draining_by_the_operator_and_by_the_file() -> None:
    view = book()
    view.apply(Delta(2, draining=("s1",)))
    assert [found.draining for found in view.servers()] == [True, False]
    view.configure([], [], [server("s1"), server("s2", draining=True)])
    assert [found.draining for found in view.servers()] == [True, True]
    view.apply(Delta(3))
    view.apply(Delta(4, draining=()))
    assert [found.draining for found in view.servers()] == [False, True]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ACCOUNTS = st.builds(
    Account,
    address=TEXT,
    unit=TEXT,
    home=st.builds(Home, TEXT, st.lists(TEXT, max_size=2).map(tuple), st.integers(1, 2**60)),
    mailbox=TEXT,
    password=TEXT,
    forward_to=st.lists(TEXT, max_size=2).map(tuple),
    keep_copy=st.booleans(),
    enabled=st.booleans(),
)
ALIASES = st.builds(Alias, TEXT, st.lists(TEXT, max_size=3).map(tuple))
DELTAS = st.builds(
    Delta,
    seq=st.integers(0, 2**60),
    accounts=st.lists(ACCOUNTS, max_size=3).map(tuple),
    aliases=st.lists(ALIASES, max_size=3).map(tuple),
    gone_accounts=st.lists(TEXT, max_size=2).map(tuple),
    gone_aliases=st.lists(TEXT, max_size=2).map(tuple),
    draining=st.none() | st.lists(TEXT, max_size=2).map(tuple),
    epochs=st.lists(st.tuples(TEXT, st.integers(1, 2**60)), max_size=2).map(tuple),
    whole=st.booleans(),
    more=st.booleans(),
)


@settings(max_examples=100, deadline=None)
@given(DELTAS)
def test_a_delta_travels_as_one_line(delta: Delta) -> None:
    line = delta.encode()
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert Delta.decode(line) == delta


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40) | st.sampled_from([b"[]", b"null", b'{"seq":1,"accounts":[[1]]}', b'{"seq":"x"}']))
def test_anything_else_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError, match="no directory delta"):
        Delta.decode(line)


@pytest.mark.slow
def test_100_000_accounts_load_in_seconds() -> None:
    hashed = "$argon2id$v=19$m=65536,t=3,p=4$" + "s" * 22 + "$" + "h" * 43
    rows = tuple(
        Account(f"user{i}@example.com", "head", Home(f"s{i % 3}"), password=f"{hashed}{i}") for i in range(100_000)
    )
    lines = [part.encode() for part in parts(Delta(1, accounts=rows, whole=True))]
    view = Book([], [], [])
    worst = 0.0
    start = time.process_time()
    for line in lines:
        before = time.process_time()
        view.apply(Delta.decode(line))
        worst = max(worst, time.process_time() - before)
    assert len(view) == 100_000
    assert time.process_time() - start < 10
    assert worst < 0.5, "no piece stops a worker for long"
