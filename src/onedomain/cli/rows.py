"""What the verbs on the directory share: the database of the configuration, opened for one action, and files of rows.

Works whether an edge runs or not; running ones hear of changes from the database. Errors end the program with words
that say what to do next: status 1 for the request, 2 for the configuration, 3 for a database that is away.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import typer
from rich.markup import escape
from rich.table import Table

from onedomain.app.real import RealClock
from onedomain.cli.common import configuration, console, errors, fail, print_json
from onedomain.cli.rows_texts import say
from onedomain.config import Config
from onedomain.directory.book import Book
from onedomain.directory.delta import Delta
from onedomain.directory.exchange import Report
from onedomain.directory.repository import Conflict, Repository
from onedomain.directory.rules import RowError
from onedomain.model.ports import Clock
from onedomain.store.sql import AWAY, Database, DatabaseError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Desk:
    """`view` knows domains, units and servers (with the operator's drains), and no accounts."""

    config: Config
    repository: Repository
    view: Book
    database: Database
    clock: Clock


def with_directory(path: Path, action: Callable[[Desk], Awaitable[T]]) -> T:
    """The result of `action` on the directory of the configuration at `path`."""
    config = configuration(path)
    try:
        return asyncio.run(_run(config, action))
    except Conflict as conflict:
        fail(say(conflict.reason, value=conflict.key))
    except RowError as error:
        fail(say(error.key, **error.fields))
    except DatabaseError as error:
        fail(say("database", why=error), 3)
    except AWAY as error:
        fail(say("away", why=str(error).split("\n")[0] or type(error).__name__), 3)


async def _run(config: Config, action: Callable[[Desk], Awaitable[T]]) -> T:
    if (file := config.database_file) is not None and file.parent == config.state:
        config.state.mkdir(mode=0o700, parents=True, exist_ok=True)  # people may be named before anything has run
    database = await Database.open(config.database_url)
    try:
        clock = RealClock()
        repository = Repository(database, clock)
        view = Book(config.domains, config.units, config.servers)
        view.apply(Delta(0, draining=await repository.draining()))
        return await action(Desk(config, repository, view, database, clock))
    finally:
        await database.close()


def grid(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """`heads` are keys of the texts about rows."""
    return plain_grid([say(head) for head in heads], rows)


def plain_grid(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    made = Table(*heads, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        made.add_row(*(escape(str(cell)) for cell in row))
    return made


def yes(value: bool) -> str:
    return say("yes" if value else "no")


def read_file(path: str) -> str:
    """The text of a file, or of standard input for "-"."""
    try:
        raw = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        fail(say("not_utf8", path=path), 2)
    except OSError as error:
        fail(say("no_file", path=path, why=error.strerror or error), 2)


def write_file(path: str, lines: Iterable[str], count: int) -> None:
    """To a file that only its owner may read, since hashes may be in it; or to standard output for "-"."""
    if path == "-":
        sys.stdout.buffer.writelines(line.encode() for line in lines)
        sys.stdout.flush()
        return
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.writelines(line.encode() for line in lines)
    except OSError as error:
        fail(say("no_file", path=path, why=error.strerror or error), 2)
    console.print(say("exported", count=count, path=path), markup=False)


def print_report(report: Report, *, dry_run: bool, json: bool) -> None:
    """What an import did; status 1 if lines were wrong."""
    wrong = [{"line": line, "error": say(error.key, **error.fields)} for line, error in report.errors]
    if json:
        print_json({"added": report.added, "changed": report.changed, "unchanged": report.unchanged,
                    "errors": wrong, "written": not wrong and not dry_run})  # fmt: skip
    elif wrong:
        for row in wrong:
            errors.print(say("at_line", line=row["line"], why=row["error"]), markup=False, soft_wrap=True)
    else:
        numbers = {"added": len(report.added), "changed": len(report.changed), "unchanged": report.unchanged}
        console.print(say("imported", **numbers))
        if dry_run:
            console.print(say("would"))
    if wrong and not json:
        errors.print(say("not_imported", count=len(wrong)))
    if wrong:
        raise typer.Exit(1)
