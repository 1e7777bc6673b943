"""`onedomain status`: which server is at fault?"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import typer
from rich.console import Group
from rich.text import Text

from onedomain.cli.common import AsJson, ConfigPath, ask_edge, console, duration, print_json, table
from onedomain.cli.texts import say

COLOURS = {"up": "green", "slow": "yellow", "draining": "blue", "refusing": "red", "silent": "red"}


def status(config: ConfigPath, json: AsJson = False) -> None:
    answer: dict[str, Any] = ask_edge(config, "status")
    if json:
        print_json(answer)
    else:
        console.print(render(answer))
    if any(server["verdict"] in ("refusing", "silent") for server in answer["servers"]):
        raise typer.Exit(1)


def render(answer: dict[str, Any]) -> Group:
    """Two tables: edges (this one and its peers), and servers as this edge sees them."""
    edges = table(
        ["edge", "up_for", "workers", "sessions", "queue", "oldest", "directory", "why"],
        (edge_row(edge) for edge in [answer, *answer["peers"]]),
    )
    servers = table(
        ["server", "kind", "verdict", "since", "answers", "in_flight", "waiting", "accounts", "why"],
        (server_row(server) for server in answer["servers"]),
    )
    differ = [Text(say("differs", **each), "red") for each in answer.get("differences", ())]
    rescued: Counter[tuple[str, str]] = Counter()
    for each in (one for edge in [answer, *answer["peers"]] for one in edge.get("rescued", ())):
        rescued[each["from"], each["to"]] += each["messages"]
    links, moved = replicas(answer.get("links", {})), failovers(answer.get("failover") or {}, rescued)
    return Group(edges, *differ, "", servers, *links, *moved)


def replicas(links: dict[str, Any]) -> list[Any]:
    """Pairs of servers between which links run; none may, right after a failover."""
    if links.get("error"):
        return ["", Text(links["error"], "red")]
    if not links.get("pairs"):
        return []
    heads = ["source", "target", "accounts", "whole", "first_copy", "stopped", "lag", "uncovered", "for", "why"]
    return ["", table(heads, map(pair_row, links["pairs"]))]


def failovers(answer: dict[str, Any], rescued: Mapping[tuple[str, str], int] | None = None) -> list[Any]:
    """The last ones, and why a dead server's people do not go on at their replicas. `rescued`: what safety nets put
    onto the one server because the other had died, of the last day as `recent` is; told with the last failover.
    """
    parts: list[Any] = [Text(say("f_waits", **each), "red") for each in answer.get("waits", ())]
    if answer.get("recent"):
        now, left = time.time(), dict(rescued or {})
        recent = [{**each, "rescued": left.pop((each["from"], each["to"]), 0)} for each in answer["recent"]]
        parts += ["", table(
            ["f_from", "f_to", "accounts", "f_settled", "f_returned", "f_seconds", "f_at", "why"],
            ([each["from"], each["to"], each["accounts"], _with(each, "settled", "renumbered", "rescued"),
              _with(each, "returned", "added", "aside"), duration(each["seconds"]), duration(now - each["at"]),
              each["cause"]] for each in recent),
        )]  # fmt: skip
    return parts


def _with(failover: dict[str, Any], what: str, *notes: str) -> str:
    """A number of accounts, and what became of them. Older edges do not say it."""
    said = "; ".join(say(f"f_{key}", count=failover[key]) for key in notes if failover.get(key))
    return f"{failover[what]} ({said})" if said else str(failover[what])


def pair_row(pair: dict[str, Any]) -> list[object]:
    """One pair of servers between which links run."""
    notes = [say(f"n_{key}", count=pair[key]) for key in ("to_go", "braked", "refused")
             if pair.get(key)]
    notes += [f"{each['accounts']}: {each['reason']}" for each in pair["reasons"]]
    stopped = Text(str(pair["stopped"]), "red") if pair["stopped"] else 0
    return [pair["source"], pair["target"], pair["accounts"], pair["whole"], pair["first_copy"], stopped,
            duration(pair["lag"]), pair["uncovered"], duration(pair["uncovered_for"]), "; ".join(notes)]


def edge_row(edge: dict[str, Any]) -> list[object]:
    if "error" in edge:
        return [edge["edge"], "", "", "", "", "", "", Text(edge["error"], "red")]
    directory = edge["directory"]
    known = f"{directory['accounts']} {say('accounts')}"
    if directory["source"] == "snapshot":
        known += f" ({say('snapshot', age=duration(directory['age']))})"
    queue = edge["queue"]
    waiting = str(queue["messages"])
    if queue.get("net"):
        waiting += f" ({queue['net']} {say('in_net')})"
    return [edge["edge"], duration(edge["uptime"]), len(edge["workers"]), sum(edge["sessions"].values()),
            waiting, duration(queue["oldest"]) if queue["messages"] else "", known,
            Text("; ".join(edge_troubles(edge)), "red")]


def edge_troubles(edge: dict[str, Any]) -> list[str]:
    """What of an edge itself needs a person. Older edges do not say all of it."""
    directory, troubles = edge["directory"], list(edge["queue"]["trouble"])
    if directory.get("trouble"):
        key = "no_directory" if directory["source"] == "nothing" else "directory_away"
        troubles.append(say(key, why=directory["trouble"]))
    troubles += [say(f"untold_{each['way']}", why=each["reason"]) for each in edge.get("alerts_untold", ())]
    troubles += [say("silent_worker", slot=slot) for slot in edge.get("silent", ())]
    return troubles


def server_row(server: dict[str, Any]) -> list[object]:
    verdict = Text(server["verdict"], COLOURS.get(server["verdict"], ""))
    return [server["name"], server["kind"], verdict, duration(server["since"]),
            duration(server["seconds"]), server["in_flight"], server["waiting"], server["accounts"], server["reason"]]


def reload(config: ConfigPath, json: AsJson = False) -> None:
    answer: dict[str, Any] = ask_edge(config, "reload")
    if json:
        print_json(answer)
        return
    console.print(say("reloaded"))
    if answer["restart_needed"]:
        console.print(say("restart_needed", what=", ".join(answer["restart_needed"])), markup=False)
