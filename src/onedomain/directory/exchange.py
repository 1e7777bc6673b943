"""The directory as CSV, out and in: spreadsheets, other systems, a copy to keep.

Accounts: address, unit, primary, replicas, mailbox, password, forward_to, keep_copy, enabled, epoch.
Aliases: address, targets.

A first line names the columns, in any order. Only `address` (`targets`, and `unit` for new accounts) must be there.
A column that is not there leaves an account as it is, or a new one with the default: the least loaded server of the
unit, no password, keep_copy and enabled yes. Several names or addresses in a cell are separated by blanks. UTF-8,
comma, quotes as RFC 4180 has them.

Knows the format and how a file becomes one change, all or nothing. Does not know files, nor the words for people.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from onedomain.decision.placement import place, place_replicas
from onedomain.directory.repository import Repository, next_home
from onedomain.directory.rules import RowError, account_key, alias_key, checked_account, checked_alias, words
from onedomain.model.account import Account, Alias, DirectoryView, Home, Unit
from onedomain.model.failure import Failure
from onedomain.model.health import BoardView

ACCOUNT_COLUMNS = (
    "address", "unit", "primary", "replicas", "mailbox", "password", "forward_to", "keep_copy", "enabled", "epoch",
)  # fmt: skip
ALIAS_COLUMNS = ("address", "targets")
MAX_ERRORS = 100
MAX_LINES = 2_000_000

Row = TypeVar("Row", Account, Alias)


@dataclass(slots=True)
class Report:
    """What an import did, or would do; with errors, nothing. `errors` are (line, RowError), at most MAX_ERRORS."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: int = 0
    errors: list[tuple[int, RowError]] = field(default_factory=list)


def export_accounts(accounts: Iterable[Account], *, passwords: bool = True) -> Iterator[str]:
    """Lines ending in CRLF."""
    yield _line(ACCOUNT_COLUMNS)
    for account in accounts:
        home = account.home
        yield _line(
            (
                account.address,
                account.unit,
                home.primary,
                " ".join(home.replicas),
                account.mailbox,
                account.password if passwords else "",
                " ".join(account.forward_to),
                "yes" if account.keep_copy else "no",
                "yes" if account.enabled else "no",
                str(home.epoch),
            )
        )


def export_aliases(aliases: Iterable[Alias]) -> Iterator[str]:
    yield _line(ALIAS_COLUMNS)
    for alias in aliases:
        yield _line((alias.address, " ".join(alias.targets)))


class _DryRun(Exception):
    pass


async def import_accounts(
    repository: Repository, view: DirectoryView, board: BoardView, text: str, *, unit: str = "", dry_run: bool = False
) -> Report:
    """Make and change the accounts of a file in one transaction. `view` knows domains, units and servers; `unit` is
    that of new accounts of which the file says none.
    """
    report = Report()
    try:
        async with repository.writing(patient=True) as writer:
            accounts, aliases, gone = await writer.everything()
            numbers = Counter(account.home.primary for account in accounts.values())

            def read(cells: Mapping[str, str]) -> Account:
                key = account_key(view, cells["address"])
                if key in aliases:
                    raise RowError("taken", value=key)
                account = _account({**cells, "unit": cells.get("unit") or ("" if key in accounts else unit)}, key,
                                   accounts.get(key), view, board, numbers)
                if key in accounts:
                    return replace(account, home=next_home(accounts[key].home, account.home))
                epoch = max(account.home.epoch, gone.get(key, 0) + 1)
                return replace(account, home=replace(account.home, epoch=epoch))

            rows = _read(text, ACCOUNT_COLUMNS, ("address",), read, report)
            wanted = _compare(rows, accounts, report)
            await writer.put_many(accounts=wanted)
            await writer.keep_links((accounts[row.address], row) for row in wanted if row.address in accounts)
            if dry_run or report.errors:
                raise _DryRun
    except _DryRun:
        pass
    return report


async def import_aliases(repository: Repository, view: DirectoryView, text: str, *, dry_run: bool = False) -> Report:
    """Make and change the aliases of a file in one transaction."""
    report = Report()
    try:
        async with repository.writing(patient=True) as writer:
            accounts, aliases, _ = await writer.everything()

            def read(cells: Mapping[str, str]) -> Alias:
                key = alias_key(view, cells["address"])
                if key in accounts:
                    raise RowError("taken", value=key)
                return checked_alias(view, Alias(key, words(cells["targets"])))

            rows = _read(text, ALIAS_COLUMNS, ALIAS_COLUMNS, read, report)
            await writer.put_many(aliases=_compare(rows, aliases, report))
            if dry_run or report.errors:
                raise _DryRun
    except _DryRun:
        pass
    return report


