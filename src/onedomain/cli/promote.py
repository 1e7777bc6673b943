"""`onedomain server promote`: replicas become primaries because a person says so.

Knows what may be asked. Does not know what a promotion does (replica/failover).
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from onedomain.cli.common import AsJson, ConfigPath, ask_edge, console, errors, print_json
from onedomain.cli.texts import say


def promote(
    config: ConfigPath,
    name: Annotated[str, typer.Argument(metavar="[SERVER]")] = "",
    accounts: Annotated[list[str] | None, typer.Option("--account", help=say("promote_account_help"))] = None,
    to: Annotated[str, typer.Option("--to", help=say("promote_to_help"))] = "",
    force: Annotated[bool, typer.Option("--force", help=say("promote_force_help"))] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=say("dry_help"))] = False,
    json: AsJson = False,
) -> None:
    """Status 1 if not all go on."""
    # With accounts named the server only says which of them are meant.
    server = "" if accounts else name
    answers: list[dict[str, Any]] = ask_edge(
        config, "promote", server=server, accounts=accounts or [], to=to, force=force, dry=dry_run)
    refused = [each for each in answers if each["reason"]]
    if json:
        print_json({"written": not dry_run, "accounts": answers})
    else:
        for each in refused:
            errors.print(f"{each['account']}: {each['reason']}", markup=False, soft_wrap=True)
        if not answers:
            console.print(say("nobody_there"))
        else:
            key = "would_promote" if dry_run else "promoted_count"
            console.print(say(key, count=len(answers) - len(refused), left=len(refused)))
    if refused or not answers:
        raise typer.Exit(1)
