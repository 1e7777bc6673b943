"""`onedomain aside`: what links have set aside, and how people get it back.

Knows tables, files and what may be asked. Does not know where an edge keeps it.
"""

from __future__ import annotations

import base64
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from onedomain.cli.aside_texts import say
from onedomain.cli.common import (
    AsJson,
    ConfigPath,
    ask_edge,
    console,
    duration,
    errors,
    fail,
    print_json,
    size,
    table,
)

app = typer.Typer(no_args_is_help=True, help=say("aside_help"))

Account = Annotated[str, typer.Argument(metavar="ACCOUNT")]
Deleted = Annotated[bool, typer.Option("--deleted", help=say("deleted_help"))]
SECONDS = 600.0


@app.command("list", help=say("list_help"))
def list_(config: ConfigPath, account: Annotated[str, typer.Argument(metavar="[ACCOUNT]")] = "",
          json: AsJson = False) -> None:
    rows: list[dict[str, Any]] = ask_edge(config, "aside_list", timeout=SECONDS, account=account)
    if json:
        print_json(rows)
        return
    for row in rows:
        if "error" in row:
            errors.print(f"{row['edge']}: {row['error']}", markup=False, soft_wrap=True)
    rows = [row for row in rows if "error" not in row]
    if not rows:
        console.print(say("nothing"))
        return
    now = time.time()
    console.print(table(
        ["edge", "kind", "number", "account", "server", "mailbox", "uid", "size", "age", "why"],
        ([row["edge"], say(row["kind"]), row["number"], row["account"], row["server"], row["folder"], row["uid"],
          size(row["size"]), duration(now - row["at"]), row["why"]] for row in rows),
    ))  # fmt: skip


@app.command(help=say("restore_help"))
def restore(
    config: ConfigPath,
    account: Account,
    deleted: Deleted = False,
    folder: Annotated[str, typer.Option(help=say("folder_help"))] = "Restored",
    json: AsJson = False,
) -> None:
    """Status 1 where the server would not take all of them."""
    if not _own(config, account, deleted):
        fail(say("nothing_of", account=account))
    done: dict[str, Any] = ask_edge(
        config, "aside_restore", timeout=SECONDS, kind=_kind(deleted), account=account, folder=folder)
    if json:
        print_json(done)
    else:
        console.print(say("restored", account=account, folder=folder, server=done["server"], added=done["added"],
                          there=done["there"]), markup=False)  # fmt: skip
    if done["refused"]:
        fail(say("restored_some", count=len(done["refused"]), why=done["refused"][0]))


@app.command(help=say("save_help"))
def save(
    config: ConfigPath,
    account: Account,
    into: Annotated[Path, typer.Argument(help=say("into_help"))],
    deleted: Deleted = False,
    json: AsJson = False,
) -> None:
    into.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(into.iterdir()):
        fail(say("not_empty", path=into))
    count = 0
    while rows := _own(config, account, deleted, count):
        for row in rows:
            count += 1
            target = into / f"{count:05d}.eml"
            with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                while file.tell() < row["size"]:
                    part = ask_edge(config, "aside_read", timeout=SECONDS, kind=row["kind"], place=row["place"],
                                    size=row["size"], offset=file.tell())
                    file.write(base64.b64decode(part["data"]))
    if not count:
        fail(say("nothing_of", account=account))
    if json:
        print_json({"account": account, "saved": count, "path": str(into)})
    else:
        console.print(say("saved", account=account, count=count, path=into), markup=False)


@app.command(help=say("forget_help"))
def forget(config: ConfigPath, account: Account, deleted: Deleted = False, json: AsJson = False) -> None:
    count: int = ask_edge(config, "aside_forget", timeout=SECONDS, kind=_kind(deleted), account=account)
    if not count:
        fail(say("nothing_of", account=account))
    if json:
        print_json({"account": account, "forgotten": count})
    else:
        console.print(say("forgotten", account=account, count=count), markup=False)


def _kind(deleted: bool) -> str:
    return "deleted" if deleted else "refused"


def _own(config: Path, account: str, deleted: bool, after: int = 0) -> list[dict[str, Any]]:
    """Of this edge alone, as many as it tells at once."""
    rows: list[dict[str, Any]] = ask_edge(
        config, "aside_page", timeout=SECONDS, kind=_kind(deleted), account=account, after=after)
    return rows
