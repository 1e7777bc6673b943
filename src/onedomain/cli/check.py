"""`onedomain check`: everything that would go wrong, before it goes live."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

import typer

from onedomain.app.check import Check, Finding, Weight
from onedomain.cli.common import AsJson, ConfigPath, configuration, console, print_json
from onedomain.cli.texts import say
from onedomain.config import Config
from onedomain.control.link import LinkError, ask

SIGNS = {Weight.OK: ("ok", "green"), Weight.WARNING: ("warning", "yellow"), Weight.ERROR: ("error", "red")}


def check(
    config: ConfigPath,
    file_only: Annotated[bool, typer.Option("--file-only", help=say("check_file_help"))] = False,
    json: AsJson = False,
) -> None:
    settings = configuration(config)
    if file_only:
        # Before a start: servers that are down are no reason not to take mail for them.
        findings = [Finding(Weight.WARNING, problem) for problem in settings.warnings]
        for finding in [] if json else findings:
            _show(finding)
    else:
        findings = asyncio.run(_find(settings, quiet=json))
    errors = sum(finding.weight is Weight.ERROR for finding in findings)
    warnings = sum(finding.weight is Weight.WARNING for finding in findings)
    if json:
        print_json([_plain(finding) for finding in findings])
    else:
        console.print(say("checked", errors=errors, warnings=warnings))
    if errors:
        raise typer.Exit(1)


async def _find(config: Config, *, quiet: bool) -> list[Finding]:
    """Shown as they come: a server that doesn't answer takes its time."""
    found = []
    async for finding in Check(config, ports=not await _is_running(config)).run():
        found.append(finding)
        if not quiet:
            _show(finding)
    return found


def _show(finding: Finding) -> None:
    sign, colour = SIGNS[finding.weight]
    console.print(f"[{colour}]{sign:8}[/]", end="")
    console.print(str(finding.problem), markup=False, soft_wrap=True)


async def _is_running(config: Config) -> bool:
    try:
        await ask(str(config.control), "status", timeout=5)
    except (OSError, LinkError):
        return False
    return True


def _plain(finding: Finding) -> dict[str, Any]:
    return {"weight": finding.weight.value, "where": finding.problem.path,
            **{key: value for key, value in asdict(finding.problem).items() if key != "place"}}
