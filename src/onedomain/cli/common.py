"""What every verb needs: the configuration, a running edge to ask, and output as a table or JSON.

Knows terminals and exit codes: 0 done, 1 the answer is bad news, 2 wrong use or configuration, 3 nobody to ask.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from onedomain.cli.texts import say
from onedomain.config import Config, ConfigErrors, load
from onedomain.control.link import LinkError, ask

DEFAULT = Path("onedomain.toml")
INSTALLED = Path("/etc/onedomain/onedomain.toml")

ConfigPath = Annotated[
    Path, typer.Option("--config", "-c", envvar="ONEDOMAIN_CONFIG", help=say("config_help"),
                       default_factory=lambda: DEFAULT if DEFAULT.exists() or not INSTALLED.exists() else INSTALLED)]
AsJson = Annotated[bool, typer.Option("--json", help=say("json_help"))]

# What is piped is grepped and copied from, so nothing of it is cut off to fit.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 10_000)
errors = Console(stderr=True, highlight=False)


def configuration(path: Path) -> Config:
    """The file's meaning, or every problem in it on stderr and exit status 2."""
    try:
        return load(path)
    except ConfigErrors as problems:
        errors.print(str(problems), markup=False, soft_wrap=True)
        raise typer.Exit(2) from None


def fail(text: str, status: int = 1) -> NoReturn:
    errors.print(f"onedomain: {text}", markup=False, soft_wrap=True)
    raise typer.Exit(status)


def ask_edge(path: Path, verb: str, *, timeout: float = 30.0, **arguments: Any) -> Any:
    """The running edge's answer to one verb."""
    config = configuration(path)
    try:
        return asyncio.run(ask(str(config.control), verb, timeout=timeout, **arguments))
    except LinkError as error:
        fail(say("refused", why=error))
    except OSError as error:
        fail(say("not_running", path=config.control, why=error.strerror or error, config=path), 3)


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2))


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> Table:
    """`heads` are keys of the texts."""
    made = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for head in heads:
        # An id is typed into the next command: others give way to it.
        made.add_column(say(head), overflow="fold", no_wrap=head == "id")
    for row in rows:
        # What peers chose must not be read as rich's markup; only a Text is coloured.
        made.add_row(*(cell if isinstance(cell, Text) else "" if cell is None else escape(str(cell)) for cell in row))
    return made


def duration(seconds: float | None) -> str:
    """12 ms, 3.4 s, 5 min, 2 h 10 min, 3 d 4 h."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if minutes < 60:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{days} d {hours % 24} h"


def size(octets: float) -> str:
    for unit in ("B", "kB", "MB"):
        if octets < 1000:
            return f"{octets:.0f} {unit}"
        octets /= 1000
    return f"{octets:.1f} GB"
