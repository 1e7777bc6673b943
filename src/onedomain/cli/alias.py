"""`onedomain alias`: addresses that lead to others, and catch-alls."""

from __future__ import annotations

from typing import Annotated

import typer

from onedomain.cli.common import AsJson, ConfigPath, console, print_json
from onedomain.cli.rows import Desk, grid, print_report, read_file, with_directory, write_file
from onedomain.cli.rows_texts import say
from onedomain.directory.exchange import ALIAS_COLUMNS, export_aliases, import_aliases
from onedomain.directory.rules import alias_key, checked_alias
from onedomain.model.account import Alias

app = typer.Typer(no_args_is_help=True, help=say("alias_help"))

Address = Annotated[str, typer.Argument(metavar="ADDRESS")]
File = Annotated[str, typer.Argument(metavar="FILE", help=say("file_arg"))]


@app.command(help=say("alias_add_help"))
def add(
    config: ConfigPath,
    address: Address,
    targets: Annotated[list[str], typer.Argument(metavar="TARGET...")],
    json: AsJson = False,
) -> None:
    async def action(desk: Desk) -> Alias:
        alias = checked_alias(desk.view, Alias(address, tuple(targets)))
        async with desk.repository.writing() as writer:
            await writer.add_alias(alias)
        return alias

    made = with_directory(config, action)
    if json:
        print_json(_plain(made))
    else:
        console.print(f"{made.address} -> {' '.join(made.targets)}", markup=False, soft_wrap=True)


@app.command("list", help=say("list_help"))
def list_(
    config: ConfigPath,
    matching: Annotated[str, typer.Argument(metavar="[PART]", help=say("matching_arg"))] = "",
    limit: Annotated[int, typer.Option(min=1, help=say("limit_arg"))] = 1000,
    json: AsJson = False,
) -> None:
    aliases = with_directory(config, lambda desk: desk.repository.aliases(matching=matching))
    if json:
        print_json(list(map(_plain, aliases)))
    elif not aliases:
        console.print(say("none"))
    else:
        console.print(grid(["address", "targets"], ([row.address, " ".join(row.targets)] for row in aliases[:limit])))
        if len(aliases) > limit:
            console.print(say("more", count=len(aliases) - limit))


@app.command(help=say("remove_help"))
def remove(config: ConfigPath, address: Address, json: AsJson = False) -> None:
    async def action(desk: Desk) -> str:
        key = alias_key(desk.view, address)
        async with desk.repository.writing() as writer:
            await writer.remove_alias(key)
        return key

    key = with_directory(config, action)
    if json:
        print_json({"removed": key})
    else:
        console.print(say("removed_alias", address=key), markup=False)


@app.command("import", help=say("import_help", columns=", ".join(ALIAS_COLUMNS)))
def import_(
    config: ConfigPath,
    file: File,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=say("dry_arg"))] = False,
    json: AsJson = False,
) -> None:
    text = read_file(file)
    report = with_directory(config, lambda desk: import_aliases(desk.repository, desk.view, text, dry_run=dry_run))
    print_report(report, dry_run=dry_run, json=json)


@app.command(help=say("export_help"))
def export(config: ConfigPath, file: File = "-", json: AsJson = False) -> None:
    aliases = with_directory(config, lambda desk: desk.repository.aliases())
    if json:
        print_json(list(map(_plain, aliases)))
    else:
        write_file(file, export_aliases(aliases), len(aliases))


def _plain(alias: Alias) -> dict[str, object]:
    return {"address": alias.address, "targets": list(alias.targets)}