def _line(cells: Iterable[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(cells)
    return buffer.getvalue()


def _read(
    text: str,
    columns: tuple[str, ...],
    required: tuple[str, ...],
    make: Callable[[Mapping[str, str]], Row],
    report: Report,
) -> list[Row]:
    """The rows of a file; what is wrong goes to the report."""
    text = text.removeprefix("\ufeff")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    found: dict[str, tuple[int, Row]] = {}
    heads: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            line, here = reader.line_num + 1, line
            if not any(cell.strip() for cell in cells):
                continue
            try:
                if heads is None:
                    heads = _heads(cells, columns, required)
                    continue
                if len(cells) != len(heads):
                    raise RowError("cells", value=str(len(cells)), expected=str(len(heads)))
                row = make({head: _cell(head, cell) for head, cell in zip(heads, cells, strict=True)})
                if row.address in found:
                    raise RowError("line_twice", value=row.address, other=str(found[row.address][0]))
                found[row.address] = here, row
            except RowError as error:
                report.errors.append((here, error))
                if heads is None or len(report.errors) >= MAX_ERRORS:
                    return []
    except csv.Error as error:
        report.errors.append((line, RowError("not_csv", why=str(error))))
    if heads is None and not report.errors:
        report.errors.append((1, RowError("no_heads", value=", ".join(required))))
    return [row for _, row in found.values()]


def _delimiter(text: str) -> str:
    """Spreadsheets write what their country has for a list: a comma, a semicolon where that is the decimal sign, or a
    tab. No name of a column has any of them.
    """
    heads = next((line for line in text.splitlines() if line.strip()), "")
    return next((sign for sign in ",;\t" if sign in heads), ",")


def _heads(cells: list[str], columns: tuple[str, ...], required: tuple[str, ...]) -> list[str]:
    heads = [cell.strip().lower() for cell in cells]
    for head in heads:
        if head not in columns:
            raise RowError("unknown_column", value=head, names=", ".join(columns))
        if heads.count(head) > 1:
            raise RowError("column_twice", value=head)
    if missing := [name for name in required if name not in heads]:
        raise RowError("no_heads", value=", ".join(missing))
    return heads


def _compare(rows: list[Row], before: Mapping[str, Row], report: Report) -> list[Row]:
    """Those that are to be written."""
    wanted = []
    for row in rows:
        old = before.get(row.address)
        if old == row:
            report.unchanged += 1
            continue
        (report.added if old is None else report.changed).append(row.address)
        wanted.append(row)
    return wanted


def _account(
    cells: Mapping[str, str],
    key: str,
    old: Account | None,
    view: DirectoryView,
    board: BoardView,
    numbers: Counter[str],
) -> Account:
    unit = cells.get("unit") or (old.unit if old else "")
    if not unit:
        raise RowError("no_unit", value=key)
    if (known := view.unit(unit)) is None:
        raise RowError("unknown_unit", value=unit)
    home = old.home if old else Home("", (), _epoch(cells.get("epoch") or "1"))
    home = replace(home, primary=cells.get("primary") or home.primary or _placed(view, known, board, numbers))
    if "replicas" in cells:
        home = replace(home, replicas=words(cells["replicas"]))
    elif old is None:
        home = replace(home, replicas=place_replicas(view, known, home.primary, numbers))
    fresh = old or Account(key, unit, home)
    return checked_account(
        view,
        Account(
            address=key,
            unit=unit,
            home=home,
            mailbox=cells.get("mailbox", fresh.mailbox),
            password=cells.get("password", fresh.password),
            forward_to=words(cells["forward_to"]) if "forward_to" in cells else fresh.forward_to,
            keep_copy=_yes(cells.get("keep_copy", ""), fresh.keep_copy),
            enabled=_yes(cells.get("enabled", ""), fresh.enabled),
        ),
    )


def _placed(view: DirectoryView, unit: Unit, board: BoardView, numbers: Counter[str]) -> str:
    server = place(view, unit, board, numbers)
    if isinstance(server, Failure):
        raise RowError("no_place", value=unit.name)
    numbers[server.name] += 1
    return server.name


def _cell(head: str, cell: str) -> str:
    return cell if head in ("mailbox", "password") else cell.strip()


def _epoch(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) < 2**62:
        raise RowError("bad_epoch", value=text)
    return int(text)


def _yes(text: str, default: bool) -> bool:
    if not text:
        return default
    if text.lower() in ("yes", "true", "1", "はい"):
        return True
    if text.lower() in ("no", "false", "0", "いいえ"):
        return False
    raise RowError("bad_yes", value=text)
