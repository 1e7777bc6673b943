"""`onedomain unit`: departments and sites, as the configuration has them, with what the directory knows of them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from onedomain.cli.common import AsJson, ConfigPath, console, fail, print_json
from onedomain.cli.rows import Desk, grid, with_directory, yes
from onedomain.cli.rows_texts import say

app = typer.Typer(no_args_is_help=True, help=say("unit_help"))


async def _units(desk: Desk) -> list[dict[str, Any]]:
    counts = await desk.repository.count()
    return [
        {
            "unit": unit.name,
            "level": unit.level.value,
            "strict": unit.strict,
            "accounts": sum(number for (name, _), number in counts.items() if name == unit.name),
            "servers": [
                {
                    "server": server.name,
                    "accounts": counts.get((unit.name, server.name), 0),
                    "draining": server.draining,
                }
                for server in desk.view.servers()
                if not unit.servers or server.name in unit.servers or (unit.name, server.name) in counts
            ],
        }
        for unit in desk.config.units
    ]


@app.command("list", help=say("list_help"))
def list_(config: ConfigPath, json: AsJson = False) -> None:
    units = with_directory(config, _units)
    if json:
        print_json(units)
        return
    rows = (
        [unit["unit"], unit["accounts"], " ".join(row["server"] for row in unit["servers"]), unit["level"],
         yes(unit["strict"])]
        for unit in units
    )  # fmt: skip
    console.print(grid(["unit", "accounts", "servers", "level", "strict"], rows))


@app.command(help=say("show_help"))
def show(config: ConfigPath, name: Annotated[str, typer.Argument(metavar="UNIT")], json: AsJson = False) -> None:
    found = next((unit for unit in with_directory(config, _units) if unit["unit"] == name), None)
    if found is None:
        fail(say("unknown_unit", value=name))
    if json:
        print_json(found)
        return
    for key in ("unit", "accounts", "level"):
        console.print(f"{say(key)}: {found[key]}", markup=False)
    console.print(f"{say('strict')}: {yes(found['strict'])}", markup=False)
    rows = ([row["server"], row["accounts"], yes(row["draining"])] for row in found["servers"])
    console.print(grid(["server", "accounts", "draining"], rows))
