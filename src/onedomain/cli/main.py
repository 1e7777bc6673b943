"""The command `onedomain`: finds the verb's file beside this one, and imports that one only.

A node or an edge then starts in half the time: the database's library alone takes a second of it.
"""

from __future__ import annotations

import importlib
import io
import json as jsons
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from onedomain import __version__
from onedomain.cli.texts import say

VERBS = {
    "init": "init", "check": "check", "run": "run", "status": "status", "trace": "trace", "account": "account",
    "alias": "alias", "unit": "unit", "server": "server", "queue": "queue", "link": "link", "aside": "aside",
    "reload": "status", "node": "node", "demo": "demo", "drill": "drill", "version": "main",
}
"""Verb -> module. A module's `app` holds verbs of its own; else the verb is its function of that name."""


class Verbs(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | TyperGroup | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"onedomain.cli.{VERBS[cmd_name]}")
        found: TyperCommand | TyperGroup
        if cmd_name == "version" or not hasattr(module, "app"):
            lone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            lone.command(cmd_name, help=say(f"{cmd_name}_help"))(getattr(module, cmd_name))
            found = typer.main.get_command(lone)  # type: ignore[assignment]
        else:
            found = typer.main.get_group(module.app)
        found.name = cmd_name
        return found


app = typer.Typer(name="onedomain", cls=Verbs, help=say("help"), no_args_is_help=True, add_completion=False,
                  pretty_exceptions_enable=False)


@app.callback()
def _verbs() -> None:
    pass


def version(json: Annotated[bool, typer.Option("--json", help=say("json_help"))] = False) -> None:
    print(jsons.dumps({"version": __version__}) if json else __version__)


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # folders of old servers have names that are no UTF-8
    app()


if __name__ == "__main__":
    main()
