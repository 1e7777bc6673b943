"""`onedomain link`: how far behind each account's second copy is, and what an operator can do about it."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from onedomain.cli.common import AsJson, ConfigPath, ask_edge, console, duration, fail, print_json, table
from onedomain.cli.texts import say

app = typer.Typer(no_args_is_help=True, help=say("link_help"))

Account = Annotated[str, typer.Argument(metavar="ACCOUNT")]
COLOURS = {"whole": "green", "first copy": "blue", "behind": "yellow", "stopped": "red"}


@app.command("list", help=say("link_list_help"))
def list_(
    config: ConfigPath,
    json: AsJson = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help=say("limit_help"))] = 100,
    troubled: Annotated[bool, typer.Option("--troubled", help=say("troubled_help"))] = False,
) -> None:
    links: list[dict[str, Any]] = ask_edge(config, "link_list", limit=limit, troubled=troubled)
    if json:
        print_json(links)
        return
    if not links:
        console.print(say("no_links"))
        return
    console.print(table(
        ["account", "source", "target", "phase", "lag", "uncovered", "for", "braked", "refused_messages", "why"],
        ([each["account"], each["source"], each["target"], _phase(each), duration(each["lag"]),
          each["uncovered"], duration(each["uncovered_for"]), _braked(each), each["refused"] or "",
          each["reason"]]
         for each in links),
    ))  # fmt: skip


@app.command(help=say("link_show_help"))
def show(config: ConfigPath, account: Account, json: AsJson = False) -> None:
    link: dict[str, Any] | None = ask_edge(config, "link_show", account=account)
    if link is None:
        fail(say("no_link", account=account))
    if json:
        print_json(link)
        return
    for key, value in link.items():
        if key not in ("folders", "alerts"):
            console.print(f"{key:14} {'' if value is None else value}", markup=False)
    for text in link["alerts"]:
        console.print(f"! {text}", markup=False)
    console.print(table(
        ["source", "target", "messages", "uids", "refused_messages", "braked"],
        ([each["source"], each["target"], each["messages"], each["uids"], " ".join(map(str, each["refused"])),
          "!" if each["braked"] else ""] for each in link["folders"]),
    ))  # fmt: skip


@app.command(help=say("link_compare_help"))
def compare(
    config: ConfigPath,
    account: Account,
    octets: Annotated[bool, typer.Option("--bytes", help=say("compare_bytes_help"))] = False,
    all_: Annotated[bool, typer.Option("--all", help=say("compare_all_help"))] = False,
    json: AsJson = False,
) -> None:
    found: dict[str, Any] = ask_edge(config, "link_compare", account=account, octets=octets, all=all_)
    if json:
        print_json(found)
    else:
        if found["lines"]:
            console.print(table(
                ["mailbox", "uid", "uid_there", "verdict", "why"],
                ([name, uid or "", there or "", verdict, detail]
                 for name, uid, there, verdict, detail in found["lines"]),
            ))  # fmt: skip
        counts = ", ".join(f"{count} {verdict}" for verdict, count in found["counts"].items()) or "0"
        console.print(say("compared", account=account, source=found["source"], target=found["target"], counts=counts),
                      markup=False)  # fmt: skip
    if set(found["counts"]) - {"same", "refused"}:
        raise typer.Exit(1)


@app.command(help=say("link_retry_help"))
def retry(config: ConfigPath, account: Account, json: AsJson = False) -> None:
    _act(config, "retry", account, json)


@app.command(help=say("link_accept_help"))
def accept(config: ConfigPath, account: Account, json: AsJson = False) -> None:
    _act(config, "accept", account, json)


def _act(config: Any, action: str, account: str, json: bool) -> None:
    done: bool = ask_edge(config, f"link_{action}", account=account)
    if not done:
        fail(say("no_link", account=account))
    if json:
        print_json({"account": account, "action": action})
    else:
        console.print(say("link_retried" if action == "retry" else "link_accepted", account=account), markup=False)


def _braked(link: dict[str, Any]) -> str:
    names = " ".join(link["braked"])
    return f"{names} ({say('accepted')})" if link.get("accepted") else names


def _phase(link: dict[str, Any]) -> Text:
    phase: str = link["phase"]
    left = f", {say('n_to_go', count=link['to_go'])}" if link.get("to_go") else ""
    return Text(phase + left, COLOURS.get(phase, ""))
