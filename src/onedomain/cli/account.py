"""`onedomain account`: people's mailboxes in the directory."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Annotated, Any

import typer

from onedomain.cli import move as moving
from onedomain.cli.board import ask_board
from onedomain.cli.common import AsJson, ConfigPath, console, fail, print_json
from onedomain.cli.move_texts import say as say_move
from onedomain.cli.rows import Desk, grid, print_report, read_file, with_directory, write_file, yes
from onedomain.cli.rows_texts import say
from onedomain.decision.placement import place, place_replicas
from onedomain.directory.credentials import DEFAULT, CredentialError, check, make
from onedomain.directory.exchange import ACCOUNT_COLUMNS, Report, export_accounts, import_accounts
from onedomain.directory.repository import Conflict
from onedomain.directory.rules import RowError, account_key, checked_account
from onedomain.model.account import Account, Home
from onedomain.model.failure import Failure

app = typer.Typer(no_args_is_help=True, help=say("account_help"))
app.command("move", help=say_move("move_help"))(moving.move)
app.command("moves", help=say_move("moves_help"))(moving.moves)
app.command("move-cancel", help=say_move("cancel_help"))(moving.cancel)
app.command("drop", help=say_move("drop_help"))(moving.drop)
app.command("report", help=say_move("report_help"))(moving.report)

Address = Annotated[str, typer.Argument(metavar="ADDRESS")]
Unit = Annotated[str, typer.Option(help=say("unit_arg"))]
Server = Annotated[str, typer.Option(help=say("server_arg"))]
Replicas = Annotated[list[str] | None, typer.Option("--replica", help=say("replica_arg"))]
Mailbox = Annotated[str | None, typer.Option(help=say("mailbox_arg"))]
Forward = Annotated[list[str] | None, typer.Option("--forward", help=say("forward_arg"))]
Keep = Annotated[bool | None, typer.Option("--keep-copy/--no-keep-copy", help=say("keep_arg"))]
Enabled = Annotated[bool | None, typer.Option("--enabled/--disabled", help=say("enabled_arg"))]
Scheme = Annotated[str, typer.Option(help=say("scheme_arg"))]
File = Annotated[str, typer.Argument(metavar="FILE", help=say("file_arg"))]


@app.command(help=say("add_help"))
def add(
    config: ConfigPath,
    address: Address,
    unit: Unit = "",
    server: Server = "",
    replicas: Replicas = None,
    mailbox: Mailbox = None,
    forward: Forward = None,
    keep_copy: Keep = None,
    password: Annotated[bool, typer.Option("--password", help=say("ask_arg"))] = False,
    json: AsJson = False,
) -> None:
    stored = _made(_asked(), DEFAULT) if password else ""

    async def action(desk: Desk) -> Account:
        units = desk.config.units
        if not unit and len(units) > 1:
            raise RowError("which_unit", names=", ".join(known.name for known in units))
        name = unit or units[0].name
        account = Account(
            address=address,
            unit=name,
            home=await _placed(desk, name, server, replicas),
            mailbox=mailbox or "",
            password=stored,
            forward_to=_forwards(forward) or (),
            keep_copy=keep_copy is not False,
        )
        async with desk.repository.writing() as writer:
            return await writer.add_account(checked_account(desk.view, account))

    made = with_directory(config, action)
    if json:
        print_json(_plain(made))
    else:
        console.print(say("added", address=made.address, server=made.home.primary), markup=False)


@app.command("list", help=say("list_help"))
def list_(
    config: ConfigPath,
    matching: Annotated[str, typer.Argument(metavar="[PART]", help=say("matching_arg"))] = "",
    unit: Unit = "",
    server: Server = "",
    limit: Annotated[int, typer.Option(min=1, help=say("limit_arg"))] = 1000,
    json: AsJson = False,
) -> None:
    async def action(desk: Desk) -> list[Account]:
        return await desk.repository.accounts(unit=unit, server=server, matching=matching)

    accounts = with_directory(config, action)
    if json:
        print_json([_plain(account) for account in accounts])
    elif not accounts:
        console.print(say("none"))
    else:
        heads = ["address", "unit", "server", "replicas", "forward_to", "password", "enabled"]
        console.print(grid(heads, map(_row, accounts[:limit])))
        if len(accounts) > limit:
            console.print(say("more", count=len(accounts) - limit))


@app.command(help=say("show_help"))
def show(config: ConfigPath, address: Address, json: AsJson = False) -> None:
    async def action(desk: Desk) -> tuple[Account, list[str]]:
        key = account_key(desk.view, address)
        account = await desk.repository.account(key)
        if account is None:
            raise Conflict(key, "missing")
        return account, [alias.address for alias in await desk.repository.aliases_to(key)]

    account, aliases = with_directory(config, action)
    plain = {**_plain(account), "aliases": aliases}
    if json:
        print_json(plain)
        return
    cells = {
        "address": account.address,
        "unit": account.unit,
        "server": account.home.primary,
        "replicas": " ".join(account.home.replicas),
        "epoch": account.home.epoch,
        "mailbox": account.mailbox_name,
        "password": plain["password"] or say("home_decides"),
        "forward_to": " ".join(account.forward_to),
        "keep_copy": yes(account.keep_copy),
        "enabled": yes(account.enabled),
        "aliases": " ".join(aliases),
    }
    for key, value in cells.items():
        console.print(f"{say(key)}: {value}", markup=False, soft_wrap=True)


@app.command("set", help=say("set_help"))
def set_(
    config: ConfigPath,
    address: Address,
    unit: Unit = "",
    server: Server = "",
    replicas: Replicas = None,
    mailbox: Mailbox = None,
    forward: Forward = None,
    keep_copy: Keep = None,
    enabled: Enabled = None,
    json: AsJson = False,
) -> None:
    forwards = _forwards(forward)
    wanted: dict[str, Any] = {
        "unit": unit or None, "mailbox": mailbox, "forward_to": forwards, "keep_copy": keep_copy, "enabled": enabled,
    }  # fmt: skip
    changes = {name: value for name, value in wanted.items() if value is not None}
    if not changes and not server and replicas is None:
        fail(say("nothing"), 2)

    async def action(desk: Desk) -> tuple[Account, Account]:
        key = account_key(desk.view, address)
        async with desk.repository.writing() as writer:
            before = await writer.account(key)
            if before is None:
                raise Conflict(key, "missing")
            home = replace(before.home, primary=server or before.home.primary)
            if replicas is not None:
                home = replace(home, replicas=tuple(filter(None, replicas)))
            after = replace(before, home=home, **changes)
            return before, await writer.set_account(checked_account(desk.view, after))

    before, after = with_directory(config, action)
    if json:
        print_json(_plain(after))
    else:
        console.print(say("unchanged" if before == after else "changed", address=after.address), markup=False)


@app.command(help=say("password_help"))
def password(
    config: ConfigPath,
    address: Address,
    scheme: Scheme = DEFAULT,
    hashed: Annotated[bool, typer.Option("--hash", help=say("hash_arg"))] = False,
    remove: Annotated[bool, typer.Option("--remove", help=say("no_password_arg"))] = False,
    json: AsJson = False,
) -> None:
    stored = "" if remove else _made(_asked(twice=not hashed), "" if hashed else scheme.upper())

    async def action(desk: Desk) -> Account:
        key = account_key(desk.view, address)
        async with desk.repository.writing() as writer:
            before = await writer.account(key)
            if before is None:
                raise Conflict(key, "missing")
            return await writer.set_account(replace(before, password=stored))

    account = with_directory(config, action)
    if json:
        print_json(_plain(account))
    else:
        console.print(say("password_gone" if remove else "password_set", address=account.address), markup=False)


@app.command(help=say("remove_help"))
def remove(
    config: ConfigPath,
    address: Address,
    sure: Annotated[bool, typer.Option("--yes", "-y", help=say("yes_arg"))] = False,
    json: AsJson = False,
) -> None:
    if not sure and sys.stdin.isatty():
        typer.confirm(say("sure", address=address), abort=True)

    async def action(desk: Desk) -> Account:
        async with desk.repository.writing() as writer:
            return await writer.remove_account(account_key(desk.view, address))

    account = with_directory(config, action)
    if json:
        print_json({"removed": account.address})
    else:
        console.print(say("removed", address=account.address, server=account.home.primary), markup=False)


@app.command("import", help=say("import_help", columns=", ".join(ACCOUNT_COLUMNS)))
def import_(
    config: ConfigPath,
    file: File,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=say("dry_arg"))] = False,
    json: AsJson = False,
) -> None:
    text = read_file(file)

    async def action(desk: Desk) -> Report:
        units = desk.config.units
        return await import_accounts(desk.repository, desk.view, await ask_board(desk.config), text, dry_run=dry_run,
                                     unit=units[0].name if len(units) == 1 else "")

    report = with_directory(config, action)
    print_report(report, dry_run=dry_run, json=json)


@app.command(help=say("export_help"))
def export(
    config: ConfigPath,
    file: File = "-",
    passwords: Annotated[bool, typer.Option("--passwords/--no-passwords", help=say("hashes_arg"))] = True,
    json: AsJson = False,
) -> None:
    accounts = with_directory(config, lambda desk: desk.repository.accounts())
    if json:
        print_json([_plain(account) for account in accounts])
    else:
        write_file(file, export_accounts(accounts, passwords=passwords), len(accounts))


async def _placed(desk: Desk, unit: str, server: str, replicas: list[str] | None) -> Home:
    """What was not said is the unit's choice; an empty name among the replicas means none."""
    known = desk.view.unit(unit)
    if known is None:
        raise RowError("unknown_unit", value=unit)
    numbers: dict[str, int] = {}
    for (_, name), count in (await desk.repository.count()).items():
        numbers[name] = numbers.get(name, 0) + count
    if not server:
        chosen = place(desk.view, known, await ask_board(desk.config), numbers)
        if isinstance(chosen, Failure):
            raise RowError("no_place", value=unit)
        server = chosen.name
    if replicas is None:
        return Home(server, place_replicas(desk.view, known, server, numbers))
    return Home(server, tuple(filter(None, replicas)))


