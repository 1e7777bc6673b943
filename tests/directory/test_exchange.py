"""CSV out and in: exact both ways, all lines or none, every wrong line with its number."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.decision.placement import QuietBoard
from onedomain.directory.book import Book
from onedomain.directory.exchange import (
    Report,
    export_accounts,
    export_aliases,
    import_accounts,
    import_aliases,
)
from onedomain.directory.repository import Repository
from onedomain.model.account import Account, Alias, Home
from tests.directory.views import account, book

VIEW: Book = book()
ROWS = [
    Account(
        address="a..b@example.com",
        unit="head",
        home=Home("s1", ("s2",), 7),
        mailbox='box, "1"',
        password="{PLAIN} x ",
        forward_to=("a@b.example", '"x y"@c.example'),
        keep_copy=False,
    ),
    account("hana@example.com", enabled=False),
    account("taro+箱@example.com"),
]
ALIASES = [Alias("@example.com", ("taro@example.com",)), Alias("info@example.com", ("a@b.example", '"x y"@c.example'))]


async def load(repository: Repository, text: str, *, dry_run: bool = False) -> Report:
    return await import_accounts(repository, VIEW, QuietBoard(), text, dry_run=dry_run)


def errors(report: Report) -> list[tuple[int, str]]:
    return [(line, error.key) for line, error in report.errors]


async def test_round_trip(repository: Repository) -> None:
    text = "".join(export_accounts(ROWS))
    report = await load(repository, text)
    assert (len(report.added), report.changed, report.errors) == (3, [], [])
    assert await repository.accounts() == ROWS
    assert "".join(export_accounts(await repository.accounts())) == text
    report = await load(repository, "\ufeff" + text.replace("\r\n", "\n"))
    assert (report.added, report.changed, report.unchanged) == ([], [], 3)
    aliases = "".join(export_aliases(ALIASES))
    assert len((await import_aliases(repository, VIEW, aliases)).added) == 2
    assert await repository.aliases() == ALIASES
    assert (await import_aliases(repository, VIEW, aliases)).unchanged == 2
    assert (await repository.version()).seq == 5, "what did not change is not in the log"


async def test_columns_that_are_not_there_change_nothing(repository: Repository) -> None:
    await load(repository, "".join(export_accounts(ROWS)))
    report = await load(repository, "enabled,address\nno,TARO+箱@example.co.jp\n")
    assert report.changed == ["taro+箱@example.com"]
    assert await repository.account("taro+箱@example.com") == replace(ROWS[2], enabled=False)


async def test_new_accounts_are_placed_and_epochs_grow(repository: Repository) -> None:
    report = await load(repository, "address,unit\n" + "".join(f"n{i}@example.com,head\n" for i in range(10)))
    assert len(report.added) == 10
    assert await repository.count() == {("head", "s1"): 5, ("head", "s2"): 5}
    first = await repository.account("n0@example.com")
    assert first is not None
    other = "s2" if first.home.primary == "s1" else "s1"
    await load(repository, f"address,primary,epoch\nn0@example.com,{other},50\n")
    moved = await repository.account("n0@example.com")
    assert moved is not None and moved.home == Home(other, (), 2)
    async with repository.writing() as writer:
        await writer.remove_account("n0@example.com")
    await load(repository, "address,unit\nn0@example.com,head\n")
    back = await repository.account("n0@example.com")
    assert back is not None and back.home.epoch == 3


async def test_dry_run(repository: Repository) -> None:
    report = await load(repository, "".join(export_accounts(ROWS)), dry_run=True)
    assert len(report.added) == 3
    assert await repository.accounts() == [] and (await repository.version()).seq == 0


async def test_all_or_nothing_with_line_numbers(repository: Repository) -> None:
    async with repository.writing() as writer:
        await writer.set_alias(Alias("info@example.com", ("taro@example.com",)))
    report = await load(
        repository,
        "address,unit,primary,password,keep_copy,epoch\r\n"
        "good@example.com,head,s1,,,\r\n"
        "\r\n"
        'bad,head,s1,"{PLAIN}x",,\r\n'
        "x@example.com,nix,s1,,,\r\n"
        "x@example.com,head,s9,,,\r\n"
        "x@example.com,head,s1,secret,,\r\n"
        "x@example.com,head,s1,,perhaps,\r\n"
        "x@example.com,head,s1,,,-1\r\n"
        "x@example.com,head,s1\r\n"
        "GOOD@example.com,head,s1,,,\r\n"
        "info@example.com,head,s1,,,\r\n"
        "new@example.com,,s1,,,\r\n",
    )
    assert errors(report) == [
        (4, "bad_address"),
        (5, "unknown_unit"),
        (6, "unknown_server"),
        (7, "bad_password"),
        (8, "bad_yes"),
        (9, "bad_epoch"),
        (10, "cells"),
        (11, "line_twice"),
        (12, "taken"),
        (13, "no_unit"),
    ]
    assert await repository.accounts() == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [(1, "no_heads")]),
        ("\n\n", [(1, "no_heads")]),
        ("name,unit\n", [(1, "unknown_column")]),
        ("address,address\n", [(1, "column_twice")]),
        ("unit\n", [(1, "no_heads")]),
        ('address,unit\n"a@example.com,head\n', [(2, "not_csv")]),
        ('address,unit\n"a"b@example.com,head\n', [(2, "not_csv")]),
        ('address,unit,mailbox\na@example.com,head,"x\ny"\nb,head,\n', [(2, "bad_mailbox"), (4, "bad_address")]),
        ("address\n" + "x\n" * 500, [(line, "bad_address") for line in range(2, 102)]),
    ],
)
async def test_files_that_are_none(repository: Repository, text: str, expected: list[tuple[int, str]]) -> None:
    assert errors(await load(repository, text)) == expected


@pytest.mark.parametrize("sign", [";", "\t"])
async def test_what_spreadsheets_of_other_countries_write(repository: Repository, sign: str) -> None:
    text = f"\ufeffaddress{sign}unit{sign}forward_to\r\n" f'ann@example.com{sign}head{sign}"a@x.org b@x.org"\r\n'
    report = await load(repository, text)
    assert report.added == ["ann@example.com"] and not report.errors
    (account,) = await repository.accounts()
    assert account.forward_to == ("a@x.org", "b@x.org")


async def test_the_one_unit_need_not_be_said(repository: Repository) -> None:
    text = "address\nann@example.com\n"
    assert errors(await load(repository, text)) == [(2, "no_unit")]
    report = await import_accounts(repository, VIEW, QuietBoard(), text, unit="head")
    assert report.added == ["ann@example.com"]
    report = await import_accounts(repository, VIEW, QuietBoard(), text, unit="branch")
    assert report.unchanged == 1  # whoever is there already stays where they are


async def test_aliases_in_the_way(repository: Repository) -> None:
    await load(repository, "".join(export_accounts(ROWS)))
    report = await import_aliases(repository, VIEW, "address,targets\nhana@example.com,a@b.example\nx@example.com,\n")
    assert errors(report) == [(2, "taken"), (3, "no_targets")]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.builds(
            replace,
            st.just(ROWS[0]),
            mailbox=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=10),
            password=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=10),
        ),
        max_size=3,
    )
)
def test_any_cell_survives(rows: list[Account]) -> None:
    import csv
    import io

    lines = list(csv.reader(io.StringIO("".join(export_accounts(rows)), newline=""), strict=True))
    assert [(line[4], line[5]) for line in lines[1:]] == [(row.mailbox, row.password) for row in rows]


@pytest.mark.slow
async def test_20_000_lines(repository: Repository) -> None:
    text = "".join(export_accounts(account(f"user{i}@example.com", "a@b.example") for i in range(20_000)))
    start = time.process_time()
    report = await load(repository, text)
    assert len(report.added) == 20_000
    assert time.process_time() - start < 20
