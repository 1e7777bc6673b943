"""`onedomain trace`: where is my mail?"""

from __future__ import annotations

import datetime
from typing import Annotated, Any

import typer

from onedomain.cli.common import AsJson, ConfigPath, ask_edge, console, print_json
from onedomain.cli.texts import say

HIDDEN = {"time", "edge", "process", "event", "queue_id", "server"}


def trace(
    config: ConfigPath,
    needle: Annotated[str, typer.Argument(metavar="MESSAGE-ID|ADDRESS|QUEUE-ID")],
    json: AsJson = False,
) -> None:
    answer: dict[str, Any] = ask_edge(config, "trace", needle=needle)
    if json:
        print_json(answer)
    else:
        _show(answer, needle)
    if not answer["events"]:
        raise typer.Exit(1)


def _show(answer: dict[str, Any], needle: str) -> None:
    for edge, why in answer["unreachable"].items():
        console.print(say("unreachable", edge=edge, why=why), markup=False, style="yellow")
    if not answer["events"]:
        console.print(say("nothing_known", needle=needle, edges=", ".join(answer["edges"])), markup=False)
        return
    for event in answer["events"]:
        # One line each, however long: people grep it and paste it into mails.
        words = (_time(event["time"]), event["edge"], event.get("queue_id", "-"), event["event"].replace(" ", "-"),
                 event.get("server", "-"), _details(event))
        console.print(*words, markup=False, soft_wrap=True)
    if answer["cut"]:
        console.print(say("cut", count=len(answer["events"])))


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "milliseconds")


def _details(event: dict[str, Any]) -> str:
    return " ".join(f"{key}={_plain(value)}" for key, value in event.items() if key not in HIDDEN)


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