def _asked(twice: bool = True) -> str:
    """From the terminal, unseen, or the first line of standard input; never from the arguments, which `ps` shows."""
    if sys.stdin.isatty():
        typed: str = typer.prompt(say("new_password"), hide_input=True, confirmation_prompt=twice)
    else:
        typed = sys.stdin.readline().removesuffix("\n").removesuffix("\r")
    if not typed:
        fail(say("no_password"), 2)
    return typed


def _made(typed: str, scheme: str) -> str:
    """What is stored; `scheme` "" means that a hash was typed."""
    try:
        if scheme:
            return make(typed, scheme)
        check(typed)
    except CredentialError as error:
        fail(say("bad_credential", why=error), 2)
    return typed


def _forwards(given: list[str] | None) -> tuple[str, ...] | None:
    return None if given is None else tuple(filter(None, given))


def _plain(account: Account) -> dict[str, Any]:
    """For JSON; of the password only how it is kept."""
    return {
        "address": account.address,
        "unit": account.unit,
        "primary": account.home.primary,
        "replicas": list(account.home.replicas),
        "epoch": account.home.epoch,
        "mailbox": account.mailbox,
        "password": _kept(account.password),
        "forward_to": list(account.forward_to),
        "keep_copy": account.keep_copy,
        "enabled": account.enabled,
    }


def _kept(stored: str) -> str:
    if stored.startswith("{"):
        return stored[1:].partition("}")[0].upper()
    return stored.split("$")[1] if stored.startswith("$") else ""


def _row(account: Account) -> list[str]:
    return [
        account.address,
        account.unit,
        account.home.primary,
        " ".join(account.home.replicas),
        " ".join(account.forward_to),
        _kept(account.password) or say("home_decides"),
        yes(account.enabled),
    ]
