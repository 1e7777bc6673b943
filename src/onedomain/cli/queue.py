"""`onedomain queue`: what is waiting at this edge, and what to do with it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from onedomain.cli.common import AsJson, ConfigPath, ask_edge, console, duration, fail, print_json, size, table
from onedomain.cli.texts import say

app = typer.Typer(no_args_is_help=True, help=say("queue_help"))

ACT_SECONDS = 610.0  # a million messages take minutes

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID...")]
All = Annotated[bool, typer.Option("--all", help=say("all_help"))]


@app.command("list", help=say("queue_list_help"))
def list_(
    config: ConfigPath,
    json: AsJson = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help=say("limit_help"))] = 100,
    address: Annotated[str, typer.Option(help=say("address_help"))] = "",
    net: Annotated[bool, typer.Option("--net", help=say("net_help"))] = False,
) -> None:
    entries: list[dict[str, Any]] = ask_edge(config, "queue_list", limit=limit, address=address, net=net)
    if json:
        print_json(entries)
        return
    if not entries:
        console.print(say("empty"))
        return
    console.print(table(
        ["id", "age", "size", "sender", "recipient", "state", "attempts", "next", "why"],
        ([entry["id"] if first else "", duration(entry["age"]) if first else "", size(entry["size"]) if first else "",
          (entry["sender"] or "<>") if first else "", target["address"],
          "held" if entry["held"] else target["state"], target["attempts"], duration(target.get("next_in")),
          target.get("reason", "")]
         for entry in entries for first, target in _marked(entry["targets"])),
    ))


def _marked(targets: list[dict[str, Any]]) -> list[tuple[bool, dict[str, Any]]]:
    return [(index == 0, target) for index, target in enumerate(targets)]


@app.command(help=say("queue_show_help"))
def show(config: ConfigPath, queue_id: Annotated[str, typer.Argument(metavar="ID")], json: AsJson = False) -> None:
    entry = ask_edge(config, "queue_show", queue_id=queue_id)
    if entry is None:
        fail(say("no_such", id=queue_id))
    if json:
        print_json(entry)
        return
    for key, value in entry.items():
        if key != "targets":
            console.print(f"{key:12} {value}", markup=False)
    console.print(table(
        ["recipient", "server", "state", "attempts", "next", "why"],
        ([target["address"], target.get("server", ""), target["state"], target["attempts"],
          duration(target.get("next_in")), target.get("reason", "")] for target in entry["targets"]),
    ))


def _act(config: Any, action: str, ids: list[str] | None, every: bool, json: bool) -> None:
    if not ids and not every:
        fail(say("which"), 2)
    done: list[str] = ask_edge(config, "queue_act", timeout=ACT_SECONDS, action=action, ids=None if every else ids)
    missing = [] if every else [one for one in ids or [] if one not in done]
    if json:
        print_json({"action": action, "done": done, "missing": missing})
    else:
        console.print(say("done", count=len(done), action=action))
        for one in missing:
            console.print(say("no_such", id=one), markup=False)
    if missing:
        raise typer.Exit(1)


@app.command(help=say("queue_retry_help"))
def retry(config: ConfigPath, ids: Ids = None, every: All = False, json: AsJson = False) -> None:
    _act(config, "retry", ids, every, json)


@app.command(help=say("queue_hold_help"))
def hold(config: ConfigPath, ids: Ids = None, every: All = False, json: AsJson = False) -> None:
    _act(config, "hold", ids, every, json)


@app.command(help=say("queue_release_help"))
def release(config: ConfigPath, ids: Ids = None, every: All = False, json: AsJson = False) -> None:
    _act(config, "release", ids, every, json)


@app.command(help=say("queue_delete_help"))
def delete(config: ConfigPath, ids: Ids = None, every: All = False, json: AsJson = False) -> None:
    _act(config, "delete", ids, every, json)
