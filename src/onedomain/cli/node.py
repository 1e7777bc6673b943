"""`onedomain node`: run the built-in mail server, check what it keeps, make its accounts.

Knows arguments and output. Does not know how a node works. Accounts are made in the node's directory itself, whether
the node runs or not.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import uvloop

from onedomain.app.descriptors import raise_limit
from onedomain.app.real import RealClock
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

app = typer.Typer(help="The built-in mail server.", no_args_is_help=True)
account_app = typer.Typer(help="Accounts of a node.", no_args_is_help=True)
app.add_typer(account_app, name="account")

ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="TOML file with the node's settings.")]
Data = Annotated[Path | None, typer.Option("--data", help="Directory that the node keeps everything in.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer as JSON.")]


@app.command()
def run(
    config: ConfigFile = None,
    data: Data = None,
    name: Annotated[str | None, typer.Option(help="How the node calls itself.")] = None,
    lmtp: Annotated[list[str] | None, typer.Option(help="address:port for LMTP; may be repeated.")] = None,
    imap: Annotated[list[str] | None, typer.Option(help="address:port for IMAP; may be repeated.")] = None,
    imaps: Annotated[list[str] | None, typer.Option(help="address:port for IMAP over TLS; may be repeated.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="PEM file of the certificate chain.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM file of its key.")] = None,
    proxy_user: Annotated[str | None, typer.Option(help="Who may log in as anybody (SASL PLAIN authzid).")] = None,
    autocreate: Annotated[bool | None, typer.Option(help="Make accounts when mail or the proxy user asks.")] = None,
    domain: Annotated[list[str] | None, typer.Option(help="Domain that --autocreate applies to.")] = None,
) -> None:
    """Serve until SIGTERM."""
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


@app.command()
def check(config: ConfigFile = None, data: Data = None, as_json: AsJson = False) -> None:
    """Verify everything that is kept, bodies included. Status 1 if anything is wrong."""
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
        print(
            f"{report.accounts} accounts, {report.folders} folders, {report.messages} messages,"
            f" {report.bytes} bytes: {'nothing wrong' if report.is_clean else f'{len(report.findings)} findings'}"
        )
    raise typer.Exit(0 if report.is_clean else 1)


@account_app.command("add")
def add(
    address: str,
    config: ConfigFile = None,
    data: Data = None,
    password_stdin: Annotated[bool, typer.Option(help="Read the password from standard input.")] = False,
    no_password: Annotated[bool, typer.Option(help="Only the proxy user gets in.")] = False,
) -> None:
    """Make an account, or give the one that is there another password."""
    settings = _settings(config, data)
    try:
        name = account_name(str(parse_address(address)))
    except AddressError as error:
        _fail(f"{address}: {error}")
    hashed = "" if no_password else credentials.make(_ask_password(password_stdin))

    def work(tx: Transaction) -> None:
        account = accounts.create(tx, name, int(RealClock().time()), hashed)
        if hashed:
            accounts.set_password(tx, account.id, hashed)

    _change(settings, work)


@account_app.command("list")
def list_accounts(config: ConfigFile = None, data: Data = None, as_json: AsJson = False) -> None:
    """All accounts."""
    db = _open(_settings(config, data))
    names = [account.name for account in accounts.everyone(db)]
    db.close()
    print(json.dumps(names, ensure_ascii=False) if as_json else "\n".join(names))


def _ask_password(from_stdin: bool) -> str:
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return password or _fail("the password is empty")


def _settings(config: Path | None, data: Path | None, **given: object) -> NodeSettings:
    try:
        return load(config, data=data, **given)
    except BadSettings as error:
        _fail(str(error), 2)


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
