"""`onedomain node`: run the built-in mail server, check what it keeps, make its accounts.

Knows arguments and output. Does not know how a node works. Accounts are made in the node's directory itself, whether
the node runs or not.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import uvloop

from onedomain.app.descriptors import raise_limit
from onedomain.app.real import RealClock
from onedomain.cli.node_texts import TEXTS, say
from onedomain.config.texts import TEXTS as CONFIG_TEXTS
from onedomain.config.texts import say as say_config
from onedomain.directory import credentials
from onedomain.model.address import AddressError, parse_address
from onedomain.net.tls import CertificateError
from onedomain.node.passwords import HashedPasswords
from onedomain.node.server import Node
from onedomain.node.services import account_name
from onedomain.node.settings import BadSettings, NodeSettings, load
from onedomain.node.store import accounts
from onedomain.node.store.schema import WrongVersion, open_for_writing
from onedomain.node.store.store import InUse
from onedomain.node.store.verify import verify
from onedomain.node.store.writer import Transaction
from onedomain.trace.recorder import Recorder

app = typer.Typer(help=say("node_help"), no_args_is_help=True)
account_app = typer.Typer(help=say("account_help"), no_args_is_help=True)
app.add_typer(account_app, name="account")

ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help=say("config_arg"))]
Data = Annotated[Path | None, typer.Option("--data", help=say("data_arg"))]
AsJson = Annotated[bool, typer.Option("--json", help=say("json_arg"))]


@app.command(help=say("run_help"))
def run(
    config: ConfigFile = None,
    data: Data = None,
    name: Annotated[str | None, typer.Option(help=say("name_arg"))] = None,
    lmtp: Annotated[list[str] | None, typer.Option(help=say("lmtp_arg"))] = None,
    imap: Annotated[list[str] | None, typer.Option(help=say("imap_arg"))] = None,
    imaps: Annotated[list[str] | None, typer.Option(help=say("imaps_arg"))] = None,
    certificate: Annotated[Path | None, typer.Option(help=say("certificate_arg"))] = None,
    key: Annotated[Path | None, typer.Option(help=say("key_arg"))] = None,
    proxy_user: Annotated[str | None, typer.Option(help=say("proxy_arg"))] = None,
    autocreate: Annotated[bool | None, typer.Option(help=say("autocreate_arg"))] = None,
    domain: Annotated[list[str] | None, typer.Option(help=say("domain_arg"))] = None,
) -> None:
    settings = _settings(
        config, data, name=name, lmtp=lmtp, imap=imap, imaps=imaps, certificate=certificate, key=key,
        proxy_user=proxy_user, autocreate=autocreate, domains=domain,
    )  # fmt: skip

    raise_limit()

    async def serve() -> None:
        trace = Recorder(settings.data / "log", "node", edge=settings.name, clock=RealClock())
        trace.bind(asyncio.get_running_loop())
        try:
            node = await Node.start(settings, clock=RealClock(), trace=trace, passwords=HashedPasswords())
            for protocol, places in node.addresses.items():
                for host, port in places:
                    print(f"{protocol} {host}:{port}", flush=True)
            await node.serve()
        finally:
            trace.close()

    try:
        uvloop.run(serve())
    except (InUse, WrongVersion, CertificateError, OSError, sqlite3.Error) as error:
        _fail(str(error))


@app.command(help=say("check_help"))
def check(config: ConfigFile = None, data: Data = None, as_json: AsJson = False) -> None:
    settings = _settings(config, data)
    try:
        report = verify(settings.data)
    except (OSError, sqlite3.Error) as error:
        _fail(f"{settings.data}: {error}")
    if as_json:
        print(json.dumps({**asdict(report), "clean": report.is_clean}, ensure_ascii=False))
    else:
        for finding in report.findings:
            print(f"{finding.rule}: {finding.what}")
        numbers = {"accounts": report.accounts, "folders": report.folders, "messages": report.messages,
                   "bytes": report.bytes}
        print(say("sound" if report.is_clean else "unsound", **numbers, count=len(report.findings)))
    raise typer.Exit(0 if report.is_clean else 1)


@account_app.command("add", help=say("add_help"))
def add(
    address: str,
    config: ConfigFile = None,
    data: Data = None,
    password_stdin: Annotated[bool, typer.Option(help=say("stdin_arg"))] = False,
    no_password: Annotated[bool, typer.Option(help=say("none_arg"))] = False,
    as_json: AsJson = False,
) -> None:
    settings = _settings(config, data)
    try:
        name = account_name(str(parse_address(address)))
    except AddressError as error:
        _fail(say("bad_address", address=address, why=error))
    hashed = "" if no_password else credentials.make(_ask_password(password_stdin))

    def work(tx: Transaction) -> None:
        account = accounts.create(tx, name, int(RealClock().time()), hashed)
        if hashed:
            accounts.set_password(tx, account.id, hashed)

    _change(settings, work)
    if as_json:
        print(json.dumps({"account": name, "password": bool(hashed)}, ensure_ascii=False))
    else:
        print(say("added" if hashed else "added_without", name=name))


@account_app.command("list", help=say("list_help"))
def list_accounts(config: ConfigFile = None, data: Data = None, as_json: AsJson = False) -> None:
    db = _open(_settings(config, data))
    names = [account.name for account in accounts.everyone(db)]
    db.close()
    print(json.dumps(names, ensure_ascii=False) if as_json else "\n".join(names))


def _ask_password(from_stdin: bool) -> str:
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = typer.prompt(say("password"), hide_input=True, confirmation_prompt=True)
    return password or _fail(say("empty"))


def _settings(config: Path | None, data: Path | None, **given: object) -> NodeSettings:
    try:
        return load(config, data=data, **given)
    except BadSettings as error:
        _fail("\n".join(_faults(error, config)), 2)


def _faults(error: BadSettings, config: Path | None) -> Iterator[str]:
    if not error.faults:
        yield str(error)
    for fault in error.faults:
        if fault.kind in TEXTS:
            text = say(fault.kind, **fault.fields)
        elif fault.kind in CONFIG_TEXTS:
            text = say_config(fault.kind, **fault.fields)
        else:
            text = fault.text
        yield f"{config or say('command_line')}: {fault.place or say('settings')}: {text}"


def _open(settings: NodeSettings) -> sqlite3.Connection:
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open_for_writing(settings.data)
    except (WrongVersion, OSError, sqlite3.Error) as error:
        _fail(f"{settings.data}: {error}")


def _change(settings: NodeSettings, work: Any) -> None:
    """In a transaction of our own: SQLite keeps it apart from those of a running node."""
    db = _open(settings)
    try:
        db.execute("BEGIN IMMEDIATE")
        work(Transaction(db, ()))
        db.execute("COMMIT")
    except sqlite3.Error as error:
        _fail(f"{settings.data}: {error}")
    finally:
        db.close()


def _fail(text: str, status: int = 1) -> NoReturn:
    print(f"onedomain node: {text}", file=sys.stderr)
    raise typer.Exit(status)
