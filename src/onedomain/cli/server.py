"""`onedomain server`: the mail servers behind the edges, as the running edge sees them."""

from __future__ import annotations

from typing import Any

import typer

from onedomain.cli import move as moving
from onedomain.cli import promote as promoting
from onedomain.cli.common import AsJson, ConfigPath, ask_edge, configuration, console, print_json, table
from onedomain.cli.move_texts import say as say_move
from onedomain.cli.status import server_row
from onedomain.cli.texts import say

app = typer.Typer(no_args_is_help=True, help=say("server_help"))
app.command("promote", help=say("promote_help"))(promoting.promote)
app.command("drain", help=say_move("drain_help"))(moving.drain)
app.command("return", help=say_move("return_help"))(moving.return_)


@app.command("list", help=say("server_list_help"))
def list_(config: ConfigPath, json: AsJson = False) -> None:
    servers: list[dict[str, Any]] = ask_edge(config, "status")["servers"]
    if json:
        print_json(servers)
        return
    console.print(table(
        ["server", "kind", "verdict", "since", "answers", "in_flight", "waiting", "accounts", "why"],
        map(server_row, servers),
    ))


@app.command(help=say("server_show_help"))
def show(config: ConfigPath, name: str, json: AsJson = False) -> None:
    """From the file alone, so it works while nothing runs. No passwords."""
    found = next((server for server in configuration(config).servers if server.name == name), None)
    if found is None:
        known = ", ".join(server.name for server in configuration(config).servers)
        console.print(say("no_server", name=name, known=known), markup=False)
        raise typer.Exit(1)
    shown = {
        "name": found.name, "kind": found.kind, "class": found.class_.value, "imap": str(found.imap),
        "imap_tls": found.imap.tls.value, "delivery": str(found.delivery), "delivery_tls": found.delivery.tls.value,
        "delivery_protocol": found.delivery_protocol, "queue_time": found.queue_time,
        "login": found.login_way.value, "user": found.master_user,
        "replication": found.replication_user,
        "uidl_format": found.uidl_format, "max_deliveries": found.max_deliveries, "weight": found.weight,
        "probe_accounts": list(found.probe_accounts),
    }
    if json:
        print_json(shown)
    else:
        for key, value in shown.items():
            console.print(f"{key:18} {value}", markup=False)
